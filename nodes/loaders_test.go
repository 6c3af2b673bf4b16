package nodes

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// loaderRuntime has one checkpoint in the folders of checkpoints, denoisers and
// text encoders.
func loaderRuntime(t *testing.T) (*Runtime, string) {
	t.Helper()
	dir := t.TempDir()
	folder := func(name string) string { return filepath.Join(dir, "models", name) }
	for _, name := range []string{"checkpoints", "diffusion_models", "text_encoders"} {
		if err := os.MkdirAll(folder(name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	file := weightstest.Write(t, folder("checkpoints"), "sdxl-tiny-fp16")
	base := filepath.Base(file)
	for _, name := range []string{"diffusion_models", "text_encoders"} {
		if err := os.Link(file, filepath.Join(folder(name), base)); err != nil {
			t.Fatal(err)
		}
	}
	return testRuntime(t, dir), base
}

// TestLoadUNet compares what UNETLoader loads with the checkpoint's own
// denoiser: the same as it is, near with weights rounded to 8 bits.
func TestLoadUNet(t *testing.T) {
	r, name := loaderRuntime(t)
	whole, err := r.loadCheckpoint(t.Context(), loadCheckpoint{Name: checkpointName(name)})
	if err != nil {
		t.Fatal(err)
	}
	sampled := func(m *diffusion.Model) *tensor.Tensor {
		cond, err := encodePrompt(t.Context(), encodeText{Text: "a cat", CLIP: whole.CLIP})
		if err != nil {
			t.Fatal(err)
		}
		out, err := r.sample(t.Context(), kSampler{
			Model: m, Seed: 1, Steps: 2, CFG: 1, Sampler: "euler", Scheduler: "normal", Positive: cond, Negative: cond,
			Latent: diffusion.Latent{Samples: tensor.New(1, 4, 8, 8)}, Denoise: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		return out.Samples
	}
	want := sampled(whole.Model)
	digests := map[string]weightDType{}
	for dtype, bound := range map[weightDType][2]float64{"default": {0, 0}, "fp8_e4m3fn": {1e-4, 1}, "fp8_e5m2": {1e-4, 1}} {
		m, err := r.loadUNet(t.Context(), loadUNet{Name: unetName(name), DType: dtype})
		if err != nil {
			t.Fatal(err)
		}
		if other, same := digests[m.Digest()]; same {
			t.Errorf("%s and %s have the same digest", other, dtype)
		}
		digests[m.Digest()] = dtype
		if d := distance(sampled(m), want); d < bound[0] || d > bound[1] {
			t.Errorf("%s: differs by %g of the deviation, want %g to %g", dtype, d, bound[0], bound[1])
		}
	}
}

// distance is the root of the mean squared difference, in deviations of want.
func distance(got, want *tensor.Tensor) float64 {
	var diff, square float64
	for i, w := range want.Data {
		diff += float64(got.Data[i]-w) * float64(got.Data[i]-w)
		square += float64(w) * float64(w)
	}
	return math.Sqrt(diff / square)
}

// TestLoadersRefuse checks what is said about what cannot be loaded.
func TestLoadersRefuse(t *testing.T) {
	r, name := loaderRuntime(t)
	for want, load := range map[string]func() error{
		"it seems to be a whole checkpoint": func() error {
			_, err := r.loadCLIP(t.Context(), loadCLIP{Name: clipName(name), Type: "stable_diffusion"})
			return err
		},
		"type sd3 is used otherwise": func() error {
			_, err := r.loadCLIP(t.Context(), loadCLIP{Name: clipName(name), Type: "sd3"})
			return err
		},
		"type flux are not supported; supported: sdxl": func() error {
			_, err := r.loadTwoCLIPs(t.Context(), loadTwoCLIPs{Name1: clipName(name), Name2: clipName(name), Type: "flux"})
			return err
		},
		"the text encoder has clip_l": func() error {
			whole, err := r.loadCheckpoint(t.Context(), loadCheckpoint{Name: checkpointName(name)})
			if err != nil {
				return err
			}
			whole.CLIP, err = setClipLayer(t.Context(), setLastLayer{CLIP: whole.CLIP, Stop: -1})
			if err != nil {
				return err
			}
			_, err = whole.CLIP.EncodeEach(t.Context(), map[string]string{"clip_g": ""})
			return err
		},
	} {
		if err := load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestEditConditioning encodes a picture for an editing model, cropped to whole
// latent pixels, and starts from nothing.
func TestEditConditioning(t *testing.T) {
	r, name := loaderRuntime(t)
	whole, err := r.loadCheckpoint(t.Context(), loadCheckpoint{Name: checkpointName(name)})
	if err != nil {
		t.Fatal(err)
	}
	cond, err := encodePrompt(t.Context(), encodeText{Text: "a cat", CLIP: whole.CLIP})
	if err != nil {
		t.Fatal(err)
	}
	pixels := diffusion.Image{Tensor: tensor.Full(0.25, 2, 19, 26, 3)}
	out, err := conditionEdit(t.Context(), editConditioning{Positive: cond, Negative: cond, VAE: whole.VAE, Pixels: pixels})
	if err != nil {
		t.Fatal(err)
	}
	want, err := whole.VAE.Encode(t.Context(), pixels)
	if err != nil {
		t.Fatal(err)
	}
	if !out.Latent.Samples.IsZero() || !out.Latent.Samples.Shape.Equal(tensor.Shape{2, 4, 2, 3}) {
		t.Errorf("starts from %v, want zeros of 2x3", out.Latent.Samples.Shape)
	}
	for _, side := range []diffusion.Conditioning{out.Positive, out.Negative} {
		if got := side[0].ConcatLatent; got == nil || distance(got, want) != 0 || side[0].ConcatMask != nil {
			t.Error("a side does not see the picture")
		}
	}
	if cond[0].ConcatLatent != nil {
		t.Error("the given conditioning was changed")
	}
	if _, err := conditionEdit(t.Context(), editConditioning{Positive: cond, Pixels: pixels}); err == nil {
		t.Error("no VAE: no error")
	}
	other, err := encodePrompt(t.Context(), encodeText{Text: "a dog", CLIP: whole.CLIP})
	if err != nil {
		t.Fatal(err)
	}
	told, err := encodeControlPrompt(t.Context(), encodeControlText{CLIP: whole.CLIP, In: cond, Text: "a dog"})
	if err != nil || distance(told[0].ControlText, other[0].Text) != 0 || distance(told[0].Text, cond[0].Text) != 0 {
		t.Errorf("the control's text is not that of its prompt, or the network's changed: %v", err)
	}
	if _, err := encodeControlPrompt(t.Context(), encodeControlText{In: cond}); err == nil {
		t.Error("no text encoder: no error")
	}
}
