package diffusion

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// WithSelfAttention returns the model with guidance away from a picture whose
// striking parts are blurred: where the tokens of the middle block together
// attend to a token more than to others, the negative side's prediction is
// blurred by a Gaussian of 9x9 latent pixels with standard deviation sigma, the
// network is asked for the negative side with that, and
// den + (blurred - prediction)·scale is the result. Latents of at most 4 pixels
// on a side are left as they are: the blur does not fit.
// Source: Hong et al., Improving Sample Quality of Diffusion Models Using
// Self-Attention Guidance, 2022.
func (m *Model) WithSelfAttention(scale, sigma float64) *Model {
	s := selfAttention{scale, sigma}
	p := Patch{name: fmt.Sprintf("self-attention %g %g", scale, sigma), all: true, start: fixed(hooks{evaluate: s.guide})}
	return m.withGraphPatch(always(arch.RecordAttention{})).WithPatch(p)
}

type selfAttention struct{ scale, sigma float64 }

func (s selfAttention) guide(ctx context.Context, c *call, den *tensor.Tensor) (*tensor.Tensor, error) {
	if min(den.Dim(2), den.Dim(3)) <= blurRadius || c.received == nil {
		return den, nil
	}
	blurred, err := s.blurred(c.uncond, c.received)
	if err != nil {
		return nil, err
	}
	state := tensor.New(den.Shape...)
	for i, x := range c.x.Data {
		state.Data[i] = blurred.Data[i] + x - c.uncond.Data[i]
	}
	last := len(c.lists) - 1
	preds, err := c.guidance.evaluate(ctx, c.lists[last:], state, c.sigma)
	if err != nil {
		return nil, err
	}
	out := tensor.New(den.Shape...)
	for i, v := range den.Data {
		out.Data[i] = v + float32((blurred.Data[i]-preds[0].Data[i])*float32(s.scale))
	}
	return out, nil
}

// blurRadius is that of the blur, in latent pixels.
const blurRadius = 4

// blurred returns x blurred where tokens received more than 1, their share if
// attention were even.
func (s selfAttention) blurred(x, received *tensor.Tensor) (*tensor.Tensor, error) {
	// Levels are halved upwards until there are as many pixels as tokens.
	h, w, tokens := x.Dim(2), x.Dim(3), received.Dim(1)
	for h*w > tokens {
		h, w = (h+1)/2, (w+1)/2
	}
	if h*w != tokens || received.Dim(0) != x.Dim(0) {
		return nil, fmt.Errorf("self-attention guidance: attention %v is not of the latent %v: it does not work with areas", received.Shape, x.Shape)
	}
	blurred, err := tensor.Gaussian{Radius: blurRadius, Sigma: s.sigma / blurRadius}.Blur(x)
	if err != nil {
		return nil, err
	}
	out := x.Clone()
	for i := range out.Data {
		column, row := i%x.Dim(3)*w/x.Dim(3), i/x.Dim(3)%x.Dim(2)*h/x.Dim(2)
		image := i / (x.Dim(1) * x.Dim(2) * x.Dim(3))
		if received.Data[image*tokens+row*w+column] > 1 {
			out.Data[i] = blurred.Data[i]
		}
	}
	return out, nil
}
