package diffusion

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// TestReceived compares the recorded attention of three heads of width 1 with
// its definition.
func TestReceived(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	x := noise(rnd, 2, 2, 3, 3, 4)
	run := graphOf(t, func(x, n *nn.Value) *nn.Value { return nn.Received(nn.Tokens(x), nn.Tokens(x.Mul(n)), 3) })
	want := tensor.New(2, 12)
	for b := range 2 {
		for head := range 3 {
			token := x.Data[(b*3+head)*12:][:12]
			for _, q := range token {
				var sum float64
				for _, k := range token {
					sum += math.Exp(float64(q) * 0.7 * float64(k))
				}
				for i, k := range token {
					want.Data[b*12+i] += float32(math.Exp(float64(q)*0.7*float64(k)) / sum / 3)
				}
			}
		}
	}
	compare(t, "received", run(x, 0.7), want, 1e-5)
}

func TestBlurWhereAttended(t *testing.T) {
	x := noise(rand.New(rand.NewPCG(6, 7)), 1, 1, 2, 9, 12)
	received := tensor.Full(0.9, 1, 9) // 3x3 tokens: 9 and 12 halved twice
	received.Data[4] = 1.1             // second row, second column
	out, err := selfAttention{1, 2}.blurred(x, received)
	if err != nil {
		t.Fatal(err)
	}
	blurred, err := tensor.Gaussian{Radius: 4, Sigma: 0.5}.Blur(x)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range out.Data {
		column, row, want := i%12, i/12%9, x.Data[i]
		if column >= 4 && column < 8 && row >= 3 && row < 6 {
			want = blurred.Data[i]
		}
		if v != want {
			t.Fatalf("row %d, column %d is %v, want %v", row, column, v, want)
		}
	}
	if _, err := (selfAttention{1, 2}).blurred(x, tensor.New(1, 7)); err == nil {
		t.Error("attention of another picture is taken")
	}
}

// sides is a guidance of cfg 3 for a model with two texts.
func (s steered) sides(t *testing.T, m *Model) (g *guidance, positive, negative map[string]*tensor.Tensor) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(8, 9))
	g = &guidance{model: m, rule: cfgRule{3}, need: []bool{true, true}}
	var inputs []map[string]*tensor.Tensor
	for range 2 {
		in := map[string]*tensor.Tensor{"context": noise(rnd, 1, 1, 77, m.textWidth)}
		inputs = append(inputs, in)
		area := rect{height: s.x.Dim(2), width: s.x.Dim(3)}
		g.lists = append(g.lists, []region{{inputs: in, area: area, strength: 1, start: math.Inf(1)}})
	}
	for _, p := range m.patches {
		h, err := p.start(g)
		if err != nil {
			t.Fatal(err)
		}
		g.hooks = append(g.hooks, h)
	}
	return g, inputs[0], inputs[1]
}

// TestAttentionGuidance compares both guidances with their formulas, over
// predictions asked for one by one. Scales enlarge the differences between
// batches of one and two.
func TestAttentionGuidance(t *testing.T) {
	const sigma = 2
	s := tinyModel(t, testRuntime(t, nil), weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	ask := func(m *Model, x *tensor.Tensor, in map[string]*tensor.Tensor) *tensor.Tensor {
		t.Helper()
		den, err := m.predict(t.Context(), x, in, sigma)
		if err != nil {
			t.Fatal(err)
		}
		return den
	}
	minus := func(a, b *tensor.Tensor) *tensor.Tensor { return plus(a, each(b, times(-1))) }

	g, positive, negative := s.sides(t, s.WithPatch(PerturbedAttention(4)))
	got, err := g.denoise(t.Context(), s.x, sigma)
	if err != nil {
		t.Fatal(err)
	}
	pos, neg := ask(s.Model, s.x, positive), ask(s.Model, s.x, negative)
	guided := lerp(neg, pos, 3)
	perturbed := ask(s.withGraphPatch(always(arch.IdentityAttention{})), s.x, positive)
	compare(t, "perturbed", got.X, plus(guided, each(minus(pos, perturbed), times(4))), 2e-4)
	if slices.Equal(perturbed.Data, pos.Data) {
		t.Error("switching attention off changes nothing")
	}

	g, _, _ = s.sides(t, s.WithSelfAttention(0.7, 2))
	if got, err = g.denoise(t.Context(), s.x, sigma); err != nil {
		t.Fatal(err)
	}
	out, err := s.withGraphPatch(always(arch.RecordAttention{})).outputs(t.Context(), evaluation{x: s.x, inputs: negative, sigma: sigma})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "recorded network", out["out"], neg, 1e-6)
	blurred, err := selfAttention{0.7, 2}.blurred(neg, out[arch.AttentionOutput])
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(blurred.Data, neg.Data) {
		t.Error("nothing is blurred")
	}
	again := ask(s.Model, minus(plus(blurred, s.x), neg), negative)
	compare(t, "self-attention", got.X, plus(guided, each(minus(blurred, again), times(0.7))), 2e-4)
}
