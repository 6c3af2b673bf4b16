package diffusion

import (
	"context"
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// RescaleCFG pulls the deviation of the guided velocity to that of the
// conditional one; multiplier blends from 0, no change, to 1. sd is taken per
// image, over all channels.
// Source: Lin et al., Common Diffusion Noise Schedules and Sample Steps Are
// Flawed, 2023, section 3.4.
func RescaleCFG(multiplier float64) Patch {
	return Patch{name: fmt.Sprintf("rescale cfg %g", multiplier), start: fixed(hooks{
		combine: func(_ context.Context, c *call) (*tensor.Tensor, error) {
			return rescale(c, multiplier), nil
		},
	})}
}

func rescale(c *call, multiplier float64) *tensor.Tensor {
	out := tensor.New(c.x.Shape...)
	s := float64(c.sigma)
	square, root := float32(s*s+1), float32(math.Sqrt(s*s+1))
	velocity := func(x, den float32) float32 { return (x/square - den) * root / c.sigma }
	for b := range c.x.Dim(0) {
		x, cond, uncond, dst := c.x.Index(b).Data, c.cond.Index(b).Data, c.uncond.Index(b).Data, out.Index(b).Data
		positive := make([]float32, len(x))
		for i := range x {
			vc, vu := velocity(x[i], cond[i]), velocity(x[i], uncond[i])
			positive[i], dst[i] = vc, vu+float32(float32(c.cfg)*(vc-vu))
		}
		ratio := float32(deviation(positive) / deviation(dst))
		for i, v := range dst {
			v = float32(float32(multiplier)*(v*ratio)) + float32(float32(1-multiplier)*v)
			dst[i] = x[i]/square - v*c.sigma/root
		}
	}
	return out
}

// deviation returns the standard deviation, with n-1 degrees of freedom.
func deviation(v []float32) float64 {
	var sum, squares float64
	for _, x := range v {
		sum += float64(x)
	}
	mean := sum / float64(len(v))
	for _, x := range v {
		squares += (float64(x) - mean) * (float64(x) - mean)
	}
	return math.Sqrt(squares / float64(len(v)-1))
}

// CFGNorm shortens the guided prediction, per pixel over the channels, to the
// length of the conditional one where it is longer, and scales it by strength.
func CFGNorm(strength float64) Patch {
	return Patch{name: fmt.Sprintf("cfg norm %g", strength), start: fixed(hooks{
		after: func(c *call, den *tensor.Tensor) *tensor.Tensor {
			out := den.Clone()
			eachPixel(den, func(at []int) {
				scale := float32(lengthAt(c.cond, at)) / (float32(lengthAt(den, at)) + 1e-8)
				for _, i := range at {
					out.Data[i] = den.Data[i] * min(max(scale, 0), 1) * float32(strength)
				}
			})
			return out
		},
	})}
}

// eachPixel calls f with the indexes of each pixel's channels in a tensor
// [batch, channel, …].
func eachPixel(t *tensor.Tensor, f func(at []int)) {
	channels := t.Dim(1)
	plane := t.Shape[2:].Elements()
	at := make([]int, channels)
	for b := range t.Dim(0) {
		for p := range plane {
			for c := range at {
				at[c] = (b*channels+c)*plane + p
			}
			f(at)
		}
	}
}

func lengthAt(t *tensor.Tensor, at []int) float64 {
	var sum float64
	for _, i := range at {
		sum += float64(t.Data[i]) * float64(t.Data[i])
	}
	return math.Sqrt(sum)
}

// CFGZeroStar scales the unconditional direction, per image, by the factor that
// brings it closest to the conditional one.
// Source: Fan et al., CFG-Zero*: Improved Classifier-Free Guidance for Flow
// Matching Models, 2025.
func CFGZeroStar() Patch {
	return Patch{name: "cfg zero star", start: fixed(hooks{
		after: func(c *call, den *tensor.Tensor) *tensor.Tensor {
			out := den.Clone()
			for b := range den.Dim(0) {
				x, cond, uncond, dst := c.x.Index(b).Data, c.cond.Index(b).Data, c.uncond.Index(b).Data, out.Index(b).Data
				a := float32(projection(x, cond, uncond))
				for i, u := range uncond {
					dst[i] = dst[i] + float32(u*(a-1)) + float32(float32(float32(c.cfg)*u)*(1-a))
				}
			}
			return out
		},
	})}
}

// projection returns how much of x-uncond is in x-cond.
func projection(x, cond, uncond []float32) float64 {
	dot, square := 0.0, 1e-8
	for i, v := range x {
		p, n := float64(v-cond[i]), float64(v-uncond[i])
		dot, square = dot+p*n, square+n*n
	}
	return dot / square
}

// PerpNegPatch is PerpNegGuider for a model that is guided by two
// conditionings.
func PerpNegPatch(empty Conditioning, scale float64) Patch {
	return Patch{name: fmt.Sprintf("perp neg %g %s", scale, empty.Digest()), start: func(g *guidance) (hooks, error) {
		lists, err := g.resolve([]Conditioning{empty})
		if err != nil {
			return hooks{}, err
		}
		return hooks{combine: func(ctx context.Context, c *call) (*tensor.Tensor, error) {
			preds, err := g.evaluate(ctx, lists, c.x, c.sigma)
			if err != nil {
				return nil, err
			}
			return perpNeg(c.pair, preds[0], scale), nil
		}}, nil
	}}
}
