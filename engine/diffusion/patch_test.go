package diffusion

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// patchRuntime returns a Runtime and the models of a synthetic checkpoint.
func patchRuntime(t *testing.T, list string) (*Runtime, *Model, *CLIP) {
	t.Helper()
	library := orttest.Library(t)
	r, err := Open(Options{Library: func() (string, error) { return library, nil }, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	m, clip, _, err := r.LoadCheckpoint(t.Context(), weightstest.Write(t, t.TempDir(), list))
	if err != nil {
		t.Fatal(err)
	}
	return r, m, clip
}

func openLoRA(t *testing.T, r *Runtime, list string) *LoRA {
	t.Helper()
	l, err := r.LoadLoRA(t.Context(), weightstest.Write(t, t.TempDir(), list))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// merged is a step whose changes cannot stand beside the weights.
func merged(s step) step {
	for _, list := range s.changes {
		for i, c := range list {
			list[i] = onlyMerged{c}
		}
	}
	return s
}

// TestStrengthsKeepTheSession checks that other strengths use the same session
// and give another result, the one that merging gives.
func TestStrengthsKeepTheSession(t *testing.T) {
	r, m, clip := patchRuntime(t, "sd15-tiny-fp16")
	l := openLoRA(t, r, "lora-kohya-sd15-tiny")
	if ignored := l.Ignored(m, clip); len(ignored) > 0 {
		t.Errorf("ignored: %s", ignored)
	}
	if ignored := l.Ignored(m, nil); len(ignored) == 0 || !strings.HasPrefix(ignored[0], "lora_te_") {
		t.Errorf("without a text encoder only %s are ignored", ignored)
	}
	in := map[string]*tensor.Tensor{"x": noisy(1, 4, 12, 16), "timesteps": tensor.Full(400, 1), "context": noisy(1, 77, 64)}
	digests := map[string]bool{}
	for _, strength := range []float64{0.5, -1} {
		with, err := m.WithLoRA(l, strength)
		if err != nil {
			t.Fatal(err)
		}
		digests[with.Digest()] = true
		got := runOf(t, r, with.unet, in)
		if len(r.pool.entries) != 1 {
			t.Fatalf("%d sessions, want 1", len(r.pool.entries))
		}
		whole, err := m.unet.with(merged(l.step(m.unet, m.loraKeys(), strength)))
		if err != nil {
			t.Fatal(err)
		}
		compareTo(t, got, runOf(t, r, whole, in), 1e-4)
		plain := runOf(t, r, m.unet, in)
		if d := distance(got, plain); d < 1e-2 {
			t.Errorf("strength %v changes the result by %g only", strength, d)
		}
		r.Free()
	}
	if len(digests) != 2 {
		t.Error("other strengths have the same digest")
	}
}

// TestBranches compares the ways to add a product with merging it: a wide
// weight, rows of a joint one, a narrow one, convolutions; in full and in half
// precision.
func TestBranches(t *testing.T) {
	r := testRuntime(t, nil)
	testBranches(t, r, nn.Target{}, 1e-5)
	testBranches(t, r, nn.Target{Precision: nn.Float16}, 5e-3)
	// What this graph has for a GPU the CPU has too.
	testBranches(t, r, nn.Target{Provider: nn.WebGPU}, 1e-5)
	testBranches(t, r, nn.Target{Provider: nn.CUDA, Precision: nn.Float16}, 5e-3)
}

// TestBranchesFitGraphs builds a whole network with LoRAs for GPUs: the types of
// its values fit, and all that may keep the CPU from running it is an operator
// that it lacks.
func TestBranchesFitGraphs(t *testing.T) {
	r, m, _ := patchRuntime(t, "sd15-tiny-fp16")
	lacking := regexp.MustCompile(`find (an implementation|kernel) for (com\.microsoft\.)?(BiasSplitGelu|GroupNorm|SkipGroupNorm)\(1\)`)
	for _, target := range []nn.Target{
		{Provider: nn.WebGPU, PlainAttention: true}, {Provider: nn.WebGPU, Precision: nn.Float16, PlainAttention: true},
		{Provider: nn.CUDA}, {Provider: nn.CUDA, Precision: nn.Float16},
	} {
		for _, list := range []string{"lora-kohya-sd15-tiny", "lora-conv-sd15-tiny", "loha-sd15-tiny"} {
			c, err := m.unet.on(target)
			if err == nil {
				c, err = c.with(openLoRA(t, r, list).step(m.unet, m.loraKeys(), 0.5))
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err = r.pool.acquire(t.Context(), c); err != nil && !lacking.MatchString(err.Error()) {
				t.Errorf("%+v, %s: error %v", target, list, err)
			}
		}
	}
}

func testBranches(t *testing.T, r *Runtime, target nn.Target, tolerance float64) {
	t.Helper()
	const wide, narrow, rank = 768, 64, 4
	w := writer{rng: rand.New(rand.NewPCG(1, 2))}
	w.add("a.weight", wide, wide)
	w.add("joint.weight", 3*wide, wide)
	w.add("joint.bias", 3*wide)
	w.add("b.weight", narrow, wide)
	w.add("c.weight", narrow, narrow, 1, 1)
	w.add("d.weight", narrow, narrow, 3, 3)
	w.add("d.bias", narrow)
	w.add("c.bias", narrow)
	l := writer{rng: rand.New(rand.NewPCG(3, 4))}
	for base, shape := range map[string][3]int{"a": {wide, wide, 1}, "q": {wide, wide, 1}, "v": {wide, wide, 1}, "b": {narrow, wide, 1}, "c": {narrow, narrow, 1}, "d": {narrow, narrow, 3}} {
		l.add(base+".lora_up.weight", shape[0], rank)
		l.add(base+".lora_down.weight", rank, shape[1], shape[2], shape[2])
	}
	dir := t.TempDir()
	for name, file := range map[string]*writer{"model": &w, "lora": &l} {
		if err := os.WriteFile(filepath.Join(dir, name+".safetensors"), file.bytes(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := weights.Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := newComponent(component{name: "toy", file: f, target: target, weights: tensorsOf(f), trace: tracerOf("toy", toy)})
	if err != nil {
		t.Fatal(err)
	}
	lora, err := r.LoadLoRA(t.Context(), filepath.Join(dir, "lora.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]weights.Target{
		"a": {Weight: "a.weight"}, "q": {Weight: "joint.weight", Part: 0, Parts: 3}, "v": {Weight: "joint.weight", Part: 2, Parts: 3},
		"b": {Weight: "b.weight"}, "c": {Weight: "c.weight"}, "d": {Weight: "d.weight"},
	}
	// Twice the same file: two columns of strengths.
	beside, err := c.with(lora.step(c, keys, 0.75), lora.step(c, keys, 0.5))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := c.with(merged(lora.step(c, keys, 1.25)))
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]*tensor.Tensor{"x": noisy(1, 5, wide), "picture": noisy(1, narrow, 9, 7)}
	for name, want := range runOutputs(t, r, whole, in) {
		got := runOutputs(t, r, beside, in)[name]
		t.Run(name, func(t *testing.T) { compareTo(t, got, want, tolerance) })
		// The file has nothing for the middle third of the joint weight.
		if d := distance(runOutputs(t, r, c, in)[name], want); (d == 0) != (name == "k") {
			t.Errorf("%s is changed by %g", name, d)
		}
	}
}

// toy is a graph with each kind of product.
func toy(p nn.Scope) {
	x, picture := p.Input("x", "batch", "tokens", 768), p.Input("picture", "batch", 64, "height", "width")
	p.Output("wide", nn.LinearNoBias(p.In("a"), x, 768))
	joint := p.In("joint")
	for i, name := range []string{"q", "k", "v"} {
		p.Output(name, nn.LinearRows(joint, x, i*768, 768))
	}
	p.Output("narrow", nn.LinearNoBias(p.In("b"), x, 64))
	p.Output("flat", nn.Conv(p.In("c"), picture, 64, nn.Same(1)))
	p.Output("conv", nn.Conv(p.In("d"), picture, 64, nn.Same(3)))
}

// TestMerges checks the arithmetic of merging two models, and that models of
// other architectures are refused.
func TestMerges(t *testing.T) {
	r, m, clip := patchRuntime(t, "sd15-tiny-fp16")
	l := openLoRA(t, r, "lora-kohya-sd15-tiny")
	other, err := m.WithLoRA(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	const name = "middle_block.1.proj_in.weight"
	both, err := m.Merge(other, func(w string) Mix {
		if w == name {
			return Mix{Keep: 2, Add: -0.5}
		}
		return Mix{Keep: 1}
	})
	if err != nil {
		t.Fatal(err)
	}
	a, b := weightOf(t, m.unet, name), weightOf(t, other.unet, name)
	for i, got := range weightOf(t, both.unet, name).Data {
		if want := 2*a.Data[i] - 0.5*b.Data[i]; math.Abs(float64(got-want)) > 1e-6 {
			t.Fatalf("element %d is %v, want %v", i, got, want)
		}
	}
	if both.Digest() == m.Digest() {
		t.Error("a merged model has the digest of the first")
	}
	_, inpaint, _ := patchRuntime(t, "sd15-inpaint-tiny-fp16")
	if _, err := m.Merge(inpaint, func(string) Mix { return Mix{1, 1} }); err == nil || !strings.Contains(err.Error(), "another architecture") {
		t.Errorf("merged with an inpainting model: %v", err)
	}
	_, _, xl := patchRuntime(t, "sdxl-tiny-fp16")
	if _, err := clip.Merge(xl, Mix{1, 1}); err == nil {
		t.Error("one text encoder merged with two")
	}
	// The token table is merged too: half of each is the same again.
	half, err := clip.Merge(clip, Mix{0.5, 0.5})
	if err != nil {
		t.Fatal(err)
	}
	want, err := clip.Encode(t.Context(), "a (red:1.2) house")
	if err != nil {
		t.Fatal(err)
	}
	got, err := half.Encode(t.Context(), "a (red:1.2) house")
	if err != nil {
		t.Fatal(err)
	}
	compareTo(t, got[0].Text, want[0].Text, 1e-6)
}

func weightOf(t *testing.T, c *component, name string) *tensor.Tensor {
	t.Helper()
	w, err := c.weight(name)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func runOutputs(t *testing.T, r *Runtime, c *component, in map[string]*tensor.Tensor) map[string]*tensor.Tensor {
	t.Helper()
	out, err := r.pool.run(context.Background(), c, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func runOf(t *testing.T, r *Runtime, c *component, in map[string]*tensor.Tensor) *tensor.Tensor {
	t.Helper()
	return runOutputs(t, r, c, in)["out"]
}

// noisy returns fixed noise.
func noisy(shape ...int) *tensor.Tensor {
	rng := rand.New(rand.NewPCG(5, 6))
	x := tensor.New(shape...)
	for i := range x.Data {
		x.Data[i] = float32(rng.NormFloat64())
	}
	return x
}

// distance is the deviation of a from b over the deviation of b.
func distance(a, b *tensor.Tensor) float64 {
	var diff, size float64
	for i, v := range b.Data {
		d := float64(a.Data[i] - v)
		diff, size = diff+d*d, size+float64(v)*float64(v)
	}
	return math.Sqrt(diff / size)
}

func compareTo(t *testing.T, got, want *tensor.Tensor, tolerance float64) {
	t.Helper()
	if !got.Shape.Equal(want.Shape) {
		t.Fatalf("shape %v, want %v", got.Shape, want.Shape)
	}
	d := distance(got, want)
	t.Logf("differs by %.2g", d)
	if d > tolerance || math.IsNaN(d) {
		t.Errorf("differs by %g, allowed %g", d, tolerance)
	}
}
