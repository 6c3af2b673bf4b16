package diffusion

import (
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// inputChannels names the channels that a network takes beside the latent's.
const inputChannels = "channels"

// moreChannels returns what the network takes beside the latent, nil for
// nothing.
func (j *run) moreChannels(e Cond) (*tensor.Tensor, error) {
	if j.model.edits {
		return j.editChannels(e)
	}
	return j.inpaintChannels(e)
}

// editChannels returns the latent of the picture that is to be changed, [batch,
// channels, height, width]: as the autoencoder gives it, or scaled where the
// network was trained so, as CosXL's. Without a picture it is 0.
// Source: Brooks et al., InstructPix2Pix, 2023;
// https://github.com/timothybrooks/instruct-pix2pix.
func (j *run) editChannels(e Cond) (*tensor.Tensor, error) {
	if e.ConcatLatent == nil {
		return tensor.New(j.latent.Shape...), nil
	}
	picture := e.ConcatLatent
	if j.model.editsScaled {
		picture = j.model.format.in(picture)
	}
	picture, err := fitted(picture, j.latent.Shape)
	if err != nil {
		return nil, fmt.Errorf("picture to be changed: %w", err)
	}
	return picture, nil
}

// inpaintChannels returns what the network of an inpainting checkpoint takes
// beside the latent, [batch, 1+channels, height, width]: the rounded mask and
// the latent of the picture with the masked part in grey; nil for other
// checkpoints. Both are the entry's, or else the run's noise mask and latent;
// without any mask all is masked.
func (j *run) inpaintChannels(e Cond) (*tensor.Tensor, error) {
	if !j.model.inpaints {
		return nil, nil
	}
	mask, picture := e.ConcatMask, j.latent
	if mask == nil {
		mask = j.mask
	}
	if mask == nil {
		return blankPicture(j.latent.Shape), nil
	}
	if e.ConcatLatent != nil {
		picture = j.model.format.in(e.ConcatLatent)
	}
	picture, err := fitted(picture, j.latent.Shape)
	if err != nil {
		return nil, fmt.Errorf("masked picture: %w", err)
	}
	h, w := mask.Dim(-2), mask.Dim(-1)
	mask, err = fitted(tensor.Of(mask.Data, len(mask.Data)/(h*w), 1, h, w), j.latent.Shape)
	if err != nil {
		return nil, fmt.Errorf("mask of the masked picture: %w", err)
	}
	mask = mask.Clone()
	for i, v := range mask.Data {
		mask.Data[i] = float32(math.RoundToEven(float64(v)))
	}
	return tensor.Concat(1, mask, picture)
}

// blankPicture is a mask of ones and a latent that is grey all over.
// Source: the network input of a fully masked picture, as published with
// https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-inpainting.
func blankPicture(shape tensor.Shape) *tensor.Tensor {
	values := []float32{1, 0.8223, -0.6876, 0.6364, 0.1380}
	out := tensor.New(shape[0], len(values), shape[2], shape[3])
	plane := shape[2] * shape[3]
	for i := range out.Data {
		out.Data[i] = values[i/plane%len(values)]
	}
	return out
}

// fitted resizes planes to a latent's size, cropped to its proportions, and
// takes or repeats items of the batch until there are as many.
func fitted(t *tensor.Tensor, shape tensor.Shape) (*tensor.Tensor, error) {
	h, w := shape[2], shape[3]
	if t.Dim(2) != h || t.Dim(3) != w {
		cropped, err := tensor.CenterCrop(t, w, h)
		if err != nil {
			return nil, err
		}
		if t, err = tensor.Resize(cropped, w, h, tensor.Bilinear); err != nil {
			return nil, err
		}
	}
	if t.Dim(0) == shape[0] {
		return t, nil
	}
	rows := make([]*tensor.Tensor, shape[0])
	for i := range rows {
		rows[i] = t.Index(batchItem(i, t.Dim(0), shape[0]))
	}
	return tensor.Stack(rows...)
}

// batchItem is the item of a batch of have that stands at place i where want
// are needed: spread evenly, the ends kept when there are too many.
func batchItem(i, have, want int) int {
	switch {
	case want >= have:
		return min(int((float64(i)+0.5)*float64(have)/float64(want)), have-1)
	case want == 1:
		return 0
	}
	return min(int(math.RoundToEven(float64(i)*float64(have-1)/float64(want-1))), have-1)
}

// DifferentialDiffusion makes the noise mask say from when on each pixel is
// repainted: those where it is 1 in the whole run, others in the later part of
// it. strength below 1 blends with the mask as it is, except 0, which
// counts as 1.
// Source: Levin and Fried, Differential Diffusion: Giving Each Pixel Its
// Strength, 2023.
func DifferentialDiffusion(strength float64) Patch {
	return Patch{name: fmt.Sprintf("differential diffusion %g", strength), start: func(g *guidance) (hooks, error) {
		m, sigmas := g.model.schedule, g.run.Sigmas
		first, last := m.Timestep(sigmas[0]), m.Timestep(max(m.SigmaMin(), sigmas[len(sigmas)-1]))
		return hooks{mask: func(mask []float32, sigma float32) []float32 {
			return thresholded(mask, (m.Timestep(sigma)-last)/(first-last), strength)
		}}, nil
	}}
}

// thresholded returns 1 where the mask reaches the threshold and 0 elsewhere,
// blended by strength with the mask.
func thresholded(mask []float32, threshold float32, strength float64) []float32 {
	out := make([]float32, len(mask))
	for i, v := range mask {
		if v >= threshold {
			out[i] = 1
		}
		if strength > 0 && strength < 1 {
			out[i] = float32(float32(strength)*out[i]) + float32(float32(1-strength)*v)
		}
	}
	return out
}
