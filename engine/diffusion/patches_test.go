package diffusion

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// guided is a call of one image with the given patches.
func guided(t *testing.T, p pair, x *tensor.Tensor, patches ...Patch) *call {
	t.Helper()
	g := &guidance{}
	for _, patch := range patches {
		h, err := patch.start(g)
		if err != nil {
			t.Fatal(err)
		}
		g.hooks = append(g.hooks, h)
	}
	return &call{pair: p, guidance: g, x: x, sigma: 2, both: true}
}

// run is what the CFG guider makes of the call.
func (c *call) run(t *testing.T) []float32 {
	t.Helper()
	d, err := cfgRule{c.cfg}.combine(t.Context(), c, []*tensor.Tensor{c.cond, c.uncond})
	if err != nil {
		t.Fatal(err)
	}
	return d.X.Data
}

func column(v ...float32) *tensor.Tensor { return tensor.Of(v, 1, len(v), 1, 1) }

func near(a, b []float32, tolerance float64) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Abs(float64(x-y)) <= tolerance })
}

func TestPatches(t *testing.T) {
	x, cond, uncond := column(0, 0, 0), column(2, 0, 1), column(1, 1, 0)
	plain := []float32{4, -2, 3} // cfg 3
	tests := []struct {
		name  string
		patch Patch
		want  []float32
	}{
		{"rescale by nothing", RescaleCFG(0), plain},
		{"norm", CFGNorm(1), scaled(plain, math.Sqrt(5.0/29))},
		{"norm, stronger", CFGNorm(2), scaled(plain, 2*math.Sqrt(5.0/29))},
		// The unconditional one counts as [1 1 0] times ([2 0 1]·[1 1 0])/2 = 1.
		{"zero star", CFGZeroStar(), plain},
		{"renorm", RenormCFG(3, 1), scaled(plain, math.Sqrt(5.0/29))},
		{"renorm, long enough", RenormCFG(3, 10), plain},
		{"renorm, no limit", RenormCFG(3, 0), plain},
		{"renorm, above the begin", RenormCFG(2, 1), cond.Data},
		{"epsilon", ScaleEpsilon(2), scaled(plain, 0.5)},
		{"direction", ChangeDirection(func(d *tensor.Tensor) (*tensor.Tensor, error) {
			return tensor.Of(scaled(d.Data, 2), d.Shape...), nil
		}), []float32{7, -5, 6}},
	}
	for _, c := range tests {
		if got := guided(t, pair{cond, uncond, 3}, x, c.patch).run(t); !near(got, c.want, 1e-5) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if want := []float32{2, 0, 1}; !slices.Equal(cond.Data, want) {
		t.Errorf("a patch changed the prediction to %v", cond.Data)
	}
}

func scaled(v []float32, f float64) []float32 {
	out := slices.Clone(v)
	for i := range out {
		out[i] = float32(float64(out[i]) * f)
	}
	return out
}

func TestZeroStarProjects(t *testing.T) {
	// x-uncond is half of x-cond: the unconditional prediction counts twice.
	x, cond, uncond := column(0, 0), column(2, 4), column(1, 2)
	if got, want := guided(t, pair{cond, uncond, 3}, x, CFGZeroStar()).run(t), []float32{2, 4}; !near(got, want, 1e-5) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRescaleKeepsDeviation(t *testing.T) {
	x, cond, uncond := column(1, -2, 3, 0.5), column(2, 0, 1, 4), column(1, 1, 0, -3)
	c := guided(t, pair{cond, uncond, 7}, x, RescaleCFG(1))
	out := column(c.run(t)...)
	velocities := func(den *tensor.Tensor) []float32 {
		v := make([]float32, len(den.Data))
		for i := range v {
			v[i] = (x.Data[i]/5 - den.Data[i]) * float32(math.Sqrt(5)) / 2
		}
		return v
	}
	if got, want := deviation(velocities(out)), deviation(velocities(cond)); math.Abs(got-want) > 1e-5 {
		t.Errorf("deviation %g, want that of the conditional prediction, %g", got, want)
	}
}

// TestTCFG compares with the first right singular vector found by iteration.
func TestTCFG(t *testing.T) {
	x, cond, uncond := column(0.5, -1, 2), column(2, 0, 1), column(1, 1, -3)
	c := guided(t, pair{cond, uncond, 3}, x, TCFG())
	rows := [2][3]float64{}
	for i := range 3 {
		rows[0][i], rows[1][i] = float64(uncond.Data[i]-x.Data[i]), float64(cond.Data[i]-x.Data[i])
	}
	v := [3]float64{1, 1, 1}
	for range 200 {
		var next [3]float64
		for _, r := range rows {
			dot := r[0]*v[0] + r[1]*v[1] + r[2]*v[2]
			for i := range next {
				next[i] += dot * r[i]
			}
		}
		n := math.Hypot(math.Hypot(next[0], next[1]), next[2])
		for i := range v {
			v[i] = next[i] / n
		}
	}
	dot := rows[0][0]*v[0] + rows[0][1]*v[1] + rows[0][2]*v[2]
	want := make([]float32, 3)
	for i := range want {
		u := float64(x.Data[i]) + dot*v[i]
		want[i] = float32(u + (float64(cond.Data[i])-u)*3)
	}
	if got := c.run(t); !near(got, want, 1e-5) {
		t.Errorf("got %v, want %v", got, want)
	}
	c.pair, c.both = pair{cond, uncond, 3}, false
	if got, want := c.run(t), []float32{4, -2, 9}; !near(got, want, 1e-5) {
		t.Errorf("without the other side: %v, want %v", got, want)
	}
	dst := []float32{9, 9}
	damp(dst, []float32{1, 2}, []float32{1, 2}, []float32{1, 2})
	if !slices.Equal(dst, []float32{1, 2}) {
		t.Errorf("no scores: %v", dst)
	}
}

func TestMahiro(t *testing.T) {
	for _, c := range []struct{ cond, uncond, want float32 }{
		{2, 1, 4},  // the same direction: plain guidance, 1 + (2-1)·3
		{2, -1, 6}, // the opposite one: the scaled conditional prediction
	} {
		if got := guided(t, pair{column(c.cond), column(c.uncond), 3}, column(0), Mahiro()).run(t); !near(got, []float32{c.want}, 1e-5) {
			t.Errorf("%g and %g: %v, want %g", c.cond, c.uncond, got, c.want)
		}
	}
}

func TestPatchesActInOrder(t *testing.T) {
	m := &Model{schedule: sampling.NewDiscrete(sampling.EPS, false)}
	one := m.WithPatch(RenormCFG(3, 1))
	two, other := one.WithPatch(ScaleEpsilon(2)).WithPatch(RenormCFG(1, 1)), one.WithPatch(CFGNorm(1))
	if len(m.patches) != 0 || len(one.patches) != 1 || len(other.patches) != 2 || two.patches[1].name != "epsilon scaling 2" {
		t.Errorf("patches: %v, %v, %v, %v", m.patches, one.patches, two.patches, other.patches)
	}
	if one.patchNames() == m.patchNames() || two.patchNames() == other.patchNames() {
		t.Error("models with other patches have the same name")
	}
	// The last formula wins: above its begin there is no guidance; half of that.
	c := guided(t, pair{column(2, 0), column(1, 1), 3}, column(0, 0), two.patches...)
	if got, want := c.run(t), []float32{1, 0}; !near(got, want, 1e-6) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPatchFails(t *testing.T) {
	want := errors.New("no")
	fail := ChangeDirection(func(*tensor.Tensor) (*tensor.Tensor, error) { return nil, want })
	shrink := ChangeDirection(func(*tensor.Tensor) (*tensor.Tensor, error) { return column(1), nil })
	preds := []*tensor.Tensor{column(1, 2), column(1, 2), column(1, 2)}
	for _, r := range []rule{cfgRule{2}, perpRule{2, 1}} {
		c := guided(t, pair{}, preds[0], fail)
		if _, err := r.combine(t.Context(), c, preds); !errors.Is(err, want) {
			t.Errorf("%T: %v, want %v", r, err, want)
		}
		c = guided(t, pair{}, preds[0], shrink)
		if _, err := r.combine(t.Context(), c, preds); err == nil {
			t.Errorf("%T: no error for another shape", r)
		}
	}
}

func TestRulesNeed(t *testing.T) {
	tests := []struct {
		name string
		rule rule
		all  bool
		want []bool
	}{
		{"cfg", cfgRule{7}, false, []bool{true, true}},
		{"cfg 1", cfgRule{1}, false, []bool{true, false}},
		{"cfg 1, all", cfgRule{1}, true, []bool{true, true}},
		{"dual", dualRule{5, 2, false}, false, []bool{true, true, true}},
		{"dual, no negative", dualRule{5, 1, false}, false, []bool{true, true, false}},
		{"dual, first only", dualRule{1, 1, false}, false, []bool{true, false, false}},
		{"dual nested", dualRule{1, 1, true}, false, []bool{true, true, true}},
		{"perp neg", perpRule{5, 1}, false, []bool{true, true, true}},
		{"perp neg, no negative", perpRule{5, 0}, false, []bool{true, true, false}},
		{"perp neg, positive only", perpRule{1, 0}, false, []bool{true, false, false}},
	}
	for _, c := range tests {
		if got := c.rule.needs(c.all); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestRulesCombine(t *testing.T) {
	pos, mid, neg := column(4, 0), column(2, 1), column(1, -1)
	tests := []struct {
		name string
		rule rule
		want []float32
	}{
		{"cfg", cfgRule{2}, []float32{6, -1}},               // with mid as the negative side
		{"dual", dualRule{2, 3, false}, []float32{8, 3}},    // neg + (mid-neg)·3 + (pos-mid)·2
		{"nested", dualRule{2, 3, true}, []float32{16, -1}}, // neg + ((mid + (pos-mid)·2) - neg)·3
		// P = pos-mid = (2,-1), Q = neg-mid = (-1,-2) is perpendicular to it.
		{"perp neg", perpRule{2, 1}, []float32{8, 3}},
		{"perp neg, half", perpRule{2, 0.5}, []float32{7, 1}},
	}
	for _, c := range tests {
		got, err := c.rule.combine(t.Context(), guided(t, pair{}, column(0, 0)), []*tensor.Tensor{pos, mid, neg})
		if err != nil || !near(got.X.Data, c.want, 1e-5) {
			t.Errorf("%s: %v, %v, want %v", c.name, got.X, err, c.want)
		}
		if got.Uncond == nil {
			t.Errorf("%s: no unconditional prediction", c.name)
		}
	}
}

func TestThreshold(t *testing.T) {
	mask := []float32{0, 0.25, 0.5, 1}
	tests := []struct {
		threshold float32
		strength  float64
		want      []float32
	}{
		{0.5, 1, []float32{0, 0, 1, 1}},
		{0.5, 0, []float32{0, 0, 1, 1}},
		{0, 1, []float32{1, 1, 1, 1}},
		{0.5, 0.5, []float32{0, 0.125, 0.75, 1}},
	}
	for _, c := range tests {
		if got := thresholded(mask, c.threshold, c.strength); !near(got, c.want, 1e-6) {
			t.Errorf("%g, strength %g: %v, want %v", c.threshold, c.strength, got, c.want)
		}
	}
}

func TestBatchItem(t *testing.T) {
	for _, c := range []struct {
		have, want int
		items      []int
	}{
		{1, 3, []int{0, 0, 0}},
		{2, 4, []int{0, 0, 1, 1}},
		{2, 3, []int{0, 1, 1}},
		{5, 1, []int{0}},
		{5, 3, []int{0, 2, 4}},
	} {
		var got []int
		for i := range c.want {
			got = append(got, batchItem(i, c.have, c.want))
		}
		if !slices.Equal(got, c.items) {
			t.Errorf("%d of %d: %v, want %v", c.want, c.have, got, c.items)
		}
	}
}

func TestSampleNeedsModel(t *testing.T) {
	for _, g := range []Guider{{}, BasicGuider(nil, nil)} {
		if _, err := Sample(t.Context(), Job{Guider: g}); err == nil {
			t.Error("no error without a model")
		}
	}
}

func TestFrameCFG(t *testing.T) {
	cond, uncond := tensor.Full(1, 3, 1, 1, 1), tensor.Full(0, 3, 1, 1, 1)
	for _, c := range []struct {
		peak bool
		want []float32
	}{{false, []float32{1, 3, 5}}, {true, []float32{1, 5, 1}}} {
		if got := guided(t, pair{cond, uncond, 5}, uncond, FrameCFG(1, c.peak)).run(t); !near(got, c.want, 1e-6) {
			t.Errorf("peak %t: %v, want %v", c.peak, got, c.want)
		}
	}
}
