//go:build webgpu

package diffusion

import (
	"maps"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// watched is watchedOn for WebGPU.
func watched(t *testing.T) (*Runtime, map[string]*ort.Session) {
	t.Helper()
	return watchedOn(t, "webgpu", orttest.Library(t))
}

// TestWebGPUStaysThere has networks stay on WebGPU.
func TestWebGPUStaysThere(t *testing.T) {
	r, sessions := watched(t)
	checkStaysThere(t, r, sessions)
}

// TestWebGPUBranches has LoRAs beside and in weights on WebGPU.
func TestWebGPUBranches(t *testing.T) {
	r, _ := watched(t)
	testBranches(t, r, nn.Target{Provider: nn.WebGPU, PlainAttention: true}, 1e-4)
}

// TestWebGPULikeCPU evaluates networks that were changed, steered or joined on
// WebGPU and on the CPU.
func TestWebGPULikeCPU(t *testing.T) {
	gpu, _ := watched(t)
	cpu := testRuntime(t, &weights.Cache{Dir: t.TempDir()})
	dir := t.TempDir()
	path := func(list string) string { return weightstest.Write(t, dir, list) }
	lora := func(list string) func(*testing.T, *Runtime) *tensor.Tensor {
		return func(t *testing.T, r *Runtime) *tensor.Tensor {
			s := tinyModel(t, r, path("sd15-tiny-fp16"))
			m, err := s.Model.WithLoRA(openLoRA(t, r, list), 0.8)
			if err != nil {
				t.Fatal(err)
			}
			return s.predicted(t, m, 1)
		}
	}
	tests := map[string]func(*testing.T, *Runtime) *tensor.Tensor{
		"kohya": lora("lora-kohya-sd15-tiny"), "convolutions": lora("lora-conv-sd15-tiny"), "loha": lora("loha-sd15-tiny"), "dora": lora("dora-sd15-tiny"),
		"control": func(t *testing.T, r *Runtime) *tensor.Tensor {
			s := tinyModel(t, r, path("sd15-tiny-fp16"))
			c, err := r.LoadControlNet(t.Context(), path("controlnet-sd15-tiny-fp16"))
			if err != nil {
				t.Fatal(err)
			}
			g := &guidance{model: s.Model}
			all, err := g.residuals(t.Context(), &Control{Net: c, Hint: s.hint, Strength: 0.7, End: 1}, s.evaluation)
			if err != nil {
				t.Fatal(err)
			}
			defer all.close()
			r.Free() // what stayed on the device moves to the host
			in := maps.Clone(s.evaluation.inputs)
			maps.Copy(in, all.tensors)
			out, err := s.Model.outputs(t.Context(), evaluation{x: s.x, inputs: in, kept: all.kept, sigma: 1})
			if err != nil {
				t.Fatal(err)
			}
			return out["out"]
		},
		"text": func(t *testing.T, r *Runtime) *tensor.Tensor {
			_, clip, _, err := r.LoadCheckpoint(t.Context(), path("sd15-tiny-fp16"))
			if err != nil {
				t.Fatal(err)
			}
			if clip, err = clip.WithLoRA(openLoRA(t, r, "lora-kohya-sd15-tiny"), 0.8); err != nil {
				t.Fatal(err)
			}
			c, err := clip.Encode(t.Context(), "a (red:1.2) house")
			if err != nil {
				t.Fatal(err)
			}
			return c[0].Text
		},
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		t.Run(name, func(t *testing.T) {
			compareTo(t, tests[name](t, gpu), tests[name](t, cpu), 1e-3)
			gpu.Free()
		})
	}
}
