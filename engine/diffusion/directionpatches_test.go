package diffusion

import (
	"math"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// TestAdaptiveProjection works the published formula out by hand: the direction
// is [0 1], of which [0.48 0.64] lies along cond.
func TestAdaptiveProjection(t *testing.T) {
	x, cond, uncond := column(0, 0), column(3, 4), column(3, 3)
	for _, c := range []struct {
		name     string
		settings APG
		want     []float32
	}{
		{"all", APG{Along: 1}, []float32{3, 6}},
		{"perpendicular", APG{}, []float32{2.04, 4.72}},
		{"against", APG{Along: -1}, []float32{1.08, 3.44}},
		{"short enough", APG{Along: 1, Longest: 1.5}, []float32{3, 6}},
		{"limited", APG{Along: 1, Longest: 0.5}, []float32{3, 5}},
	} {
		if got := guided(t, pair{cond, uncond, 2}, x, AdaptiveProjection(c.settings)).run(t); !near(got, c.want, 1e-5) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if cond.Data[1] != 4 || uncond.Data[1] != 3 {
		t.Error("the predictions were changed")
	}
	alone := guided(t, pair{cond, column(0, 0), 1}, x, AdaptiveProjection(APG{}))
	alone.both = false
	if got := alone.run(t); !near(got, cond.Data, 1e-5) {
		t.Errorf("without a negative side: %v", got)
	}
}

// TestProjectionMomentum follows the running sum over steps: 1, then 1 - 0.5·1,
// then 1 - 0.5·0.5, and again 1 at a higher level.
func TestProjectionMomentum(t *testing.T) {
	x, cond, uncond := column(0, 0), column(3, 4), column(3, 3)
	c := guided(t, pair{cond, uncond, 2}, x, AdaptiveProjection(APG{Along: 1, Momentum: -0.5}))
	for i, step := range []struct{ sigma, want float32 }{{8, 6}, {4, 5}, {2, 5.5}, {8, 6}} {
		c.pair, c.sigma = pair{cond, uncond, 2}, step.sigma
		if got := c.run(t); !near(got, []float32{3, step.want}, 1e-5) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

// TestFreSca scales waves of known frequency.
func TestFreSca(t *testing.T) {
	const h, w = 6, 8
	plane := func(f func(y, x int) float64) *tensor.Tensor {
		out := tensor.New(1, 2, h, w)
		for i := range out.Data {
			out.Data[i] = float32(f(i/w%h, i%w))
		}
		return out
	}
	flat := func(int, int) float64 { return 0.5 }
	checks := func(y, x int) float64 { return float64(1 - 2*((x+y)%2)) }
	wave := func(k float64) func(y, x int) float64 {
		return func(_, x int) float64 { return math.Cos(2 * math.Pi * k * float64(x) / w) }
	}
	for _, c := range []struct {
		name   string
		f      func(y, x int) float64
		cutoff int
		want   float64
	}{
		{"flat", flat, 1, 2}, {"checks", checks, 1, 3}, {"all is coarse", checks, 100, 2},
		// Of the waves -2 and 2 the first is coarse, of -3 and 3 neither.
		{"at the edge", wave(2), 2, 2.5}, {"below", wave(1), 2, 2}, {"above", wave(3), 2, 3},
	} {
		in := plane(c.f)
		out, err := FreSca{Low: 2, High: 3, Cutoff: c.cutoff}.apply(in)
		if err != nil || !near(out.Data, scaled(in.Data, c.want), 1e-5) {
			t.Errorf("%s: %v, want %g times %v (%v)", c.name, out.Data[:w], c.want, in.Data[:w], err)
		}
	}
	x, cond, uncond := plane(flat), plane(wave(3)), plane(flat)
	got := guided(t, pair{cond, uncond, 2}, x, ScaleFrequencies(FreSca{Low: 1, High: 0, Cutoff: 2})).run(t)
	// The wave is gone, what is even remains: 0.5 + 2·(0 - 0.5).
	for i, v := range got {
		if math.Abs(float64(v)+0.5) > 1e-5 {
			t.Fatalf("guided %d: %v, want -0.5", i, v)
		}
	}
}

// TestTextAttentionScale looks at the weights of a tower with projections apart
// and of one that has them in one weight.
func TestTextAttentionScale(t *testing.T) {
	r := testRuntime(t, nil)
	for list, of := range map[string]map[string][]float64{
		"sd15-tiny-fp16": {
			"q_proj.weight": {2}, "q_proj.bias": {2}, "k_proj.weight": {1}, "v_proj.bias": {3}, "out_proj.weight": {0.5}, "out_proj.bias": {0.5},
		},
		"sd21-tiny-fp16": {"in_proj.weight": {2, 1, 3}, "in_proj.bias": {2, 1, 3}, "out_proj.bias": {0.5}},
	} {
		_, clip, _, err := r.LoadCheckpoint(t.Context(), weightstest.Write(t, t.TempDir(), list))
		if err != nil {
			t.Fatal(err)
		}
		changed, err := clip.WithAttention(AttentionScale{Q: 2, K: 1, V: 3, Out: 0.5})
		if err != nil {
			t.Fatal(err)
		}
		if changed.Digest() == clip.Digest() {
			t.Errorf("%s: the digest stays", list)
		}
		for name, factors := range of {
			name = "text_model.encoder.layers.1.self_attn." + name
			before, err := clip.towers[0].net.weight(name)
			if err != nil {
				t.Fatal(err)
			}
			after, err := changed.towers[0].net.weight(name)
			if err != nil {
				t.Fatal(err)
			}
			rows := before.Dim(0) / len(factors)
			for i, f := range factors {
				compare(t, list+" "+name, after.Rows(i*rows, (i+1)*rows), each(before.Rows(i*rows, (i+1)*rows), times(f)), 1e-6)
			}
		}
	}
}
