package diffusion

import (
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// TestGlimpseColours computes by hand what one latent pixel of each family looks
// like.
func TestGlimpseColours(t *testing.T) {
	// Two items, of which the first is shown.
	state := tensor.Of([]float32{1, -1, 0.5, 0, 9, 9, 9, 9}, 2, 4, 1, 1)
	xl := latentFormat{scale: 0.13025}
	for _, c := range []struct {
		name   string
		format latentFormat
		latent *tensor.Tensor
		want   []float32
	}{
		{"sd1", latentFormat{scale: 0.18215}, state, []float32{0.442375, 0.4102, 0.611875}},
		{"xl", xl, state, []float32{0.8903, 0.732725, 0.65405}},
		// The same latent, as Playground's network sees it.
		{"playground", playground25(), playground25().in(xl.out(state)), []float32{0.8903, 0.732725, 0.65405}},
	} {
		g := (&Model{format: c.format}).Glimpse(c.latent)
		got := g.Colours()
		if !got.Shape.Equal(tensor.Shape{1, 1, 1, 3}) || !near(got.Data, c.want, 1e-5) {
			t.Errorf("%s: %v %v, want %v", c.name, got.Shape, got.Data, c.want)
		}
		if want := map[bool]string{true: "taesd", false: "taesdxl"}[c.name == "sd1"]; g.TinyVAE() != want {
			t.Errorf("%s: decoded by %s, want %s", c.name, g.TinyVAE(), want)
		}
	}
}
