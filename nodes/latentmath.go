package nodes

import (
	"context"
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

const latentModule = "comfy_extras.nodes_latent"

// addLatentMath declares the nodes that calculate with latents.
func addLatentMath(c *engine.Catalog) {
	const category = "latent/advanced"
	engine.Add(c, "LatentAdd", category, twoLatents{}, addLatent).V3().Module(latentModule).
		Doc("Adds two latents.")
	engine.Add(c, "LatentSubtract", category, twoLatents{}, subtractLatent).V3().Module(latentModule).
		Doc("Takes the second latent from the first one.")
	engine.Add(c, "LatentMultiply", category, latentMultiply{Multiplier: 1}, multiplyLatent).V3().Module(latentModule).
		Doc("Multiplies a latent by a number.")
	engine.Add(c, "LatentInterpolate", category, latentInterpolate{Ratio: 1}, interpolateLatents).V3().Module(latentModule).
		Doc("Mixes directions and lengths of two latents' pixels; a ratio of 1 gives the first latent.")
	engine.Add(c, "LatentBlend", "_for_testing", latentBlend{Factor: 0.5}, blendLatents).
		Title("Latent Blend").Doc("Mixes two latents; a factor of 1 gives the first one.")
	addLatentOperations(c)
}

type twoLatents struct {
	First  diffusion.Latent `in:"samples1"`
	Second diffusion.Latent `in:"samples2"`
}

func addLatent(_ context.Context, in twoLatents) (diffusion.Latent, error) {
	return in.combine(func(a, b float32) float32 { return a + b })
}

func subtractLatent(_ context.Context, in twoLatents) (diffusion.Latent, error) {
	return in.combine(func(a, b float32) float32 { return a - b })
}

// combine applies f to the values of both latents, of which the second one is
// fitted to the first. What else belongs to the first latent stays.
func (in twoLatents) combine(f func(a, b float32) float32) (diffusion.Latent, error) {
	l := in.First
	other, err := fitLatent(in.Second.Samples, l.Samples, tensor.Bilinear)
	if err != nil {
		return l, err
	}
	other = other.Repeat(l.Samples.Dim(0))
	l.Samples = l.Samples.Clone()
	for i, v := range other.Data {
		l.Samples.Data[i] = f(l.Samples.Data[i], v)
	}
	return l, nil
}

// fitLatent cuts t around its middle and resizes it to the size of another
// latent, unless it has that size. The number of items stays.
func fitLatent(t, like *tensor.Tensor, method string) (*tensor.Tensor, error) {
	if len(t.Shape) != 4 || len(like.Shape) != 4 {
		return nil, fmt.Errorf("fit latent: shapes %v and %v have not 4 dimensions", t.Shape, like.Shape)
	}
	if t.Dim(1) != like.Dim(1) {
		return nil, fmt.Errorf("fit latent: one has %d channels, the other %d", t.Dim(1), like.Dim(1))
	}
	w, h := like.Dim(3), like.Dim(2)
	if t.Dim(3) == w && t.Dim(2) == h {
		return t, nil
	}
	t, err := tensor.CenterCrop(t, w, h)
	if err != nil {
		return nil, err
	}
	return tensor.Resize(t, w, h, method)
}

type latentMultiply struct {
	Samples    diffusion.Latent `in:"samples"`
	Multiplier float64          `in:"multiplier" range:"-10,10,0.01"`
}

func multiplyLatent(_ context.Context, in latentMultiply) (diffusion.Latent, error) {
	l := in.Samples
	l.Samples = l.Samples.Clone()
	for i := range l.Samples.Data {
		l.Samples.Data[i] *= float32(in.Multiplier)
	}
	return l, nil
}

type latentInterpolate struct {
	First  diffusion.Latent `in:"samples1"`
	Second diffusion.Latent `in:"samples2"`
	Ratio  float64          `in:"ratio" range:"0,1,0.01"`
}

// interpolateLatents mixes the channel vectors of each pixel: the directions
// are mixed and brought back to length 1, then given the mixed length. A pixel
// without length has no direction and counts as 0.
func interpolateLatents(_ context.Context, in latentInterpolate) (diffusion.Latent, error) {
	l := in.First
	other, err := fitLatent(in.Second.Samples, l.Samples, tensor.Bilinear)
	if err != nil {
		return l, err
	}
	a, b := vectorsOf(l.Samples), vectorsOf(other.Repeat(l.Samples.Dim(0)))
	l.Samples = tensor.New(l.Samples.Shape...)
	out := vectorsOf(l.Samples)
	ratio, rest := float32(in.Ratio), float32(1-in.Ratio)
	for i := range a.count() {
		la, lb := a.length(i), b.length(i)
		for c := range a.channels {
			*out.at(i, c) = float32(quotient(*a.at(i, c), la)*ratio) + float32(quotient(*b.at(i, c), lb)*rest)
		}
		mixed, length := out.length(i), float32(la*ratio)+float32(lb*rest)
		for c := range a.channels {
			*out.at(i, c) = quotient(*out.at(i, c), mixed) * length
		}
	}
	return l, nil
}

// quotient is a/b, and 0 where both are 0.
func quotient(a, b float32) float32 {
	if b == 0 {
		return 0
	}
	return a / b
}

// vectors views a latent, [batch, channel, height, width], as one vector of
// channels per pixel.
type vectors struct {
	data           []float32
	channels, area int
}

func vectorsOf(t *tensor.Tensor) vectors {
	return vectors{data: t.Data, channels: t.Dim(1), area: t.Dim(2) * t.Dim(3)}
}

// count is the number of pixels.
func (v vectors) count() int { return len(v.data) / max(v.channels, 1) }

// at is channel c of pixel i.
func (v vectors) at(i, c int) *float32 {
	return &v.data[(i/v.area*v.channels+c)*v.area+i%v.area]
}

// length is the Euclidean length of pixel i.
func (v vectors) length(i int) float32 {
	var sum float32
	for c := range v.channels {
		x := *v.at(i, c)
		sum += float32(x * x)
	}
	return float32(math.Sqrt(float64(sum)))
}

type latentBlend struct {
	First  diffusion.Latent `in:"samples1"`
	Second diffusion.Latent `in:"samples2"`
	Factor float64          `in:"blend_factor" range:"0,1,0.01"`
}

func blendLatents(_ context.Context, in latentBlend) (diffusion.Latent, error) {
	l := in.First
	other, err := fitLatent(in.Second.Samples, l.Samples, tensor.Bicubic)
	if err != nil {
		return l, err
	}
	if n := other.Dim(0); n != 1 && n != l.Samples.Dim(0) {
		return l, fmt.Errorf("blend latents: one has %d items, the other %d", l.Samples.Dim(0), n)
	}
	other = other.Repeat(l.Samples.Dim(0))
	l.Samples = l.Samples.Clone()
	factor, rest := float32(in.Factor), float32(1-in.Factor)
	for i, v := range other.Data {
		l.Samples.Data[i] = float32(l.Samples.Data[i]*factor) + float32(v*rest)
	}
	return l, nil
}
