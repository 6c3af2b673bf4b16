package sampling

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
)

// goldenModels makes the models that the golden files name.
func goldenModels() map[string]*Model {
	return map[string]*Model{
		"sd15":            NewDiscrete(EPS, false),
		"vpred_zsnr":      NewDiscrete(VPrediction, true),
		"edm_playground":  NewContinuousEDM(EDM, 0.002, 80, 0.5),
		"edm_default":     NewContinuousEDM(EDM, 0.002, 120, 1),
		"vpred_edm_cosxl": NewContinuousEDM(VPrediction, 0.002, 120, 1),
		"sd3":             NewDiscreteFlow(3, 1000),
		"flux_dev":        NewFlux(1.15),
		"flux_schnell":    NewDiscreteFlow(1, 1),
		"vcont":           NewContinuousV(0.002, 120),
	}
}

type sigmasGolden struct {
	Models []struct {
		Model    string
		Count    int
		SigmaMin float32            `json:"sigma_min"`
		SigmaMax float32            `json:"sigma_max"`
		Samples  map[string]float32 `json:"table_samples"`
		SHA256   string             `json:"table_sha256"`
		Timestep [][2]float32       `json:"timestep_of_sigma"`
		Sigma    [][2]float32       `json:"sigma_of_timestep"`
	}
	Percent []struct {
		Model  string
		Sigmas [][2]float64 `json:"percent_to_sigma"`
	}
	Sched []struct {
		Model, Scheduler string
		Steps            int
		Sigmas           []num
	}
	KSampler []struct {
		Model, Scheduler, Sampler string
		Steps                     int
		Denoise                   float64
		Sigmas                    []num
	}
	Nodes []struct {
		Class   string `json:"class_type"`
		Inputs  json.RawMessage
		Outputs json.RawMessage
	}
}

const sigmaTolerance = 2e-6

func TestModelTables(t *testing.T) {
	var g sigmasGolden
	goldenJSON(t, "sigmas.json", &g)
	models := goldenModels()
	if len(g.Models) != len(models) {
		t.Fatalf("%d models, want %d", len(g.Models), len(models))
	}
	for _, c := range g.Models {
		t.Run(c.Model, func(t *testing.T) {
			m := models[c.Model]
			if len(m.sigmas) != c.Count {
				t.Fatalf("%d sigmas, want %d", len(m.sigmas), c.Count)
			}
			exact := digest(m.sigmas) == c.SHA256
			t.Logf("table bit for bit: %t", exact)
			if trained := slices.Contains([]string{"sd15", "vpred_zsnr", "sd3", "flux_schnell"}, c.Model); trained && !exact {
				t.Error("the table has other bits")
			}
			var got, want []float32
			for k, v := range c.Samples {
				i, err := strconv.Atoi(k)
				if err != nil {
					t.Fatal(err)
				}
				got, want = append(got, m.sigmas[i]), append(want, v)
			}
			got, want = append(got, m.SigmaMin(), m.SigmaMax()), append(want, c.SigmaMin, c.SigmaMax)
			for _, p := range c.Timestep {
				got, want = append(got, m.Timestep(p[0])), append(want, p[1])
			}
			for _, p := range c.Sigma {
				got, want = append(got, m.Sigma(p[0])), append(want, p[1])
			}
			e := relative(got, want)
			if e > sigmaTolerance {
				t.Errorf("off by %.2g:\n got %v\nwant %v", e, got, want)
			}
			t.Logf("worst relative difference %.2g", e)
		})
	}
}

func TestPercentToSigma(t *testing.T) {
	var g sigmasGolden
	goldenJSON(t, "sigmas.json", &g)
	models := goldenModels()
	for _, c := range g.Percent {
		for _, p := range c.Sigmas {
			got := models[c.Model].PercentToSigma(p[0])
			if math.Abs(got-p[1]) > sigmaTolerance*p[1] {
				t.Errorf("%s: %g is %.9g, want %.9g", c.Model, p[0], got, p[1])
			}
		}
	}
}

func TestSchedule(t *testing.T) {
	var g sigmasGolden
	goldenJSON(t, "sigmas.json", &g)
	models, worst := goldenModels(), map[string]float64{}
	for _, c := range g.Sched {
		got, err := Schedule(models[c.Model], c.Scheduler, c.Steps)
		if err != nil {
			t.Error(err)
			continue
		}
		want := floats(c.Sigmas)
		e := relative(got, want)
		worst[c.Scheduler] = max(worst[c.Scheduler], e)
		if e > sigmaTolerance {
			t.Errorf("%s %s %d: off by %.2g:\n got %v\nwant %v", c.Model, c.Scheduler, c.Steps, e, got, want)
		}
	}
	for _, name := range Schedulers() {
		t.Logf("%-17s worst relative difference %.2g", name, worst[name])
	}
	if len(worst) != len(Schedulers()) {
		t.Errorf("%d schedulers compared, want %d", len(worst), len(Schedulers()))
	}
}

