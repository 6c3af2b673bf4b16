package sampling

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

type samplerRun struct {
	Key, Sampler, Model, Seed string
	Shape                     tensor.Shape
	Sigmas                    []float32
	Calls                     []float32 `json:"model_call_sigmas"`
	Latent, Mask              string
	Options                   json.RawMessage
}

// runOptions are the options of all golden runs together.
type runOptions struct {
	SChurn     float64  `json:"s_churn"`
	STMin      float64  `json:"s_tmin"`
	STMax      float64  `json:"s_tmax"`
	SNoise     *float64 `json:"s_noise"`
	Eta        *float64
	R          float64
	R1         float64 `json:"r_1"`
	R2         float64 `json:"r_2"`
	SolverType string  `json:"solver_type"`
	Order      int
	MaxOrder   int     `json:"max_order"`
	MaxStage   int     `json:"max_stage"`
	Gamma      float64 `json:"ge_gamma"`
	Predictor  *int    `json:"predictor_order"`
	Corrector  *int    `json:"corrector_order"`
	Simple     bool    `json:"simple_order_2"`
	PECE       bool    `json:"use_pece"`
	RTol       float64
}

func (r samplerRun) options(t *testing.T) Options {
	if r.Options == nil {
		return Options{}
	}
	var in runOptions
	if err := json.Unmarshal(r.Options, &in); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Eta: in.Eta, NoiseScale: in.SNoise, Churn: Churn{in.SChurn, in.STMin, in.STMax},
		Order: max(in.Order, in.MaxOrder), R: max(in.R, in.R1), R2: in.R2,
		Heun: in.SolverType == "heun", Stages: in.MaxStage, Gamma: in.Gamma,
	}
	if in.Predictor != nil {
		sa := DefaultSA()
		sa.Predictor, sa.Corrector = *in.Predictor, *in.Corrector
		sa.SimpleOrder2, sa.PECE = in.Simple, in.PECE
		o.SA = &sa
	}
	if in.RTol != 0 {
		a := DefaultAdaptive()
		a.Order, a.RTol = in.Order, in.RTol
		o.Adaptive = &a
	}
	return o
}

// toy is the denoiser of the golden runs: analytic, different for every element,
// guided with scale 2. perItem is the number of elements of a batch item.
func toy(perItem int, calls *[]float32) Denoiser {
	return func(_ context.Context, in *tensor.Tensor, sigma float32) (Denoised, error) {
		*calls = append(*calls, sigma)
		den, unc := tensor.New(in.Shape...), tensor.New(in.Shape...)
		s2 := float64(sigma) * float64(sigma)
		for i, v := range in.Data {
			x, k := float64(v), 0.2*float64(i%perItem%7-3)
			u := x / math.Sqrt(1+s2)
			c := x*0.49/(0.49+s2) + k*s2/(0.49+s2) + 0.05*u*(1-u*u/12)
			n := x*0.64/(0.64+s2) - 0.5*k*s2/(0.64+s2)
			unc.Data[i] = float32(n)
			den.Data[i] = float32(n) + (float32(c)-float32(n))*2
		}
		return Denoised{X: den, Uncond: unc}, nil
	}
}

func samplerModels() map[string]*Model {
	return map[string]*Model{
		"eps":        NewDiscrete(EPS, false),
		"vpred_zsnr": NewDiscrete(VPrediction, true),
		"sd3":        NewDiscreteFlow(3, 1000),
		"flux":       NewFlux(1.15),
	}
}

// tolerance is in units of the largest value of the state.
func tolerance(sampler string) float64 {
	switch sampler {
	case "uni_pc", "uni_pc_bh2":
		return 1e-4
	case "dpm_adaptive":
		return 1e-3
	}
	return 1e-5
}

func TestSamplers(t *testing.T) {
	var g struct{ Runs []samplerRun }
	goldenJSON(t, "samplers.json", &g)
	want := goldenTensors(t, "samplers.safetensors")
	models, worst := samplerModels(), map[string]float64{}
	for _, r := range g.Runs {
		t.Run(r.Key, func(t *testing.T) {
			e := compareRun(t, r, models[r.Model], want)
			worst[r.Sampler] = max(worst[r.Sampler], e)
		})
	}
	for _, name := range Samplers() {
		e, ok := worst[name]
		if !ok {
			t.Errorf("%s: no golden run", name)
		}
		t.Logf("%-30s worst difference %.2g of the largest value", name, e)
	}
}

// compareRun repeats a golden run and returns the worst difference of its states.
func compareRun(t *testing.T, r samplerRun, m *Model, want map[string]*tensor.Tensor) float64 {
	latent := tensor.New(r.Shape...)
	if r.Latent != "" {
		latent = want[r.Latent]
	}
	noise := Noise(r.Shape, seed(t, r.Seed), nil)
	var calls []float32
	d := toy(r.Shape[1:].Elements(), &calls)
	if r.Mask != "" {
		var err error
		inpaint := Inpaint{Model: m, Mask: want[r.Mask], Latent: latent, Noise: InpaintNoise(r.Sampler, noise, seed(t, r.Seed))}
		if d, err = inpaint.Denoiser(d); err != nil {
			t.Fatal(err)
		}
	}
	x := m.NoiseScaling(r.Sigmas[0], noise, latent, m.MaxDenoise(r.Sigmas[0]))
	start, sigmas := slices.Clone(x.Data), slices.Clone(r.Sigmas)
	var states []float32
	got, err := Sample(t.Context(), Run{
		Model: m, Sampler: r.Sampler, Options: r.options(t), Sigmas: r.Sigmas, X: x, Seed: seed(t, r.Seed),
		OnStep: func(s Step) { states = append(states, s.X.Data...) },
	}, d)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(x.Data, start) || !slices.Equal(r.Sigmas, sigmas) {
		t.Error("the run changed its inputs")
	}
	got = m.InverseNoiseScaling(FinalSigma(r.Sampler, r.Sigmas), got)
	limit := tolerance(r.Sampler)
	compareCalls(t, calls, r.Calls, limit)
	worst := distance(got.Data, want[r.Key+".final"].Data)
	if worst > limit {
		t.Errorf("final: off by %.2g: %v, want %v", worst, got.Data[:4], want[r.Key+".final"].Data[:4])
	}
	steps := want[r.Key+".steps"].Data
	if slices.Contains([]string{"ipndm", "ipndm_v", "deis"}, r.Sampler) {
		// ComfyUI reports the state at the start of the run again and again.
		states = slices.Repeat(states[:x.Shape.Elements()], len(r.Sigmas)-1)
	}
	if len(states) != len(steps) {
		t.Fatalf("%d states reported, want %d", len(states)/x.Shape.Elements(), len(steps)/x.Shape.Elements())
	}
	n := x.Shape.Elements()
	for i := 0; i < len(steps); i += n {
		e := distance(states[i:i+n], steps[i:i+n])
		if worst = max(worst, e); e > limit {
			t.Errorf("state %d: off by %.2g: %v, want %v", i/n, e, states[i:i+3], steps[i:i+3])
		}
	}
	return worst
}

// compareCalls compares the levels at which the model was asked.
func compareCalls(t *testing.T, got, want []float32, limit float64) {
	t.Helper()
	if e := relative(got, want); e > limit {
		t.Errorf("model calls: off by %.2g:\n got %v\nwant %v", e, got, want)
	}
}
