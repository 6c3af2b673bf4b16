package nodes

import (
	"context"
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// addInpainting declares the nodes that encode pictures with holes.
func addInpainting(c *engine.Catalog) {
	engine.Add(c, "VAEEncodeForInpaint", "latent/inpaint", encodeInpaint{Grow: 6}, encodeForInpaint).Device().
		Title("VAE Encode (for Inpainting)").
		Doc("Turns a picture into a latent with gray where the mask is white, and limits sampling to there and a little beyond.")
}

type encodeInpaint struct {
	Pixels diffusion.Image `in:"pixels"`
	VAE    *diffusion.VAE  `in:"vae"`
	Mask   diffusion.Mask  `in:"mask"`
	Grow   int             `in:"grow_mask_by" range:"0,64,1" doc:"By how many pixels the part to be painted is larger than the hole, so that the two blend."`
}

func encodeForInpaint(ctx context.Context, in encodeInpaint) (diffusion.Latent, error) {
	if in.VAE == nil {
		return diffusion.Latent{}, errNoVAE
	}
	pixels, mask, err := holed(in.Pixels, in.Mask)
	if err != nil {
		return diffusion.Latent{}, err
	}
	samples, err := in.VAE.Encode(ctx, pixels)
	if err != nil {
		return diffusion.Latent{}, err
	}
	noise := widened(mask, in.Grow)
	return diffusion.Latent{Samples: samples, NoiseMask: tensor.Of(noise.Data, noise.Dim(0), noise.Dim(2), noise.Dim(3))}, nil
}

// holed cuts pictures and mask to multiples of 8 pixels, rounds the mask, and
// makes the pictures gray where it is 1. The mask is [batch, 1, height, width].
func holed(im diffusion.Image, m diffusion.Mask) (diffusion.Image, *tensor.Tensor, error) {
	w, h := im.Shape[2], im.Shape[1]
	mask, err := tensor.Resize(planesOf(m), w, h, tensor.Bilinear)
	if err != nil {
		return im, nil, err
	}
	cut := tensor.Rect{X: w % latentPixel / 2, Y: h % latentPixel / 2, Width: w - w%latentPixel, Height: h - h%latentPixel}
	if mask, err = tensor.Crop(mask, cut); err != nil {
		return im, nil, fmt.Errorf("encode for inpainting: %w", err)
	}
	pixels, err := crop(context.Background(), imageCrop{Image: im, X: cut.X, Y: cut.Y, Width: cut.Width, Height: cut.Height})
	if err != nil {
		return im, nil, err
	}
	for i, v := range mask.Data {
		mask.Data[i] = float32(math.RoundToEven(float64(v)))
	}
	covers := mask.Repeat(pixels.Shape[0])
	channels := pixels.Shape[3]
	for i, v := range covers.Data {
		for c := range min(3, channels) {
			p := &pixels.Data[i*channels+c]
			*p = (*p-0.5)*(1-v) + 0.5
		}
	}
	return pixels, mask, nil
}

// widened is 1 wherever a square of n by n pixels around a pixel holds a 1. An
// even square reaches one pixel further to the left and up.
func widened(mask *tensor.Tensor, n int) *tensor.Tensor {
	if n == 0 {
		return mask
	}
	before := n / 2
	out := tensor.Extreme(mask, tensor.Window{Before: before, After: n - 1 - before}, tensor.Largest)
	for i, v := range out.Data {
		out.Data[i] = min(v, 1)
	}
	return out
}
