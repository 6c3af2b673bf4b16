package nodes

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// The choices of nodes that join and cut latents: an axis, with a minus where
// the second latent comes first.
type (
	joinAxis string
	cutAxis  string
)

// latentKinds are the choice inputs of addLatentShapes.
func latentKinds() []engine.Kind {
	return []engine.Kind{
		engine.Combo[joinAxis](engine.Choices("x", "-x", "y", "-y", "t", "-t")),
		engine.Combo[cutAxis](engine.Choices("x", "y", "t")),
		engine.Socket[latentOperation]("LATENT_OPERATION"),
	}
}

// addLatentShapes declares the nodes that cut, turn, join and overlay latents.
func addLatentShapes(c *engine.Catalog) {
	engine.Add(c, "LatentCrop", "latent/transform", latentCrop{Width: 512, Height: 512}, cropLatent).
		Title("Crop Latent").Doc("Cuts a rectangle out of a latent, in pixels of the picture.")
	engine.Add(c, "LatentFlip", "latent/transform", latentFlip{}, flipLatent).
		Title("Flip Latent").Doc("Mirrors a latent.")
	engine.Add(c, "LatentRotate", "latent/transform", latentRotate{}, rotateLatent).
		Title("Rotate Latent").Doc("Turns a latent clockwise.")
	engine.Add(c, "LatentBatch", "latent/batch", twoLatents{}, batchLatents).V3().Module(latentModule).
		Doc("Joins two batches; the second one is cut and resized to the size of the first.")
	engine.Add(c, "LatentConcat", "latent/advanced", latentConcat{}, concatLatents).V3().Module(latentModule).
		Doc("Puts two latents side by side, below each other, or behind each other.")
	engine.Add(c, "LatentCut", "latent/advanced", latentCut{Amount: 1}, cutLatent).V3().Module(latentModule).
		Doc("Takes a strip out of a latent; a negative index counts from the end.")
	engine.Add(c, "LatentComposite", "latent", latentComposite{}, compositeLatents).
		Title("Latent Composite").Doc("Lays one latent over another, with soft edges if wanted.")
	engine.Add(c, "LatentCompositeMasked", "latent", latentLayer{}, compositeMasked).Module(masksModule).
		Doc("Lays one latent over another, where the mask is white.")
}

type latentCrop struct {
	Samples diffusion.Latent `in:"samples"`
	Width   int              `in:"width" range:"64,16384,8"`
	Height  int              `in:"height" range:"64,16384,8"`
	X       int              `in:"x" range:"0,16384,8"`
	Y       int              `in:"y" range:"0,16384,8"`
}

// cropLatent moves a corner that lies too far out back to 8 latent pixels from
// the edge.
func cropLatent(_ context.Context, in latentCrop) (diffusion.Latent, error) {
	l := in.Samples
	w, h := l.Samples.Dim(3), l.Samples.Dim(2)
	if w < latentPixel || h < latentPixel {
		return l, fmt.Errorf("crop latent: %dx%d latent pixels, at least %d are needed", w, h, latentPixel)
	}
	x, y := min(in.X/latentPixel, w-latentPixel), min(in.Y/latentPixel, h-latentPixel)
	r := tensor.Rect{X: x, Y: y, Width: min(in.Width/latentPixel, w-x), Height: min(in.Height/latentPixel, h-y)}
	var err error
	l.Samples, err = tensor.Crop(l.Samples, r)
	return l, err
}

type latentFlip struct {
	Samples diffusion.Latent `in:"samples"`
	Method  flipMethod       `in:"flip_method"`
}

func flipLatent(ctx context.Context, in latentFlip) (diffusion.Latent, error) {
	return asImage(in.Samples, func(im diffusion.Image) (diffusion.Image, error) {
		return flip(ctx, imageFlip{Image: im, Method: in.Method})
	})
}

type latentRotate struct {
	Samples  diffusion.Latent `in:"samples"`
	Rotation rotation         `in:"rotation"`
}

func rotateLatent(ctx context.Context, in latentRotate) (diffusion.Latent, error) {
	return asImage(in.Samples, func(im diffusion.Image) (diffusion.Image, error) {
		return rotate(ctx, imageRotate{Image: im, Rotation: in.Rotation})
	})
}

// asImage applies f to the samples with the channels last.
func asImage(l diffusion.Latent, f func(diffusion.Image) (diffusion.Image, error)) (diffusion.Latent, error) {
	t, err := l.Samples.ChannelsLast()
	if err != nil {
		return l, err
	}
	im, err := f(diffusion.Image{Tensor: t})
	if err != nil {
		return l, err
	}
	l.Samples, err = im.ChannelsFirst()
	return l, err
}

// batchLatents joins two batches. Items that name no noise of their own keep
// that of their place in their own batch.
func batchLatents(_ context.Context, in twoLatents) (diffusion.Latent, error) {
	l := in.First
	other, err := fitLatent(in.Second.Samples, l.Samples, tensor.Bilinear)
	if err != nil {
		return l, err
	}
	indices := append([]int(nil), noiseIndices(in.First)...)
	l.BatchIndex = append(indices, noiseIndices(in.Second)...)
	l.Samples, err = tensor.Stack(l.Samples, other)
	return l, err
}

