package sampling

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Inpaint keeps parts of a latent: where Mask is 1 the picture is made anew,
// where it is 0 it stays as Latent, in between it is mixed.
type Inpaint struct {
	Model  *Model
	Mask   *tensor.Tensor // the latent's shape, or [1 or batch, 1, height, width]
	Latent *tensor.Tensor // scaled for the network
	Noise  *tensor.Tensor // see InpaintNoise
	// At replaces the mask for a call at a noise level; nil keeps it. It gets the
	// mask spread to the latent's shape, which it must not change.
	At func(mask []float32, sigma float32) []float32
}

// Denoiser wraps a Denoiser: the state that it sees has the kept parts replaced
// by Latent at the same noise level, and its prediction has them replaced by
// Latent. The unconditional prediction is passed on as it is. It fails when the
// shapes do not fit.
func (p Inpaint) Denoiser(d Denoiser) (Denoiser, error) {
	if !p.Latent.Shape.Equal(p.Noise.Shape) {
		return nil, fmt.Errorf("inpaint: noise %v does not fit latent %v", p.Noise.Shape, p.Latent.Shape)
	}
	mask, err := spread(p.Mask, p.Latent.Shape)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, x *tensor.Tensor, sigma float32) (Denoised, error) {
		mask := mask
		if p.At != nil {
			mask = p.At(mask, sigma)
		}
		if len(x.Data) != len(mask) {
			return Denoised{}, fmt.Errorf("inpaint: state %v does not fit latent %v", x.Shape, p.Latent.Shape)
		}
		seen := tensor.New(x.Shape...)
		p.Model.addNoise(seen.Data, sigma, p.Noise.Data, p.Latent.Data)
		blend(seen.Data, x.Data, seen.Data, mask)
		out, err := d(ctx, seen, sigma)
		if err != nil {
			return Denoised{}, err
		}
		if out.X == nil || len(out.X.Data) != len(mask) {
			return Denoised{}, fmt.Errorf("inpaint: the prediction does not have the state's shape %v", x.Shape)
		}
		den := tensor.New(x.Shape...)
		blend(den.Data, out.X.Data, p.Latent.Data, mask)
		return Denoised{X: den, Uncond: out.Uncond}, nil
	}, nil
}

// blend sets dst = a·m + b·(1-m).
func blend(dst, a, b, m []float32) {
	for i := range dst {
		dst[i] = float32(a[i]*m[i]) + float32(b[i]*(1-m[i]))
	}
}

// spread repeats a mask over the batch and the channels of shape.
func spread(mask *tensor.Tensor, shape tensor.Shape) ([]float32, error) {
	if mask.Shape.Equal(shape) {
		return mask.Data, nil
	}
	bad := fmt.Errorf("inpaint: mask %v does not fit latent %v", mask.Shape, shape)
	if len(shape) < 3 || len(mask.Shape) != len(shape) || mask.Shape[1] != 1 {
		return nil, bad
	}
	plane, batch := shape[2:].Elements(), mask.Shape[0]
	if !mask.Shape[2:].Equal(shape[2:]) || batch != 1 && batch != shape[0] {
		return nil, bad
	}
	out := make([]float32, 0, shape.Elements())
	for b := range shape[0] {
		m := mask.Data[b%batch*plane:][:plane]
		for range shape[1] {
			out = append(out, m...)
		}
	}
	return out, nil
}
