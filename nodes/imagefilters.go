package nodes

import (
	"context"
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

type (
	blendMode  string
	ditherName string
)

// filterKinds are the choice inputs of addImageFilters.
func filterKinds() []engine.Kind {
	return []engine.Kind{
		engine.Combo[blendMode](engine.Choices("normal", "multiply", "screen", "overlay", "soft_light", "difference")),
		engine.Combo[ditherName](imagefile.Dithers),
		engine.Combo[morphology](engine.Choices("erode", "dilate", "open", "close", "gradient", "bottom_hat", "top_hat")),
		engine.Combo[stitchSide](engine.Choices("right", "down", "left", "up")),
		engine.Combo[spacingColour](engine.Choices("white", "black", "red", "green", "blue")),
		engine.Combo[porterDuffMode](engine.Choices(porterDuffModes...)),
	}
}

// addImageFilters declares the nodes that mix, blur, sharpen and reduce
// pictures.
func addImageFilters(c *engine.Catalog) {
	const category, module = "image/postprocessing", "comfy_extras.nodes_post_processing"
	engine.Add(c, "ImageBlend", category, imageBlend{Factor: 0.5}, blendImages).V3().Module(module).
		Doc("Mixes two pictures as layers of a paint program do.")
	engine.Add(c, "ImageBlur", category, imageBlur{Radius: 1, Sigma: 1}, blur).V3().Module(module).
		Doc("Blurs pictures.")
	engine.Add(c, "ImageSharpen", category, imageSharpen{Radius: 1, Sigma: 1, Alpha: 1}, sharpen).V3().Module(module).
		Doc("Sharpens pictures.")
	engine.Add(c, "ImageQuantize", category, imageQuantize{Colours: 256}, quantize).V3().Module(module).
		Doc("Reduces pictures to a number of colours.")
	engine.Add(c, "ImageAddNoise", "image", imageNoise{Strength: 0.5}, addImageNoise).Module(imagesModule).
		Doc("Adds random noise to pictures.")
	addImageShapes(c)
	addStitching(c)
	addPorterDuff(c)
}

type imageBlend struct {
	First  diffusion.Image `in:"image1"`
	Second diffusion.Image `in:"image2"`
	Factor float64         `in:"blend_factor" range:"0,1,0.01"`
	Mode   blendMode       `in:"blend_mode"`
}

func blendImages(_ context.Context, in imageBlend) (diffusion.Image, error) {
	f, ok := blends[in.Mode]
	if !ok {
		return diffusion.Image{}, fmt.Errorf("blend images: %q is no mode", in.Mode)
	}
	a := in.First.Tensor
	b, err := fitImage(diffusion.Image{Tensor: withChannels(in.Second.Tensor, a.Shape[3])}, in.First)
	if err != nil {
		return diffusion.Image{}, err
	}
	n := max(a.Shape[0], b.Shape[0])
	if min(a.Shape[0], b.Shape[0]) != n && min(a.Shape[0], b.Shape[0]) != 1 {
		return diffusion.Image{}, fmt.Errorf("blend images: one batch has %d pictures, the other %d", a.Shape[0], b.Shape[0])
	}
	out, upper := a.Repeat(n).Clone(), b.Repeat(n)
	factor, rest := float32(in.Factor), float32(1-in.Factor)
	for i, v := range out.Data {
		v = float32(v*rest) + float32(f(v, upper.Data[i])*factor)
		out.Data[i] = min(max(v, 0), 1)
	}
	return diffusion.Image{Tensor: out}, nil
}

// fitImage cuts pictures around their middle and resizes them to the size of
// others, unless they have it.
func fitImage(im, like diffusion.Image) (diffusion.Image, error) {
	w, h := like.Shape[2], like.Shape[1]
	if im.Shape[2] == w && im.Shape[1] == h {
		return im, nil
	}
	im, err := cropImage(im, w, h)
	if err != nil {
		return im, err
	}
	return resizeImage(im, w, h, tensor.Bicubic)
}

// blends are the formulas of blend modes for a lower value a and an upper one
// b; soft light is that of the W3C's "Compositing and Blending", section 10.
var blends = map[blendMode]func(a, b float32) float32{
	"normal":     func(_, b float32) float32 { return b },
	"multiply":   func(a, b float32) float32 { return a * b },
	"screen":     func(a, b float32) float32 { return 1 - (1-a)*(1-b) },
	"overlay":    overlay,
	"soft_light": softLight,
	"difference": func(a, b float32) float32 { return a - b },
}

func overlay(a, b float32) float32 {
	if a <= 0.5 {
		return 2 * a * b
	}
	return 1 - 2*(1-a)*(1-b)
}

func softLight(a, b float32) float32 {
	if b <= 0.5 {
		return a - (1-2*b)*a*(1-a)
	}
	lit := float32(math.Sqrt(float64(a)))
	if a <= 0.25 {
		lit = ((16*a-12)*a + 4) * a
	}
	return a + (2*b-1)*(lit-a)
}

type imageBlur struct {
	Image  diffusion.Image `in:"image"`
	Radius int             `in:"blur_radius" range:"1,31,1"`
	Sigma  float64         `in:"sigma" range:"0.1,10,0.1"`
}

func blur(_ context.Context, in imageBlur) (diffusion.Image, error) {
	return channelsFirst(in.Image, tensor.Gaussian{Radius: in.Radius, Sigma: in.Sigma}.Blur)
}

// channelsFirst applies f to pictures in the layout that package tensor takes.
func channelsFirst(im diffusion.Image, f func(*tensor.Tensor) (*tensor.Tensor, error)) (diffusion.Image, error) {
	t, err := im.ChannelsFirst()
	if err != nil {
		return diffusion.Image{}, err
	}
	if t, err = f(t); err != nil {
		return diffusion.Image{}, err
	}
	t, err = t.ChannelsLast()
	return diffusion.Image{Tensor: t}, err
}

type imageSharpen struct {
	Image  diffusion.Image `in:"image"`
	Radius int             `in:"sharpen_radius" range:"1,31,1"`
	Sigma  float64         `in:"sigma" range:"0.1,10,0.01"`
	Alpha  float64         `in:"alpha" range:"0,5,0.01"`
}

func sharpen(_ context.Context, in imageSharpen) (diffusion.Image, error) {
	im, err := channelsFirst(in.Image, func(t *tensor.Tensor) (*tensor.Tensor, error) {
		return tensor.Gaussian{Radius: in.Radius, Sigma: in.Sigma}.Sharpen(t, in.Alpha)
	})
	if err != nil {
		return im, err
	}
	for i, v := range im.Data {
		im.Data[i] = min(max(v, 0), 1)
	}
	return im, nil
}

type imageQuantize struct {
	Image   diffusion.Image `in:"image"`
	Colours int             `in:"colors" range:"1,256,1"`
	Dither  ditherName      `in:"dither"`
}

func quantize(ctx context.Context, in imageQuantize) (diffusion.Image, error) {
	frames := make([]imagefile.Picture, in.Image.Shape[0])
	for i := range frames {
		if err := ctx.Err(); err != nil {
			return diffusion.Image{}, err
		}
		p, err := imagefile.FromTensor(in.Image.Tensor, i)
		if err != nil {
			return diffusion.Image{}, err
		}
		if frames[i], err = imagefile.Quantize(p, in.Colours, string(in.Dither)); err != nil {
			return diffusion.Image{}, err
		}
	}
	im, _, err := imagefile.Images(frames)
	return diffusion.Image{Tensor: im}, err
}

type imageNoise struct {
	Image    diffusion.Image `in:"image"`
	Seed     uint64          `in:"seed" range:"0,18446744073709551615" ui:"control_after_generate" doc:"The same seed gives the same noise."`
	Strength float64         `in:"strength" range:"0,1,0.01"`
}

func addImageNoise(_ context.Context, in imageNoise) (diffusion.Image, error) {
	out := sampling.Noise(in.Image.Shape, in.Seed, nil)
	for i, v := range in.Image.Data {
		out.Data[i] = min(max(v+float32(float32(in.Strength)*out.Data[i]), 0), 1)
	}
	return diffusion.Image{Tensor: out}, nil
}
