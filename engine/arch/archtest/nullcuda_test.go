//go:build nullcuda

package archtest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/gpu/gputest"
	"github.com/comfyrun/comfyrun/engine/ort/winograd"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// nullGPU opens the CUDA library of a machine whose GPU computes nothing, in a
// process of the test's own: elsewhere dir is "".
func nullGPU(t *testing.T, major, minor int) (env *ort.Env, dir string) {
	t.Helper()
	g := gputest.GPU{Name: "null", Major: major, Minor: minor, Total: 80 << 30, Free: 80 << 30}
	dir = gputest.Null{GPUs: []gputest.GPU{g}}.Inside(t)
	if dir == "" {
		return nil, ""
	}
	env, err := ort.Open(filepath.Join(dir, "libonnxruntime.so.1.30.0"))
	must(t, err)
	return env, dir
}

// TestNullCUDANetworks has CUDA's own provider run every architecture: each node
// by a kernel for CUDA, without copies between them. Kernels compute nothing.
func TestNullCUDANetworks(t *testing.T) {
	env, dir := nullGPU(t, 9, 0)
	if dir == "" {
		return
	}
	all := Networks(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		// This patch rounds sizes, which CUDA's provider does on the GPU.
		if all[name].Large || strings.Contains(name, "downscale") {
			continue
		}
		for _, precision := range []nn.Precision{nn.Float32, nn.Float16} {
			t.Run(name+" "+string(precision), func(t *testing.T) { all[name].onNullGPU(t, env, precision) })
		}
	}
}

// TestNullCUDAReal is TestNullCUDANetworks for networks of the sizes of released
// models. Each has the operators that CUDA has for it, attention by kernels
// that do not hold all its products at once, and turns nothing round but what
// goes in and comes out.
func TestNullCUDAReal(t *testing.T) {
	env, dir := nullGPU(t, 9, 0)
	if dir == "" {
		return
	}
	all := realNetworks(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, precision := range []nn.Precision{nn.Float16, nn.Float32} {
			if precision == nn.Float32 && !strings.Contains(name, "vae") {
				continue // twice the memory for the same operators
			}
			t.Run(name+" "+string(precision), func(t *testing.T) { checkReal(t, name, all[name].onNullGPU(t, env, precision)) })
		}
	}
}

// checkReal looks at the operators that a network of real size became.
func checkReal(t *testing.T, name string, ran map[string]int) {
	t.Helper()
	t.Log(ran)
	want := map[string]int{"MultiHeadAttention": 1, "GroupNorm": 1, "SkipGroupNorm": 1}
	if strings.Contains(name, "unet") {
		want["BiasSplitGelu"] = 1
	}
	if strings.Contains(name, "clip") {
		return
	}
	for op := range want {
		if ran[op] == 0 {
			t.Errorf("nothing of %s", op)
		}
	}
	if ran["Transpose"] != 2 || ran["InstanceNormalization"] > 0 {
		t.Errorf("%d times Transpose, want 2; %d norms by other operators", ran["Transpose"], ran["InstanceNormalization"])
	}
}

// TestNullCUDAAttention tells which kernels compute attention, by the GPU's
// compute capability: none has all products of queries and keys in memory.
func TestNullCUDAAttention(t *testing.T) {
	const flash, efficient, cudnn, tensorrt = "flash_fwd_kernel", "attention_kernel_batched_impl", "cudnnBackendExecute", "fmha|attention_kernel_batched_impl"
	for _, c := range []struct {
		major, minor int
		half         string // for heads of up to 160 numbers, in fp16
	}{{7, 5, tensorrt}, {8, 0, flash}, {8, 9, flash}, {9, 0, cudnn}, {12, 0, cudnn}} {
		t.Run(fmt.Sprintf("%d.%d", c.major, c.minor), func(t *testing.T) {
			env, dir := nullGPU(t, c.major, c.minor)
			if dir == "" {
				return
			}
			for _, width := range []int{40, 64, 80, 160, 512} {
				for _, keys := range []int{4096, 77} {
					half := c.half
					if width > 160 {
						half = efficient
					}
					a := attention{width, keys}
					a.expect(t, env, dir, nn.Float32, efficient)
					a.expect(t, env, dir, nn.Float16, half)
				}
			}
		})
	}
}

