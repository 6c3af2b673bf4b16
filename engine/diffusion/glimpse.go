package diffusion

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Glimpse is what a run would end in, as predicted at one of its steps: the
// first item of its batch, in the scaled latent space of a family.
type Glimpse struct {
	runtime *Runtime
	space   latentSpace
	latent  *tensor.Tensor // [1, channel, height, width]
}

// Glimpse returns the glimpse that a prediction gives, Denoised of a
// sampling.Step. Nothing is computed yet.
func (m *Model) Glimpse(denoised *tensor.Tensor) Glimpse {
	g := Glimpse{runtime: m.runtime, latent: denoised.Index(0), space: spaceOf(m.format.scale)}
	if m.format.mean != nil {
		g.space = spaceOf(xlScale)
		g.latent = latentFormat{scale: xlScale}.in(m.format.out(g.latent))
	}
	return g
}

// latentSpace is how latents of a family are shown without its autoencoder.
type latentSpace struct {
	tiny string // one of TinyVAENames
	// factors are red, green and blue of each channel, bias those of nothing.
	factors [][3]float32
	bias    [3]float32
}

// xlScale is the latent scale of the autoencoder of Stable Diffusion XL, which
// that of Playground 2.5 is too.
const xlScale = 0.13025

// spaceOf returns the space of a latent scale. The factors are those of a linear
// fit of pictures to their latents; ComfyUI shows latents by the same ones.
func spaceOf(scale float32) latentSpace {
	if scale == xlScale {
		return latentSpace{"taesdxl", [][3]float32{
			{0.3651, 0.4232, 0.4341}, {-0.2533, -0.0042, 0.1068}, {0.1076, 0.1111, -0.0362}, {-0.3165, -0.2492, -0.2188},
		}, [3]float32{0.1084, -0.0175, -0.0011}}
	}
	return latentSpace{tiny: "taesd", factors: [][3]float32{
		{0.3512, 0.2297, 0.3227}, {0.3250, 0.4974, 0.2350}, {-0.2829, 0.1762, 0.2721}, {-0.2120, -0.2616, -0.7177},
	}}
}

// Colours shows each latent pixel as one colour: an image [1, height, width, 3].
func (g Glimpse) Colours() Image {
	h, w := g.latent.Dim(2), g.latent.Dim(3)
	out := tensor.New(1, h, w, 3)
	for i := range h * w {
		for k, sum := range g.space.bias {
			for c, f := range g.space.factors[:min(len(g.space.factors), g.latent.Dim(1))] {
				sum += float32(f[k] * g.latent.Data[c*h*w+i])
			}
			out.Data[3*i+k] = min(max((sum+1)/2, 0), 1)
		}
	}
	return Image{out}
}

// TinyVAE names the tiny autoencoder of the glimpse's family.
func (g Glimpse) TinyVAE() string { return g.space.tiny }

// Decode shows the glimpse through the decoder of the family's tiny autoencoder,
// the file at path: an image [1, 8·height, 8·width, 3].
func (g Glimpse) Decode(ctx context.Context, path string) (Image, error) {
	// The latent is scaled already, which the file's network expects.
	decoder, err := g.runtime.tinyHalf(ctx, tinyFile{path, g.space.tiny + "_glimpse", arch.TAESD{Scale: 1}.BuildDecoder})
	if err != nil {
		return Image{}, err
	}
	out, err := g.runtime.runWide(ctx, decoder, map[string]*tensor.Tensor{"z": g.latent})
	if err != nil {
		return Image{}, fmt.Errorf("decode preview: %w", err)
	}
	return picture(out["image"])
}