func TestSigmasOfKSampler(t *testing.T) {
	var g sigmasGolden
	goldenJSON(t, "sigmas.json", &g)
	models, worst := goldenModels(), 0.0
	for _, c := range g.KSampler {
		got, err := Sigmas(models[c.Model], Plan{
			Sampler: c.Sampler, Scheduler: c.Scheduler, Steps: c.Steps, Denoise: c.Denoise, EndStep: -1,
		})
		if err != nil {
			t.Error(err)
			continue
		}
		e := relative(got, floats(c.Sigmas))
		if worst = max(worst, e); e > sigmaTolerance {
			t.Errorf("%s %s %s %d %g: off by %.2g:\n got %v\nwant %v", c.Model, c.Scheduler, c.Sampler, c.Steps, c.Denoise, e, got, c.Sigmas)
		}
	}
	t.Logf("worst relative difference %.2g", worst)
}

func TestSigmasStartAndEnd(t *testing.T) {
	m := NewDiscrete(EPS, false)
	all, err := Schedule(m, "normal", 4)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		start, end int
		force      bool
		want       []float32
	}{
		{0, -1, true, all},
		{0, 4, true, all},
		{0, 10000, true, all},
		{1, 10000, true, all[1:]},
		{0, 2, false, all[:3]},
		{0, 2, true, []float32{all[0], all[1], 0}},
		{1, 3, false, all[1:4]},
		{2, 2, false, nil},
		{4, -1, false, nil},
		{0, 0, false, nil},
	}
	for _, c := range tests {
		got, err := Sigmas(m, Plan{"euler", "normal", 4, 1, c.start, c.end, c.force})
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%d to %d, force %t: %v %v, want %v", c.start, c.end, c.force, got, err, c.want)
		}
	}
}

// What no node can ask for must not panic either.
func TestSchedulesOfNothing(t *testing.T) {
	m := NewDiscrete(EPS, false)
	for _, n := range []int{-1, 0} {
		Karras(n, .1, 10, 7)
		Exponential(n, .1, 10)
		Polyexponential(n, .1, 10, 1)
		Laplace{.1, 10, 0, .5}.Schedule(n)
		VP(n, 19.9, .1, .001)
		Beta(m, max(n, 0), .6, .6)
		SDTurbo(m, n, 2)
		if got := AlignYourSteps("SD1", n, 1); got != nil {
			t.Errorf("%d aligned steps: %v", n, got)
		}
		if got := (Extension{n, 1, 0, Linear}).Extend(nil); len(got) != 0 {
			t.Errorf("nothing extended: %v", got)
		}
	}
	Split(nil, 3)
	SplitDenoise(nil, 1)
	Flip(nil)
	if got := Beta(m, 5, 0, 0); len(got) == 0 || got[len(got)-1] != 0 {
		t.Errorf("beta without parameters: %v", got)
	}
	if got := AlignYourSteps("SD9", 10, 1); got != nil {
		t.Errorf("unknown model: %v", got)
	}
}

func TestSigmasRefuses(t *testing.T) {
	m := NewDiscrete(EPS, false)
	for _, p := range []Plan{
		{Sampler: "eular", Scheduler: "normal", Steps: 4, Denoise: 1},
		{Sampler: "euler", Scheduler: "norml", Steps: 4, Denoise: 1},
		{Sampler: "euler", Scheduler: "normal", Steps: 0, Denoise: 1},
		{Sampler: "uni_pc", Scheduler: "normal", Steps: -1, Denoise: 1},
	} {
		if got, err := Sigmas(m, p); err == nil {
			t.Errorf("%+v: %v, want an error", p, got)
		}
	}
}

// nodeInputs are the inputs of all sigma nodes together.
type nodeInputs struct {
	Model, Scheduler, Spacing string
	ModelType                 string `json:"model_type"`
	Steps, Step               int
	Denoise, Alpha, Beta      float64
	SigmaMax                  float64 `json:"sigma_max"`
	SigmaMin                  float64 `json:"sigma_min"`
	Rho, Mu                   float64
	BetaD                     float64 `json:"beta_d"`
	BetaMin                   float64 `json:"beta_min"`
	Eps                       float64 `json:"eps_s"`
	Start                     float64 `json:"start_at_sigma"`
	End                       float64 `json:"end_at_sigma"`
	Sigmas                    []float32
}

