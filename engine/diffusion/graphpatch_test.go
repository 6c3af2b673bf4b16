package diffusion

import (
	"fmt"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// noWeights is a checkpoint without weights.
type noWeights struct{}

func (noWeights) Names() []string                 { return nil }
func (noWeights) Lookup(string) (nn.Source, bool) { return nn.Source{}, false }

// graphOf is a graph of one picture and one number, made once for many inputs.
func graphOf(t *testing.T, f func(x, number *nn.Value) *nn.Value) func(x *tensor.Tensor, number float32) *tensor.Tensor {
	t.Helper()
	g, err := nn.Build("toy", noWeights{}, func(p nn.Scope) {
		p.Output("y", f(p.Input("x", "batch", 3, "height", "width"), p.Input("number", 1)))
	})
	if err != nil {
		t.Fatal(err)
	}
	env, err := testRuntime(t, nil).env()
	if err != nil {
		t.Fatal(err)
	}
	s, err := env.NewSession(&onnx.Model{Opset: map[string]int64{"": 18}, Graph: g.ONNX}, ort.Options{Name: "toy"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return func(x *tensor.Tensor, number float32) *tensor.Tensor {
		t.Helper()
		out, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": x, "number": tensor.Full(number, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return out["y"]
	}
}

// TestGraphResizes: resizing in a graph is that of engine/tensor.
func TestGraphResizes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, method := range []string{tensor.Bicubic, tensor.Bilinear, tensor.NearestExact, tensor.AreaMean} {
		for _, factor := range []float64{2, 1.5, 3.3, 0.7} {
			r := nn.Resampling(method)
			shrink := graphOf(t, func(x, n *nn.Value) *nn.Value { return nn.Shrink(x.Mul(n), factor, r) })
			back := graphOf(t, func(x, n *nn.Value) *nn.Value { return nn.ResizeTo(nn.Shrink(x, factor, r), x.Mul(n), r) })
			for _, size := range [][2]int{{8, 8}, {5, 9}, {13, 7}} {
				x := noise(rnd, 1, 2, 3, size[0], size[1])
				side := func(n int) int { return int(math.RoundToEven(float64(n) / factor)) }
				small, err := tensor.Resize(x, side(size[1]), side(size[0]), method)
				if err != nil {
					t.Fatal(err)
				}
				label := fmt.Sprint(method, factor, size)
				compare(t, label, shrink(x, 1), small, 1e-5)
				if small, err = tensor.Resize(small, size[1], size[0], method); err != nil {
					t.Fatal(err)
				}
				compare(t, label+" and back", back(x, 1), small, 1e-5)
			}
		}
	}
}

// slowestPart is what the frequencies 0 and -1 give, by the definition of the
// Fourier transform, its real part.
func slowestPart(x *tensor.Tensor) *tensor.Tensor {
	h, w := x.Dim(2), x.Dim(3)
	out := tensor.New(x.Shape...)
	for plane := range x.Dim(0) * x.Dim(1) {
		src, dst := x.Data[plane*h*w:][:h*w], out.Data[plane*h*w:][:h*w]
		for fy := range min(h, 2) {
			for fx := range min(w, 2) {
				wave := func(i int) complex128 {
					return cmplx.Exp(complex(0, -2*math.Pi*(float64(fy*(i/w))/float64(h)+float64(fx*(i%w))/float64(w))))
				}
				var sum complex128
				for i, v := range src {
					sum += complex(float64(v), 0) / wave(i)
				}
				for i := range dst {
					dst[i] += float32(real(sum*wave(i)) / float64(h*w))
				}
			}
		}
	}
	return out
}

func TestAddLow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	add := graphOf(t, nn.AddLow)
	for _, size := range [][2]int{{8, 8}, {5, 9}, {2, 2}, {1, 3}, {4, 1}, {1, 1}, {16, 31}} {
		x := plus(noise(rnd, 1, 2, 3, size[0], size[1]), tensor.Full(0.3, 2, 3, size[0], size[1]))
		want := plus(x, each(slowestPart(x), times(-0.8)))
		compare(t, fmt.Sprint(size), add(x, -0.8), want, 1e-6)
	}
}

func TestUnitMean(t *testing.T) {
	mean := graphOf(t, func(x, n *nn.Value) *nn.Value { return nn.UnitMean(x.Mul(n)) })
	got := mean(tensor.Of([]float32{0, 3, 6, 0, 0, 6, 0, 3, 3, 9, 5, 1, 9, 5, 1, 9, 5, 1}, 2, 3, 1, 3), 2)
	if want := []float32{0, 0.4, 1, 1, 0.5, 0}; !near(got.Data, want, 1e-6) || len(got.Data) != len(want) {
		t.Errorf("got %v, want %v", got.Data, want)
	}
}

// predicted is what the model makes of its state, with more inputs.
func (s steered) predicted(t *testing.T, m *Model, sigma float32, residual ...string) *tensor.Tensor {
	t.Helper()
	in := map[string]*tensor.Tensor{"context": s.evaluation.inputs["context"]}
	for _, name := range residual {
		in[name] = tensor.New(1, 1, 1, 1)
	}
	den, err := m.predict(t.Context(), s.x, in, sigma)
	if err != nil {
		t.Fatal(err)
	}
	return den
}

// TestGraphPatches: patches that do nothing change nothing, one session serves
// all strengths, and LoRAs and residuals find their places.
func TestGraphPatches(t *testing.T) {
	r := testRuntime(t, nil)
	s := tinyModel(t, r, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	lora, err := r.LoadLoRA(t.Context(), weightstest.Write(t, t.TempDir(), "lora-kohya-sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	none, some := FreeUScale{Backbone: 1, Skip: 1}, FreeUScale{Backbone: 1.4, Skip: 0.2}
	for _, normalised := range []bool{false, true} {
		idle := s.WithFreeU(FreeU{Deep: none, Shallow: none, Normalised: normalised})
		plain := s.predicted(t, s.Model, 1)
		compare(t, "idle", s.predicted(t, idle, 1), plain, 1e-6)
		sessions := len(r.pool.entries)
		strong := s.WithFreeU(FreeU{Deep: some, Shallow: some, Normalised: normalised})
		want := s.predicted(t, strong, 1)
		if slices.Equal(want.Data, plain.Data) || len(r.pool.entries) != sessions || strong.Digest() == idle.Digest() {
			t.Errorf("strengths make %d sessions of %d", len(r.pool.entries), sessions)
		}
		compare(t, "steered", s.predicted(t, strong, 1, "middle"), want, 1e-6)
		withLoRA, err := idle.WithLoRA(lora, 0.8)
		if err != nil {
			t.Fatal(err)
		}
		onlyLoRA, err := s.WithLoRA(lora, 0.8)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, "with LoRA", s.predicted(t, withLoRA, 1), s.predicted(t, onlyLoRA, 1), 1e-6)
	}
}

// TestDownscaleInTime: outside its part of a run the plain network is asked.
func TestDownscaleInTime(t *testing.T) {
	s := tinyModel(t, testRuntime(t, nil), weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	for _, afterSkip := range []bool{false, true} {
		d := Downscale{Block: 1, Factor: 2, AfterSkip: afterSkip, Down: tensor.Bicubic, Up: tensor.AreaMean, Start: 0.1, End: 0.5}
		m, err := s.WithDownscale(d)
		if err != nil {
			t.Fatal(err)
		}
		high, low := float32(m.schedule.PercentToSigma(0.1)), float32(m.schedule.PercentToSigma(0.5))
		for sigma, changes := range map[float32]bool{high * 1.01: false, high * 0.99: true, low * 1.01: true, low * 0.99: false} {
			changed := !slices.Equal(s.predicted(t, m, sigma).Data, s.predicted(t, s.Model, sigma).Data)
			if changed != changes {
				t.Errorf("sigma %v: changed is %t", sigma, changed)
			}
		}
	}
	if _, err := s.WithDownscale(Downscale{Factor: 2, Down: tensor.Bicubic, Up: tensor.Bislerp}); err == nil || !strings.Contains(err.Error(), `"bislerp"`) {
		t.Errorf("got %v, want a refusal of bislerp", err)
	}
}

// TestAttentionScale: the factors are of the weights as they are, in the order
// in which things are done to them.
func TestAttentionScale(t *testing.T) {
	r := testRuntime(t, nil)
	s := tinyModel(t, r, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	lora, err := r.LoadLoRA(t.Context(), weightstest.Write(t, t.TempDir(), "lora-kohya-sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	factors := AttentionScale{Q: 2, K: 1, V: 3, Out: 0.5}
	withLoRA, err := s.WithLoRA(lora, 1)
	if err != nil {
		t.Fatal(err)
	}
	after, err := withLoRA.WithAttention(CrossAttention, factors)
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.WithAttention(CrossAttention, factors)
	if err == nil {
		before, err = before.WithLoRA(lora, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	get := func(m *Model, name string) *tensor.Tensor {
		w, err := m.unet.weight("input_blocks.1.1.transformer_blocks.0." + name)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	for name, f := range map[string]float64{
		"attn2.to_q.weight": 2, "attn2.to_k.weight": 1, "attn2.to_v.weight": 3, "attn2.to_out.0.weight": 0.5,
		"attn2.to_out.0.bias": 0.5, "attn1.to_q.weight": 1, "norm2.weight": 1,
	} {
		plain, lifted := get(s.Model, name), get(withLoRA, name)
		compare(t, name+" after", get(after, name), each(lifted, times(f)), 1e-6)
		difference := plus(lifted, each(plain, times(-1)))
		compare(t, name+" before", get(before, name), plus(each(plain, times(f)), difference), 1e-6)
	}
	if after.Digest() == before.Digest() {
		t.Error("the order does not count")
	}
}
