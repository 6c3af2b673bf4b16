package sampling

import (
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

type rngGolden struct {
	Randn []struct {
		Seed, SHA256        string
		Shape               tensor.Shape
		Values, First, Last []float32
	}
	Sequence []struct {
		Seed  string
		Draws []struct {
			Shape  tensor.Shape
			Values []float32
		}
	}
	Mixed []struct {
		Seed    string
		Rand    []float32 `json:"rand_f32_5"`
		Randn64 []float64 `json:"then_randn_f64_3"`
	}
	PrepareNoise []struct {
		Seed, SHA256 string
		Shape        tensor.Shape
		NoiseInds    []int `json:"noise_inds"`
	} `json:"prepare_noise"`
	Ancestral []struct {
		Seed  string
		Shape tensor.Shape
		Draws [][]float32 `json:"draws_first8"`
	} `json:"ancestral_noise"`
}

func loadRNG(t *testing.T) rngGolden {
	var g rngGolden
	goldenJSON(t, "rng.json", &g)
	if len(g.Randn) == 0 || len(g.Sequence) == 0 || len(g.PrepareNoise) == 0 || len(g.Ancestral) == 0 {
		t.Fatal("rng.json: parts are missing")
	}
	return g
}

func TestNormalBitForBit(t *testing.T) {
	var worst float64
	for _, c := range loadRNG(t).Randn {
		got := make([]float32, c.Shape.Elements())
		NewGenerator(seed(t, c.Seed)).Normal(got)
		if len(got) < 16 {
			// Double precision functions of the C library: the last bit may differ.
			worst = max(worst, relative(got, c.Values))
			continue
		}
		if digest(got) != c.SHA256 {
			t.Errorf("seed %s shape %v: other bits than torch: %v…, want %v%v…", c.Seed, c.Shape, got[:4], c.Values, c.First)
		}
	}
	if worst > 1.2e-7 {
		t.Errorf("scalar path: off by %.2g", worst)
	}
	t.Logf("scalar path: worst relative difference %.2g", worst)
}

func TestNormalSequence(t *testing.T) {
	for _, c := range loadRNG(t).Sequence {
		g := NewGenerator(seed(t, c.Seed))
		for i, d := range c.Draws {
			got := make([]float32, d.Shape.Elements())
			g.Normal(got)
			if e := relative(got, d.Values); e > 1.2e-7 {
				t.Errorf("seed %s draw %d %v: off by %.2g", c.Seed, i, d.Shape, e)
			}
		}
	}
}

func TestUniformsThenNormals(t *testing.T) {
	for _, c := range loadRNG(t).Mixed {
		g := NewGenerator(seed(t, c.Seed))
		got := make([]float32, len(c.Rand))
		g.uniforms(got)
		if !slices.EqualFunc(got, c.Rand, func(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-9+6e-8*float64(b) }) {
			t.Errorf("seed %s: uniforms %v, want %v", c.Seed, got, c.Rand)
		}
		for i, want := range c.Randn64 {
			if got := g.normal64(); math.Abs(got-want) > 1e-14 {
				t.Errorf("seed %s: normal %d is %v, want %v", c.Seed, i, got, want)
			}
		}
	}
}

func TestNoise(t *testing.T) {
	for _, c := range loadRNG(t).PrepareNoise {
		got := Noise(c.Shape, seed(t, c.Seed), c.NoiseInds)
		if !got.Shape.Equal(c.Shape) || digest(got.Data) != c.SHA256 {
			t.Errorf("seed %s shape %v batch index %v: other bits than ComfyUI's, shape %v", c.Seed, c.Shape, c.NoiseInds, got.Shape)
		}
	}
}

func TestNoiseOfNegativeIndexIsZero(t *testing.T) {
	got := Noise(tensor.Shape{1, 4, 2, 2}, 1, []int{-1, 0})
	if !got.Shape.Equal(tensor.Shape{2, 4, 2, 2}) {
		t.Fatalf("shape %v", got.Shape)
	}
	if slices.Max(got.Data[:16]) != 0 || slices.Min(got.Data[:16]) != 0 || got.Data[16] == 0 {
		t.Errorf("got %v", got.Data)
	}
}

func TestAncestralNoiseRepeatsTheInitialNoise(t *testing.T) {
	for _, c := range loadRNG(t).Ancestral {
		s := &state{Run: Run{Seed: seed(t, c.Seed)}, x: make([]float32, c.Shape.Elements())}
		for i, want := range c.Draws {
			if e := relative(s.noise()[:8], want); e > 1e-7 {
				t.Errorf("seed %s draw %d: off by %.2g", c.Seed, i, e)
			}
		}
	}
}

func TestInpaintNoise(t *testing.T) {
	initial := Noise(tensor.Shape{1, 1, 4, 4}, 7, nil)
	if InpaintNoise("euler", initial, 7) != initial {
		t.Error("euler: not the initial noise")
	}
	want := Noise(tensor.Shape{1, 1, 4, 4}, 8, nil)
	if got := InpaintNoise("ddim", initial, 7); !slices.Equal(got.Data, want.Data) {
		t.Error("ddim: not the noise of the next seed")
	}
}

// The fused multiply-add must agree with exact arithmetic, in particular where
// rounding twice would go wrong.
func TestFMA(t *testing.T) {
	g := NewGenerator(1)
	check := func(a, b, c float32) {
		t.Helper()
		exact := new(big.Float).SetPrec(400).Mul(big.NewFloat(float64(a)), big.NewFloat(float64(b)))
		exact.Add(exact, big.NewFloat(float64(c)))
		if want, _ := exact.Float32(); fma(a, b, c) != want {
			t.Errorf("fma(%g, %g, %g) = %g, want %g", a, b, c, fma(a, b, c), want)
		}
	}
	v := make([]float32, 3)
	for range 20000 {
		g.uniforms(v)
		check(v[0]-.5, v[1], v[2]-.5)
		check(1+v[0]*0x1p-10, 1+v[1]*0x1p-12, (v[2]-.5)*0x1p-30)
	}
	check(1+0x1p-12, 1+0x1p-12, 0x1p-60)         // just above a tie
	check(1+0x1p-12, 1+0x1p-12, -0x1p-60)        // just below
	check(-(1 + 0x1p-12), 1+0x1p-12, -0x1p-60)   // and mirrored
	check(1+0x1p-12, 1+0x1p-12, 0)               // a tie
	check(1+0x1.8p-12, 1+0x1p-12, 0x1.000002p40) // swallowed
}

func TestSeedSequence(t *testing.T) {
	tests := []struct {
		seed uint64
		key  []uint64
		want []uint32
	}{
		{0, nil, []uint32{4025752534, 2687548107, 2326983537}},
		{42, nil, []uint32{387750627, 2536650517, 4078839648}},
		{42, []uint64{0, 0}, []uint32{2102017995, 2891809698, 2144110403, 379559146}},
		{42, []uint64{1, 1}, []uint32{1058881542, 1039740124, 2218853409, 2234354429}},
		{1<<63 + 5, nil, []uint32{4057111437, 2571311966, 810876955}},
	}
	for _, c := range tests {
		if got := newSeedSequence(c.seed, c.key...).words(len(c.want)); !slices.Equal(got, c.want) {
			t.Errorf("seed %d key %v: %v, want %v", c.seed, c.key, got, c.want)
		}
	}
}

func TestBrownian(t *testing.T) {
	var index struct {
		Trees []struct {
			Key, Seed  string
			Shape      tensor.Shape
			SigmaMin   float32     `json:"sigma_min"`
			SigmaMax   float32     `json:"sigma_max"`
			Sigmas     []float32   `json:"sigmas"`
			MidQueries [][]float32 `json:"mid_queries"`
		}
	}
	goldenJSON(t, "brownian.json", &index)
	want := goldenTensors(t, "brownian.safetensors")
	var worst float64
	for _, c := range index.Trees {
		n := c.Shape.Elements()
		compare := func(name string, k int, got []float32) {
			t.Helper()
			e := distance(got, want[name].Data[k*n:][:n])
			if worst = max(worst, e); e > 1e-6 {
				t.Errorf("%s query %d: off by %.2g", name, k, e)
			}
		}
		tree := newBrownian(seed(t, c.Seed), c.SigmaMin, c.SigmaMax, n)
		for i := range len(c.Sigmas) - 2 {
			compare(c.Key, i, tree.noise(c.Sigmas[i], c.Sigmas[i+1]))
		}
		for i, q := range c.MidQueries {
			name := c.Key + "_mid" + string(rune('0'+i))
			compare(name, 0, tree.noise(q[0], q[1]))
			compare(name, 1, tree.noise(q[1], q[2]))
		}
	}
	if len(index.Trees) != 16 {
		t.Errorf("%d trees, want 16", len(index.Trees))
	}
	t.Logf("worst difference %.2g of the largest value", worst)
}

// The path must not depend on what was asked before.
func TestBrownianForgetsQueries(t *testing.T) {
	sigmas := append(Karras(12, 0.03, 14, 7)[:12], 3, 9, 0.5, 2.5, 0.031, 14, 7, 0.03)
	tree := newBrownian(9, 0.03, 14, 16)
	for i := range len(sigmas) - 1 {
		got := tree.noise(sigmas[i], sigmas[i+1])
		want := newBrownian(9, 0.03, 14, 16).noise(sigmas[i], sigmas[i+1])
		if !slices.Equal(got, want) {
			t.Errorf("query %d from %g to %g: %v, on a new path %v", i, sigmas[i], sigmas[i+1], got, want)
		}
	}
}

func TestBrownianSignFollowsDirection(t *testing.T) {
	tree := newBrownian(3, 0.1, 10, 16)
	down := slices.Clone(tree.noise(5, 1))
	for i, up := range tree.noise(1, 5) {
		if up != -down[i] {
			t.Fatalf("element %d: %g up, %g down", i, up, down[i])
		}
	}
	if v := tree.noise(50, 20); slices.Max(v) != 0 || slices.Min(v) != 0 {
		t.Errorf("outside of the path: %v, want zeros", v)
	}
}

func BenchmarkNoise(b *testing.B) {
	for b.Loop() {
		Noise(tensor.Shape{1, 4, 64, 64}, 42, nil)
	}
}

// BenchmarkBrownianStep is the noise of a descending run of 10 steps, per step.
func BenchmarkBrownianStep(b *testing.B) {
	sigmas := Karras(10, 0.0291671586, 14.6146431, 7)[:10]
	tree := newBrownian(42, sigmas[9], sigmas[0], 4*64*64)
	i := 0
	for b.Loop() {
		tree.noise(sigmas[i], sigmas[i+1])
		i = (i + 1) % 9
	}
}