// attention is one of 4096 queries in 8 heads.
type attention struct{ width, keys int }

// expect runs it and looks for kernels whose names are as given.
func (a attention) expect(t *testing.T, env *ort.Env, dir string, precision nn.Precision, kernels string) {
	t.Helper()
	w := 8 * a.width
	g, err := nn.Target{Provider: nn.CUDA, Precision: precision}.Build("attention", File{}, func(p nn.Scope) {
		q, k, v := p.Input("q", "batch", "queries", w), p.Input("k", "batch", "keys", w), p.Input("v", "batch", "keys", w)
		p.Output("y", nn.Attention(q, k, v, nn.Heads{Count: 8}))
	})
	must(t, err)
	s, err := env.NewSession(weightless(t, g), ort.Options{Name: "attention", Device: ort.Device{Provider: "cuda"}})
	must(t, err)
	defer s.Close()
	before := gputest.Counts(t, dir)
	_, err = s.Run(t.Context(), map[string]*tensor.Tensor{
		"q": tensor.New(1, 4096, w), "k": tensor.New(1, a.keys, w), "v": tensor.New(1, a.keys, w),
	})
	must(t, err)
	found := false
	for _, c := range gputest.Since(before, gputest.Counts(t, dir)) {
		found = found || regexp.MustCompile(kernels).MatchString(c.Name)
		if strings.HasPrefix(c.Name, "cublas") {
			t.Errorf("%+v in %s by %s", a, precision, c.Name)
		}
	}
	if !found {
		t.Errorf("%+v in %s: no kernel %s", a, precision, kernels)
	}
}

// realNetworks are those of Stable Diffusion 1, 2 and XL in their real sizes.
func realNetworks(t *testing.T) map[string]Network {
	all := list{}
	all.addCheckpoint(t, "sd15-full-fp16")
	shapes, err := weightstest.RealXL()
	must(t, err)
	xl, err := arch.Detect(File(shapes))
	must(t, err)
	all["sdxl vae decoder"] = Network{arch.Decoder(xl.VAE), arch.VAEDecoder, shapes, true}
	for _, text := range xl.Text {
		all["sdxl "+text.Name] = Network{arch.Tower(text.Weights), text.Net.Build, shapes, true}
	}
	unets := weightstest.RealUNets()
	unets["sd15 inpainting"] = weightstest.UNet{Channels: 320, In: 9, Multiples: []int{1, 2, 4, 4}, Depths: []int{1, 1, 1, 0}, Middle: 1, Blocks: 2, Context: 768, ConvProjection: true}
	for name, u := range unets {
		f := File(u.Shapes())
		c, err := arch.DetectUNet(f)
		must(t, err)
		all[name+" unet"] = Network{c.Model, c.UNet.Build, f, true}
	}
	return all
}

// onNullGPU runs a network and returns its operators, how many of each.
func (n Network) onNullGPU(t *testing.T, env *ort.Env, precision nn.Precision) map[string]int {
	t.Helper()
	g, err := nn.Target{Provider: nn.CUDA, Precision: precision}.Build("network", n.Weights, n.Build)
	must(t, err)
	path := filepath.Join(t.TempDir(), "profile")
	s, err := env.NewSession(weightless(t, g), ort.Options{Name: "network", Device: ort.Device{Provider: "cuda"}, Threads: 2, Placement: true, Profile: path})
	must(t, err)
	defer s.Close()
	in := Inputs(g)
	if n.Large {
		in = inputsOf(g, 1, 512)
	}
	bytes := int64(0)
	for _, v := range in {
		bytes += 4 * int64(len(v.Data))
	}
	_, err = s.Run(t.Context(), in)
	must(t, err)
	if crossed := s.Transfers(); crossed.In != bytes {
		t.Errorf("%d bytes went to the GPU, want the inputs' %d", crossed.In, bytes)
	}
	placed, err := s.Placement()
	must(t, err)
	for _, p := range placed {
		if p.Provider != "CUDA" {
			t.Errorf("%s runs on %s", p.Node, p.Provider)
		}
	}
	must(t, s.Close())
	ran := map[string]int{}
	for _, node := range profiled(t, path) {
		if node.Provider != "CUDAExecutionProvider" || strings.HasPrefix(node.Op, "Memcpy") {
			t.Errorf("%s ran on %s", node.Op, node.Provider)
		}
		ran[node.Op]++
	}
	return ran
}

