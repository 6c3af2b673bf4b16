package diffusion

import (
	"context"
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine/sampling"
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
// Source: the rule of ComfyUI's node of that name, checked against its pictures.
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

// RenormCFG limits the length of the guided prediction, per image, to limit
// times that of the conditional one; 0 sets no limit. Guidance begins below the
// noise level begin: above it the conditional prediction is taken as it is.
// Source: Qin et al., Lumina-Image 2.0, 2025, section on inference.
func RenormCFG(begin, limit float64) Patch {
	return Patch{name: fmt.Sprintf("renorm cfg %g %g", begin, limit), start: fixed(hooks{
		combine: func(_ context.Context, c *call) (*tensor.Tensor, error) {
			if c.sigma >= float32(begin) {
				return c.cond.Clone(), nil
			}
			out := lerp(c.uncond, c.cond, float32(c.cfg))
			if limit <= 0 {
				return out, nil
			}
			for b := range out.Dim(0) {
				longest, length := float32(norm(c.cond.Index(b).Data))*float32(limit), float32(norm(out.Index(b).Data))
				if length >= longest {
					scale(out.Index(b).Data, longest/length)
				}
			}
			return out, nil
		},
	})}
}

func norm(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}

func scale(v []float32, f float32) {
	for i := range v {
		v[i] *= f
	}
}

// TCFG keeps of the unconditional score, per image, only what lies along the
// main direction of both scores, the first right singular vector of the two.
// Source: Kwon et al., TCFG: Tangential Damping Classifier-free Guidance, 2025.
func TCFG() Patch {
	return Patch{name: "tcfg", start: fixed(hooks{
		before: func(c *call) error {
			if !c.both {
				return nil
			}
			out := tensor.New(c.x.Shape...)
			for b := range c.x.Dim(0) {
				damp(out.Index(b).Data, c.x.Index(b).Data, c.cond.Index(b).Data, c.uncond.Index(b).Data)
			}
			c.uncond = out
			return nil
		},
	})}
}

// damp sets dst to x + the part of uncond-x along the first right singular
// vector of the rows uncond-x and cond-x. That vector is a combination of the
// rows with the weights of the larger eigenvector of their 2×2 Gram matrix.
func damp(dst, x, cond, uncond []float32) {
	var uu, uc, cc float64
	for i, v := range x {
		u, c := float64(uncond[i]-v), float64(cond[i]-v)
		uu, uc, cc = uu+u*u, uc+u*c, cc+c*c
	}
	angle := math.Atan2(2*uc, uu-cc) / 2
	wu, wc := math.Cos(angle), math.Sin(angle)
	square := wu*wu*uu + 2*wu*wc*uc + wc*wc*cc // of the vector's length
	if square == 0 {
		copy(dst, x)
		return
	}
	along := (wu*uu + wc*uc) / square
	for i, v := range x {
		dst[i] = v + float32(along*(wu*float64(uncond[i]-v)+wc*float64(cond[i]-v)))
	}
}

// Mahiro pulls the guided prediction towards the scaled conditional one, the
// more the less both, compared by direction, agree.
// Source: the guidance of that name by yoinked, 2024, as nodes of ComfyUI offer
// it.
func Mahiro() Patch {
	return Patch{name: "mahiro", start: fixed(hooks{
		after: func(c *call, den *tensor.Tensor) *tensor.Tensor {
			leap, uncond, merged := tensor.New(den.Shape...), tensor.New(den.Shape...), tensor.New(den.Shape...)
			for i, v := range den.Data {
				leap.Data[i] = c.cond.Data[i] * float32(c.cfg)
				uncond.Data[i] = signedRoot(c.uncond.Data[i] * float32(c.cfg))
				merged.Data[i] = signedRoot((leap.Data[i] + v) / 2)
			}
			agree := float32(2 * (meanCosine(uncond, merged) + 1))
			for i, v := range den.Data {
				leap.Data[i] = (float32(agree*v) + float32((4-agree)*leap.Data[i])) / 4
			}
			return leap
		},
	})}
}

func signedRoot(v float32) float32 {
	return float32(math.Copysign(math.Sqrt(math.Abs(float64(v))), float64(v)))
}

// meanCosine returns the mean over all pixels of the cosine between the channel
// vectors of a and b.
func meanCosine(a, b *tensor.Tensor) float64 {
	var sum, n float64
	eachPixel(a, func(at []int) {
		var dot float64
		for _, i := range at {
			dot += float64(a.Data[i]) * float64(b.Data[i])
		}
		sum += dot / (max(lengthAt(a, at), 1e-8) * max(lengthAt(b, at), 1e-8))
		n++
	})
	return sum / n
}

// ScaleEpsilon divides the predicted noise by a factor, against the drift that
// comes of a network seeing only its own states.
// Source: Ning et al., Elucidating the Exposure Bias in Diffusion Models, 2024.
func ScaleEpsilon(factor float64) Patch {
	return Patch{name: fmt.Sprintf("epsilon scaling %g", factor), all: true, start: fixed(hooks{
		after: func(c *call, den *tensor.Tensor) *tensor.Tensor {
			out := tensor.New(den.Shape...)
			for i, x := range c.x.Data {
				out.Data[i] = x - (x-den.Data[i])/float32(factor)
			}
			return out
		},
	})}
}

// ChangeDirection has f change the step from the unconditional prediction to
// the conditional one before guidance.
func ChangeDirection(f func(*tensor.Tensor) (*tensor.Tensor, error)) Patch {
	return Patch{name: "direction " + probed(f), start: fixed(hooks{before: func(c *call) error {
		return changeDirection(c, f)
	}})}
}

// probed identifies a function by what it makes of one latent.
func probed(f func(*tensor.Tensor) (*tensor.Tensor, error)) string {
	out, err := f(sampling.Noise(tensor.Shape{1, 4, 8, 8}, 0, nil))
	return digest(out, err)
}

func changeDirection(c *call, f func(*tensor.Tensor) (*tensor.Tensor, error)) error {
	direction := tensor.New(c.cond.Shape...)
	for i, u := range c.uncond.Data {
		direction.Data[i] = c.cond.Data[i] - u
	}
	changed, err := f(direction)
	if err != nil {
		return err
	}
	if !changed.Shape.Equal(c.cond.Shape) {
		return fmt.Errorf("change guidance: the operation made %v of %v", changed.Shape, c.cond.Shape)
	}
	out := tensor.New(c.cond.Shape...)
	for i, u := range c.uncond.Data {
		out.Data[i] = changed.Data[i] + u
	}
	c.cond = out
	return nil
}

// FrameCFG gives each image of the batch its own guidance scale, between least
// and the run's: rising from the first image to the last, or, with peak, rising
// to the middle and falling again.
// Source: Blattmann et al., Stable Video Diffusion, 2023; with a peak Voleti et
// al., SV3D, 2024.
func FrameCFG(least float64, peak bool) Patch {
	return Patch{name: fmt.Sprintf("frame cfg %g %t", least, peak), start: fixed(hooks{
		combine: func(_ context.Context, c *call) (*tensor.Tensor, error) {
			n := c.cond.Dim(0)
			out := tensor.New(c.cond.Shape...)
			for b := range n {
				at := float64(b) / float64(max(n-1, 1))
				if peak {
					at = 2 * math.Abs(at-math.Floor(at+0.5))
				}
				cfg := float32(least + at*(c.cfg-least))
				copy(out.Index(b).Data, lerp(c.uncond.Index(b), c.cond.Index(b), cfg).Data)
			}
			return out, nil
		},
	})}
}
