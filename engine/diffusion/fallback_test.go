package diffusion

import (
	"math"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// TestFallbacks takes a fallback where other entries leave room: beside an
// area, with the rest of a weight, at another time, nowhere.
func TestFallbacks(t *testing.T) {
	whole := rect{height: 2, width: 2}
	always := region{area: whole, strength: 1, start: math.Inf(1)}
	fallback, early, half, left, masked := always, always, always, always, always
	fallback.fallback, fallback.strength = true, 0.25
	early.end = 5
	half.strength = 0.5
	left.area, left.hasArea = rect{height: 2, width: 1}, true
	masked.mask = tensor.Of([]float32{1, 0.25, 0, 2}, 1, 2, 2)
	for _, c := range []struct {
		name string
		list []region
		want []float32 // nil for none
	}{
		{"nothing else", []region{fallback}, []float32{1, 1, 1, 1}},
		{"no room", []region{always, fallback}, nil},
		{"no fallback", []region{half}, nil},
		{"over by now", []region{early, fallback}, []float32{1, 1, 1, 1}},
		{"half strength", []region{half, fallback}, []float32{0.5, 0.5, 0.5, 0.5}},
		{"beside an area", []region{left, fallback}, []float32{0, 1, 0, 1}},
		{"beside a mask", []region{masked, fallback}, []float32{0, 0.75, 1, 0}},
		{"two leave nothing", []region{half, half, fallback}, nil},
	} {
		got := fallbacks(c.list, tensor.New(1, 4, 2, 2), 1)
		if c.want == nil {
			if len(got) != 0 {
				t.Errorf("%s: %v", c.name, got[0].mask.Data)
			}
			continue
		}
		if len(got) != 1 || got[0].strength != 1 || !slices.Equal(got[0].mask.Data, c.want) {
			t.Errorf("%s: %+v, want %v", c.name, got, c.want)
		}
	}
}

// TestFallbackSamples compares a fallback beside a masked prompt with the same
// prompt under the opposite mask.
func TestFallbackSamples(t *testing.T) {
	_, m, clip := patchRuntime(t, "sd15-tiny-fp16")
	mask, rest := tensor.New(1, 8, 8), tensor.Full(1, 1, 8, 8)
	for i := range 24 {
		mask.Data[i], rest.Data[i] = 1, 0
	}
	encode := func(prompt string, set func(*Cond)) Conditioning {
		c, err := clip.Encode(t.Context(), prompt)
		if err != nil {
			t.Fatal(err)
		}
		return c.Map(set)
	}
	fox := encode("a fox", func(e *Cond) { e.Mask = mask })
	negative := encode("", func(*Cond) {})
	run := func(other Conditioning) []float32 {
		out, err := Sample(t.Context(), Job{
			Guider: CFGGuider(m, append(fox[:1:1], other...), negative, 5), Sampler: Sampler{Name: "euler"},
			Sigmas: Sigmas{14, 3, 0}, Noise: Noise{Seed: 1}, Latent: Latent{Samples: tensor.New(1, 4, 8, 8)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out.Latent.Samples.Data
	}
	want := run(encode("a hill", func(e *Cond) { e.Mask = rest }))
	if got := run(encode("a hill", func(e *Cond) { e.Fallback = true })); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got[:4], want[:4])
	}
	if got := run(encode("a hill", func(*Cond) {})); slices.Equal(got, want) {
		t.Error("without a mask the picture is the same")
	}
}
