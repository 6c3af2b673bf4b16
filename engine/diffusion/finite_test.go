package diffusion

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// TestOverflowIsNamed runs a network that gives NaN at the second step.
func TestOverflowIsNamed(t *testing.T) {
	g := &fakeGPU{}
	runs := 0
	g.run = func(s *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
		out := s.outputs(in, 0)
		if runs++; runs == 2 {
			out["out"].Data[0], out["out"].Data[5] = float32(math.NaN()), float32(math.Inf(-1))
		}
		return out, nil
	}
	m, _ := g.load(t, Options{})
	text := NewCond(noisy(1, 77, m.textWidth), nil)
	_, err := Sample(t.Context(), Job{
		Guider: CFGGuider(m, Conditioning{text}, Conditioning{text}, 7), Sampler: Sampler{Name: "euler"}, Sigmas: Sigmas{8, 4, 2, 0},
		Latent: Latent{Samples: tensor.New(1, 4, 8, 8)},
	})
	var overflow *OverflowError
	if !errors.As(err, &overflow) {
		t.Fatalf("error %v", err)
	}
	if overflow.Network != "unet" || overflow.Output != "out" || overflow.Count != 2 {
		t.Errorf("overflow %+v", overflow)
	}
	if want := "step 2 of 3, at noise level 4: unet overflowed in fp16: 2 of 512 values of its output out"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
}

// TestVAERunsInFloat32 has an autoencoder overflow in half precision.
func TestVAERunsInFloat32(t *testing.T) {
	g := &fakeGPU{}
	g.run = func(s *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
		if s.half {
			return s.outputs(in, float32(math.NaN())), nil
		}
		return s.outputs(in, 0), nil
	}
	_, vae := g.load(t, Options{VAEPrecision: nn.Float16})
	for range 2 {
		im, err := vae.Decode(t.Context(), noisy(2, 4, 8, 8))
		if err != nil {
			t.Fatal(err)
		}
		if n := infinite(im.Data); n > 0 {
			t.Errorf("%d values are no numbers", n)
		}
		if _, err := vae.Encode(t.Context(), im); err != nil {
			t.Fatal(err)
		}
	}
	log := strings.Join(g.log, ", ")
	want := "open vae_decoder, run vae_decoder, open vae_decoder, run vae_decoder, run vae_decoder, " +
		"open vae_encoder, run vae_encoder, open vae_encoder, run vae_encoder, run vae_encoder, " +
		"run vae_decoder, run vae_decoder, run vae_encoder, run vae_encoder"
	if log != want {
		t.Errorf("done:\n%s\nwant:\n%s", log, want)
	}
	if len(g.notices) != 2 || !strings.Contains(g.notices[0], "vae_decoder overflowed in fp16") || !strings.HasSuffix(g.notices[0], "it runs in fp32 from now on") {
		t.Errorf("notices %q", g.notices)
	}
}

// huge are weights of which one is beyond the range of half precision; the norm
// behind it brings the numbers back.
type huge struct {
	nn.Weights
	name string
}

func (h huge) Lookup(name string) (nn.Source, bool) {
	src, ok := h.Weights.Lookup(name)
	if name != h.name {
		return src, ok
	}
	return src.Then(src.Shape, nn.Make{Name: "huge", Apply: func(dst []float32, parts []*tensor.Tensor) error {
		for i, v := range parts[0].Data {
			dst[i] = 1e7 * v
		}
		return nil
	}}), ok
}

// TestRealOverflow runs an autoencoder of half precision on the CPU: with a
// weight beyond its range it gives no numbers, and is run again in float32.
func TestRealOverflow(t *testing.T) {
	r := testRuntime(t, nil)
	var notices []string
	r.options.Notice = func(text string) { notices = append(notices, text) }
	_, _, vae, err := r.LoadCheckpoint(t.Context(), weightstest.Write(t, t.TempDir(), "sd15-tiny-fp32"))
	if err != nil {
		t.Fatal(err)
	}
	z := noisy(1, 4, 8, 8)
	decoded := func(c component) *tensor.Tensor {
		t.Helper()
		vae.decoder, err = newComponent(c)
		if err != nil {
			t.Fatal(err)
		}
		im, err := vae.Decode(t.Context(), z)
		if err != nil {
			t.Fatal(err)
		}
		return im.Tensor
	}
	c := *vae.decoder
	want := decoded(c)
	c.target = nn.Target{Precision: nn.Float16}
	compareTo(t, decoded(c), want, 0.01)
	if len(notices) > 0 {
		t.Errorf("ordinary weights overflow: %q", notices)
	}
	c.weights, c.variant, c.target = huge{c.weights, "decoder.conv_in.weight"}, "huge", nn.Target{}
	want = decoded(c)
	c.target = nn.Target{Precision: nn.Float16}
	compareTo(t, decoded(c), want, 0)
	if len(notices) != 1 {
		t.Errorf("notices %q", notices)
	}
}
