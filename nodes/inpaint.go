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
	pixels, mask, err := holed(ctx, in.Pixels, in.Mask)
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
func holed(ctx context.Context, im diffusion.Image, m diffusion.Mask) (diffusion.Image, *tensor.Tensor, error) {
	mask, cut, err := maskOver(im, m)
	if err != nil {
		return im, nil, err
	}
	mask = rounded(mask)
	pixels, err := grayed(ctx, im, mask, cut)
	return pixels, mask, err
}

// maskOver resizes a mask to pictures and cuts it to multiples of 8 pixels,
// [batch, 1, height, width]. cut is where it lies in the pictures.
func maskOver(im diffusion.Image, m diffusion.Mask) (mask *tensor.Tensor, cut tensor.Rect, err error) {
	w, h := im.Shape[2], im.Shape[1]
	if mask, err = tensor.Resize(planesOf(m), w, h, tensor.Bilinear); err != nil {
		return nil, cut, err
	}
	cut = tensor.Rect{X: w % latentPixel / 2, Y: h % latentPixel / 2, Width: w - w%latentPixel, Height: h - h%latentPixel}
	if mask, err = tensor.Crop(mask, cut); err != nil {
		return nil, cut, fmt.Errorf("encode for inpainting: %w", err)
	}
	return mask, cut, nil
}

// grayed cuts pictures and makes them gray where the mask rounds to 1.
func grayed(ctx context.Context, im diffusion.Image, mask *tensor.Tensor, cut tensor.Rect) (diffusion.Image, error) {
	pixels, err := crop(ctx, imageCrop{Image: im, X: cut.X, Y: cut.Y, Width: cut.Width, Height: cut.Height})
	if err != nil {
		return im, err
	}
	covers := rounded(mask).Repeat(pixels.Shape[0])
	channels := pixels.Shape[3]
	for i, v := range covers.Data {
		for c := range min(3, channels) {
			p := &pixels.Data[i*channels+c]
			*p = (*p-0.5)*(1-v) + 0.5
		}
	}
	return pixels, nil
}

func rounded(t *tensor.Tensor) *tensor.Tensor {
	out := t.Clone()
	for i, v := range out.Data {
		out.Data[i] = float32(math.RoundToEven(float64(v)))
	}
	return out
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