// weightless completes a graph with weights of zeros in a file that takes up no
// room.
func weightless(t *testing.T, g *nn.Graph) *onnx.Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "zeros")
	m := &onnx.Model{
		Producer: "test", Opset: map[string]int64{"": 18, "com.microsoft": 1, winograd.Domain: winograd.Version}, Graph: g.ONNX,
	}
	m.Graph.Initializers = slices.Clone(g.ONNX.Initializers)
	largest := int64(0)
	for _, p := range g.Params {
		size := int64(4 * p.Shape.Elements())
		if p.Type == onnx.Float16 {
			size /= 2
		}
		var dims []int64
		for _, d := range p.Shape {
			dims = append(dims, int64(d))
		}
		largest = max(largest, size)
		m.Graph.Initializers = append(m.Graph.Initializers, onnx.Initializer{
			Name: p.Name, Type: p.Type, Dims: dims, External: &onnx.External{Path: path, Length: size},
		})
	}
	must(t, os.WriteFile(path, nil, 0o644))
	must(t, os.Truncate(path, largest))
	return m
}

// TestNullCUDANeeds bounds the memory that real networks take for a run in a new
// session, without what cuDNN's plans want: docs/devices.md lists it.
func TestNullCUDANeeds(t *testing.T) {
	env, dir := nullGPU(t, 9, 0)
	if dir == "" {
		return
	}
	all := realNetworks(t)
	for _, c := range []struct {
		network     string
		precision   nn.Precision
		batch, side int
		most        int // MiB
	}{
		{"sd15-full-fp16 unet", nn.Float16, 2, 512, 1850},
		{"sd21 unet", nn.Float16, 2, 768, 2050},
		{"sdxl unet", nn.Float16, 2, 1024, 5350},
		{"sdxl clip_g", nn.Float16, 1, 512, 1250},
		{"sdxl vae decoder", nn.Float32, 1, 512, 1250},
		{"sdxl vae decoder", nn.Float32, 1, 1024, 4250},
		{"sdxl vae decoder", nn.Float16, 1, 1024, 2200},
	} {
		n := all[c.network]
		g, err := nn.Target{Provider: nn.CUDA, Precision: c.precision}.Build("network", n.Weights, n.Build)
		must(t, err)
		s, err := env.NewSession(weightless(t, g), ort.Options{Name: "network", Device: ort.Device{Provider: "cuda"}, Threads: 2})
		must(t, err)
		_, err = s.Run(t.Context(), inputsOf(g, c.batch, c.side))
		must(t, err)
		must(t, s.Close())
		if most := gputest.MostBytes(t, dir, 0); most == 0 || most > c.most<<20 {
			t.Errorf("%+v: %d MiB", c, most>>20)
		}
	}
}

// inputsOf are zeros as Inputs for a batch of pictures of side by side pixels.
func inputsOf(g *nn.Graph, batch, side int) map[string]*tensor.Tensor {
	in := Inputs(g)
	for name, v := range in {
		shape := append(tensor.Shape{batch}, v.Shape[1:]...)
		if len(shape) == 4 {
			shape[2], shape[3] = side/8, side/8
			if shape[1] == 3 {
				shape[2], shape[3] = side, side
			}
		}
		in[name] = tensor.New(shape...)
	}
	return in
}
