//go:build webgpu

package diffusion

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// sizeOps are the operators that compute shapes on the CPU, from numbers that
// never are on the device. Range and Cast count the tokens of a text, to tell
// those before a token from those behind it.
var sizeOps = []string{"Cast", "Concat", "Gather", "Range", "Shape", "Slice"}

// watched returns a Runtime on WebGPU and the sessions that it opens, by name.
func watched(t *testing.T) (*Runtime, map[string]*ort.Session) {
	t.Helper()
	library := orttest.Library(t)
	r, err := Open(Options{
		Device: "webgpu", Precision: nn.Float32, Cache: &weights.Cache{Dir: t.TempDir()},
		Choose: func(ctx context.Context, device string) (*ort.Choice, error) {
			return ort.Choose(ctx, device, func(string) (string, error) { return library, nil })
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	sessions := map[string]*ort.Session{}
	r.pool.open = func(ctx context.Context, m *onnx.Model, o ort.Options) (session, error) {
		o.Placement = true
		s, err := r.openSession(ctx, m, o)
		if err == nil {
			name := o.Name
			for i := 2; sessions[name] != nil; i++ {
				name = fmt.Sprintf("%s#%d", o.Name, i)
			}
			sessions[name] = s.(ortSession).Session
		}
		return s, err
	}
	return r, sessions
}

// TestWebGPUStaysThere encodes two prompts, samples, decodes and encodes. No
// operator of any network runs on the CPU, but for those that compute shapes;
// and no step of the sampler copies more than latents and timesteps: what the
// prompts say crosses once.
func TestWebGPUStaysThere(t *testing.T) {
	r, sessions := watched(t)
	m, clip, vae, err := r.LoadCheckpoint(t.Context(), weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	if err != nil {
		t.Fatal(err)
	}
	var conds []Conditioning
	for _, prompt := range []string{"a house", ""} {
		c, err := clip.Encode(t.Context(), prompt)
		if err != nil {
			t.Fatal(err)
		}
		conds = append(conds, c)
	}
	var steps []ort.Transfers
	_, err = Sample(t.Context(), Job{
		Guider: CFGGuider(m, conds[0], conds[1], 7), Sampler: Sampler{Name: "euler"}, Sigmas: Sigmas{8, 4, 2, 0},
		Latent: Latent{Samples: tensor.New(1, 4, 8, 8)}, OnStep: counted(sessions, &steps),
	})
	if err != nil {
		t.Fatal(err)
	}
	latents := 4 * int64(2*4*8*8) // of both sides, in bytes
	timesteps := 4 * int64(2)
	for i, s := range steps {
		in := latents + timesteps
		if i == 0 {
			in += 4 * int64(2*77*m.textWidth)
		}
		if s.In != in || s.Out != latents || s.Runs != 1 {
			t.Errorf("step %d copied %+v, want %d bytes in and %d out", i+1, s, in, latents)
		}
	}
	if len(steps) != 3 {
		t.Errorf("%d steps", len(steps))
	}
	im, err := vae.Decode(t.Context(), noisy(1, 4, 8, 8))
	if err == nil {
		_, err = vae.Encode(t.Context(), im)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(sessions)) {
		checkPlacement(t, name, sessions[name])
	}
	if len(sessions) != 4 {
		t.Errorf("sessions %v, want the text encoder, the UNet and both halves of the VAE", slices.Sorted(maps.Keys(sessions)))
	}
}

// counted notes at each step what the UNet's session copied since the last.
func counted(sessions map[string]*ort.Session, steps *[]ort.Transfers) func(sampling.Step) {
	var last ort.Transfers
	return func(sampling.Step) {
		now := sessions["unet"].Transfers()
		*steps = append(*steps, ort.Transfers{In: now.In - last.In, Out: now.Out - last.Out, Runs: now.Runs - last.Runs})
		last = now
	}
}

func checkPlacement(t *testing.T, name string, s *ort.Session) {
	t.Helper()
	placed, err := s.Placement()
	if err != nil {
		t.Fatal(err)
	}
	there, unexpected := 0, map[string]int{}
	for _, p := range placed {
		switch {
		case p.Provider != "CPU":
			there++
		case !slices.Contains(sizeOps, p.Op):
			unexpected[p.Op]++
		}
	}
	if len(unexpected) > 0 || there < 15 {
		t.Errorf("%s: %d operators on the device; unexpected on the CPU: %v", name, there, unexpected)
	}
	t.Logf("%s: %d operators on the device, %d on the CPU", name, there, len(placed)-there)
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
