package sampling

import (
	"slices"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Noise returns the initial noise of a latent of that shape, standard normal,
// bit for bit torch's on a CPU.
//
// Without batchIndex all images of the batch come from one draw. With it, image
// k gets draw number batchIndex[k] of single images, so an image keeps its noise
// when it is taken out of a batch; the first dimension of the result is then
// len(batchIndex). Negative indices give zeros.
func Noise(shape tensor.Shape, seed uint64, batchIndex []int) *tensor.Tensor {
	g := NewGenerator(seed)
	if len(batchIndex) == 0 || len(shape) == 0 {
		out := tensor.New(shape...)
		g.Normal(out.Data)
		return out
	}
	dims := slices.Clone(shape)
	dims[0] = len(batchIndex)
	out := tensor.New(dims...)
	image := make([]float32, dims[1:].Elements())
	for i := range slices.Max(batchIndex) + 1 {
		g.Normal(image)
		for k, index := range batchIndex {
			if index == i {
				copy(out.Data[k*len(image):], image)
			}
		}
	}
	return out
}

// InpaintNoise returns the noise that Inpaint mixes into the kept parts of the
// picture: the initial noise, except for the ddim sampler, which draws its own
// with the next seed.
func InpaintNoise(sampler string, initial *tensor.Tensor, seed uint64) *tensor.Tensor {
	if sampler != "ddim" {
		return initial
	}
	return Noise(initial.Shape, seed+1, nil)
}
