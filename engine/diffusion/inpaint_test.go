package diffusion

import (
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// painting is a run of an inpainting checkpoint over two latents of 2x2.
func painting(mask *tensor.Tensor) *run {
	m := &Model{inpaints: true, format: latentFormat{scale: 2}}
	return &run{model: m, latent: tensor.Full(7, 2, 4, 2, 2), mask: mask}
}

func TestInpaintChannels(t *testing.T) {
	own := tensor.Of([]float32{0, 0.6, 0.4, 1}, 1, 1, 2, 2)
	large := tensor.New(1, 4, 4)
	for i := range large.Data {
		large.Data[i] = float32(i / 8) // the lower half
	}
	shown := Cond{ConcatMask: large, ConcatLatent: tensor.Full(5, 1, 4, 2, 2)}
	tests := []struct {
		name    string
		run     *run
		cond    Cond
		mask    []float32
		picture float32 // first channel, scaled
	}{
		{"nothing", painting(nil), Cond{}, []float32{1, 1, 1, 1}, 0.8223},
		{"the run's mask and latent", painting(own), Cond{}, []float32{0, 1, 0, 1}, 7},
		{"the entry's", painting(own), shown, []float32{0, 0, 1, 1}, 10},
		{"the entry's alone", painting(nil), shown, []float32{0, 0, 1, 1}, 10},
	}
	for _, c := range tests {
		got, err := c.run.inpaintChannels(c.cond)
		if err != nil || !got.Shape.Equal(tensor.Shape{2, 5, 2, 2}) {
			t.Errorf("%s: %v, %v", c.name, got, err)
			continue
		}
		for b := range 2 {
			item := got.Index(b).Data
			if !slices.Equal(item[:4], c.mask) || item[4] != c.picture || item[7] != c.picture {
				t.Errorf("%s, image %d: mask %v, picture %v; want %v and %g", c.name, b, item[:4], item[4:8], c.mask, c.picture)
			}
		}
	}
	if own.Data[1] != 0.6 {
		t.Error("the run's mask was changed")
	}
	plain := painting(own)
	plain.model.inpaints = false
	if got, err := plain.inpaintChannels(shown); got != nil || err != nil {
		t.Errorf("another checkpoint: %v, %v", got, err)
	}
}

func TestPlaygroundLatents(t *testing.T) {
	f, z := playground25(), tensor.Of([]float32{1, 2, 3, 4}, 1, 4, 1, 1)
	scaled := f.in(z)
	if want := []float32{0.15645, 0.00966, 0.33459, 0.14192}; !near(scaled.Data, want, 1e-4) {
		t.Errorf("scaled %v, want %v", scaled.Data, want)
	}
	if back := f.out(scaled); !near(back.Data, z.Data, 1e-5) {
		t.Errorf("unscaled %v, want %v", back.Data, z.Data)
	}
	m := (&Model{}).WithPlaygroundLatents()
	if got := m.scaled(tensor.New(1, 4, 1, 1)); !got.IsZero() {
		t.Errorf("an empty latent became %v", got.Data)
	}
}
