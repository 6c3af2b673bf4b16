//go:build webgpu || nullcuda

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
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// sizeOps are the operators that compute shapes on the CPU, from numbers that
// never are on the device. Range and Cast count the tokens of a text, to tell
// those before a token from those behind it.
var sizeOps = []string{"Cast", "Concat", "Gather", "Range", "Shape", "Slice"}

// watchedOn returns a Runtime on a device and the sessions that it opens, by name.
func watchedOn(t *testing.T, device, library string) (*Runtime, map[string]*ort.Session) {
	t.Helper()
	r, err := Open(Options{
		Device: device, Precision: nn.Float32, Cache: &weights.Cache{Dir: t.TempDir()},
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

// checkStaysThere encodes two prompts, samples, decodes and encodes. No
// operator of any network runs on the CPU, but for those that compute shapes;
// and no step of the sampler copies more than latents and timesteps: what the
// prompts say crosses once.
func checkStaysThere(t *testing.T, r *Runtime, sessions map[string]*ort.Session) {
	t.Helper()
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