func runNode(class string, m *Model, in nodeInputs) ([][]float32, error) {
	one := func(s []float32) ([][]float32, error) { return [][]float32{s}, nil }
	switch class {
	case "BasicScheduler":
		s, err := BasicSchedule(m, in.Scheduler, in.Steps, in.Denoise)
		return [][]float32{s}, err
	case "BetaSamplingScheduler":
		return one(Beta(m, in.Steps, in.Alpha, in.Beta))
	case "SDTurboScheduler":
		return one(SDTurbo(m, in.Steps, in.Denoise))
	case "KarrasScheduler":
		return one(Karras(in.Steps, in.SigmaMin, in.SigmaMax, in.Rho))
	case "ExponentialScheduler":
		return one(Exponential(in.Steps, in.SigmaMin, in.SigmaMax))
	case "PolyexponentialScheduler":
		return one(Polyexponential(in.Steps, in.SigmaMin, in.SigmaMax, in.Rho))
	case "LaplaceScheduler":
		return one(Laplace{in.SigmaMin, in.SigmaMax, in.Mu, in.Beta}.Schedule(in.Steps))
	case "VPScheduler":
		return one(VP(in.Steps, in.BetaD, in.BetaMin, in.Eps))
	case "AlignYourStepsScheduler":
		return one(AlignYourSteps(in.ModelType, in.Steps, in.Denoise))
	case "OptimalStepsScheduler":
		return one(OptimalSteps(in.ModelType, in.Steps, in.Denoise))
	case "SplitSigmas":
		high, low := Split(in.Sigmas, in.Step)
		return [][]float32{high, low}, nil
	case "SplitSigmasDenoise":
		high, low := SplitDenoise(in.Sigmas, in.Denoise)
		return [][]float32{high, low}, nil
	case "FlipSigmas":
		return one(Flip(in.Sigmas))
	case "ExtendIntermediateSigmas":
		return one(Extension{in.Steps, in.Start, in.End, Spacing(in.Spacing)}.Extend(in.Sigmas))
	}
	return nil, fmt.Errorf("no such node: %s", class)
}

func TestSigmaNodes(t *testing.T) {
	var g sigmasGolden
	goldenJSON(t, "sigmas.json", &g)
	// Nodes whose schedule is a table that is not part of this package, or which
	// need none of it.
	outside := []string{"GITSScheduler", "SetFirstSigma", "SamplingPercentToSigma"}
	models, worst := goldenModels(), map[string]float64{}
	for _, c := range g.Nodes {
		if slices.Contains(outside, c.Class) {
			continue
		}
		var in nodeInputs
		var out [][]num
		if err := json.Unmarshal(c.Inputs, &in); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(c.Outputs, &out); err != nil {
			t.Fatal(err)
		}
		got, err := runNode(c.Class, models[in.Model], in)
		if err != nil || len(got) != len(out) {
			t.Errorf("%s %s: %d lists, %v", c.Class, c.Inputs, len(got), err)
			continue
		}
		for i, want := range out {
			e := relative(got[i], floats(want))
			worst[c.Class] = max(worst[c.Class], e)
			if e > sigmaTolerance {
				t.Errorf("%s %s output %d: off by %.2g:\n got %v\nwant %v", c.Class, c.Inputs, i, e, got[i], want)
			}
		}
	}
	for class, e := range worst {
		t.Logf("%-25s worst relative difference %.2g", class, e)
	}
	if len(worst) != 14 {
		t.Errorf("%d node classes compared, want 14", len(worst))
	}
}

// TestLTX compares with the formula worked out: mu 0 leaves the levels evenly
// spaced.
func TestLTX(t *testing.T) {
	for _, c := range []struct {
		ltx  LTX
		want []float32
	}{
		{LTX{}, []float32{1, 0.75, 0.5, 0.25, 0}},
		{LTX{Stretch: true, Terminal: 0.1}, []float32{1, 0.7, 0.4, 0.1, 0}},
		{LTX{Mu: math.Log(3)}, []float32{1, 0.9, 0.75, 0.5, 0}},
	} {
		got := c.ltx.Schedule(4)
		for i, want := range c.want {
			if len(got) != len(c.want) || math.Abs(float64(got[i]-want)) > 1e-6 {
				t.Fatalf("%+v: %v, want %v", c.ltx, got, c.want)
			}
		}
	}
	if got := (LTX{}).Schedule(0); got != nil {
		t.Errorf("no steps: %v", got)
	}
	for tokens, want := range map[int]float64{1024: 0.95, 4096: 2.05, 2560: 1.5} {
		if got := TokenMu(2.05, 0.95, tokens); math.Abs(got-want) > 1e-9 {
			t.Errorf("mu of %d tokens: %g, want %g", tokens, got, want)
		}
	}
}