func noiseIndices(l diffusion.Latent) []int {
	if l.BatchIndex != nil {
		return l.BatchIndex
	}
	return counting(0, l.Samples.Dim(0))
}

// axisOf is the dimension that a letter stands for; t, the time of video
// models, is the channel of pictures.
func axisOf(letter byte) int {
	return map[byte]int{'x': 3, 'y': 2, 't': 1}[letter]
}

type latentConcat struct {
	First  diffusion.Latent `in:"samples1"`
	Second diffusion.Latent `in:"samples2"`
	Axis   joinAxis         `in:"dim"`
}

func concatLatents(_ context.Context, in latentConcat) (diffusion.Latent, error) {
	l := in.First
	a, b := l.Samples, in.Second.Samples.Repeat(l.Samples.Dim(0))
	if in.Axis[0] == '-' {
		a, b = b, a
	}
	var err error
	l.Samples, err = tensor.Concat(axisOf(in.Axis[len(in.Axis)-1]), a, b)
	return l, err
}

type latentCut struct {
	Samples diffusion.Latent `in:"samples"`
	Axis    cutAxis          `in:"dim"`
	Index   int              `in:"index" range:"-16384,16384,1"`
	Amount  int              `in:"amount" range:"1,16384,1"`
}

func cutLatent(_ context.Context, in latentCut) (diffusion.Latent, error) {
	l := in.Samples
	axis := axisOf(in.Axis[0])
	n := l.Samples.Dim(axis)
	first := min(in.Index, n-1)
	if in.Index < 0 {
		first = max(n+in.Index, 0)
	}
	var err error
	l.Samples, err = tensor.Narrow(l.Samples, axis, first, min(n-first, in.Amount))
	return l, err
}

type latentComposite struct {
	To      diffusion.Latent `in:"samples_to"`
	From    diffusion.Latent `in:"samples_from"`
	X       int              `in:"x" range:"0,16384,8"`
	Y       int              `in:"y" range:"0,16384,8"`
	Feather int              `in:"feather" range:"0,16384,8"`
}

// compositeLatents lays one latent over another. Feathering fades the edges
// that lie within the lower one, over feather/8 latent pixels.
func compositeLatents(_ context.Context, in latentComposite) (diffusion.Latent, error) {
	l := in.To
	from, to := in.From.Samples, l.Samples
	if from.Dim(1) != to.Dim(1) || from.Dim(0) != 1 && from.Dim(0) != to.Dim(0) {
		return l, fmt.Errorf("composite latents: %v cannot lie over %v", from.Shape, to.Shape)
	}
	x, y := in.X/latentPixel, in.Y/latentPixel
	w, h := min(from.Dim(3), to.Dim(3)-x), min(from.Dim(2), to.Dim(2)-y)
	if w <= 0 || h <= 0 {
		return l, nil
	}
	mask := tensor.Full(1, 1, from.Dim(2), from.Dim(3))
	if n := in.Feather / latentPixel; n > 0 {
		columns := fading{n: n, begin: x != 0, end: x+from.Dim(3) < to.Dim(3)}.factors(w)
		rows := fading{n: n, begin: y != 0, end: y+from.Dim(2) < to.Dim(2)}.factors(h)
		for i := range w * h {
			mask.Data[i/w*from.Dim(3)+i%w] = columns[i%w] * rows[i/w]
		}
	}
	var err error
	l.Samples, err = layer{source: from, mask: &diffusion.Mask{Tensor: mask}, x: x, y: y}.over(to)
	return l, err
}

// fading says at which ends of an axis a ramp of n steps begins.
type fading struct {
	n          int
	begin, end bool
}

func (f fading) factors(size int) []float32 {
	out := make([]float32, size)
	for i := range out {
		out[i] = 1
	}
	for t := range min(f.n, size) {
		step := float32(1 / float64(f.n) * float64(t+1))
		if f.begin {
			out[t] *= step
		}
		if f.end {
			out[size-1-t] *= step
		}
	}
	return out
}

type latentLayer struct {
	Destination  diffusion.Latent `in:"destination"`
	Source       diffusion.Latent `in:"source"`
	X            int              `in:"x" range:"0,16384,8"`
	Y            int              `in:"y" range:"0,16384,8"`
	ResizeSource bool             `in:"resize_source"`
	Mask         *diffusion.Mask  `in:"mask,optional"`
}

func compositeMasked(_ context.Context, in latentLayer) (diffusion.Latent, error) {
	out := in.Destination
	if in.Source.Samples.Dim(1) != out.Samples.Dim(1) {
		return out, fmt.Errorf("composite latents: one has %d channels, the other %d", in.Source.Samples.Dim(1), out.Samples.Dim(1))
	}
	l := layer{source: in.Source.Samples, mask: in.Mask, x: in.X / latentPixel, y: in.Y / latentPixel, resize: in.ResizeSource}
	var err error
	out.Samples, err = l.over(out.Samples)
	return out, err
}
