package nodes

import (
	"context"
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// The choices of nodes that resize pictures: the same methods in the orders
// that ComfyUI's nodes show them.
type (
	imageMethod   string
	largestMethod string
	padMethod     string
	padColour     string
)

// scaleKinds are the choice inputs of addImageScaling.
func scaleKinds() []engine.Kind {
	return []engine.Kind{
		engine.Combo[imageMethod](engine.Choices(tensor.NearestExact, tensor.Bilinear, tensor.AreaMean, tensor.Bicubic, tensor.Lanczos)),
		engine.Combo[largestMethod](engine.Choices(tensor.AreaMean, tensor.Lanczos, tensor.Bilinear, tensor.NearestExact,
			tensor.Bilinear, tensor.Bicubic)), // bilinear is there twice in ComfyUI
		engine.Combo[padMethod](engine.Choices(tensor.AreaMean, tensor.Bicubic, tensor.NearestExact, tensor.Bilinear, tensor.Lanczos)),
		engine.Combo[padColour](engine.Choices("white", "black")),
	}
}

// addImageScaling declares the nodes that change the size of pictures.
func addImageScaling(c *engine.Catalog) {
	const category = "image/upscaling"
	engine.Add(c, "ImageScale", category, imageScale{Width: 512, Height: 512}, scaleImage).
		Title("Upscale Image").Doc("Resizes pictures to a size; a side of 0 follows from the other one.")
	engine.Add(c, "ImageScaleBy", category, imageScaleBy{Scale: 1}, scaleImageBy).
		Title("Upscale Image By").Doc("Resizes pictures by a factor.")
	engine.Add(c, "ImageScaleToTotalPixels", category, imageScaleToPixels{Megapixels: 1}, scaleImageToPixels).
		Module("comfy_extras.nodes_post_processing").V3().
		Doc("Resizes pictures to a number of pixels (1 megapixel is 1024 times 1024).")
	engine.Add(c, "ImageScaleToMaxDimension", category, imageScaleToLargest{Largest: 512}, scaleImageToLargest).
		Module("comfy_extras.nodes_images").Doc("Resizes pictures so that the longer side has a length.")
	engine.Add(c, "ResizeAndPadImage", "image/transform", padImage{Width: 512, Height: 512}, resizeAndPad).
		Module("comfy_extras.nodes_images").Doc("Resizes pictures to fit into a size and fills the rest with a colour.")
}

// resizeImage scales pictures, [batch, height, width, channel].
func resizeImage(img diffusion.Image, width, height int, method string) (diffusion.Image, error) {
	t, err := img.ChannelsFirst()
	if err != nil {
		return diffusion.Image{}, err
	}
	if t, err = tensor.Resize(t, width, height, method); err != nil {
		return diffusion.Image{}, err
	}
	t, err = t.ChannelsLast()
	return diffusion.Image{Tensor: t}, err
}

// cropImage cuts pictures around their middle to the ratio of a size.
func cropImage(img diffusion.Image, width, height int) (diffusion.Image, error) {
	t, err := img.ChannelsFirst()
	if err != nil {
		return diffusion.Image{}, err
	}
	if t, err = tensor.CenterCrop(t, width, height); err != nil {
		return diffusion.Image{}, err
	}
	t, err = t.ChannelsLast()
	return diffusion.Image{Tensor: t}, err
}

// sides are the width and height of a batch of pictures.
func sides(img diffusion.Image) (width, height float64) {
	return float64(img.Shape[2]), float64(img.Shape[1])
}

func round(v float64) int { return int(math.RoundToEven(v)) }

type imageScale struct {
	Image  diffusion.Image `in:"image"`
	Method imageMethod     `in:"upscale_method"`
	Width  int             `in:"width" range:"0,16384,1"`
	Height int             `in:"height" range:"0,16384,1"`
	Crop   cropMethod      `in:"crop"`
}

func scaleImage(_ context.Context, in imageScale) (diffusion.Image, error) {
	w, h := sides(in.Image)
	switch {
	case in.Width == 0 && in.Height == 0:
		return in.Image, nil
	case in.Width == 0:
		in.Width = max(1, round(w*float64(in.Height)/h))
	case in.Height == 0:
		in.Height = max(1, round(h*float64(in.Width)/w))
	}
	if in.Crop == "center" {
		var err error
		if in.Image, err = cropImage(in.Image, in.Width, in.Height); err != nil {
			return diffusion.Image{}, err
		}
	}
	return resizeImage(in.Image, in.Width, in.Height, string(in.Method))
}

type imageScaleBy struct {
	Image  diffusion.Image `in:"image"`
	Method imageMethod     `in:"upscale_method"`
	Scale  float64         `in:"scale_by" range:"0.01,8,0.01"`
}

func scaleImageBy(_ context.Context, in imageScaleBy) (diffusion.Image, error) {
	w, h := sides(in.Image)
	return resizeImage(in.Image, round(w*in.Scale), round(h*in.Scale), string(in.Method))
}

type imageScaleToPixels struct {
	Image      diffusion.Image `in:"image"`
	Method     imageMethod     `in:"upscale_method"`
	Megapixels float64         `in:"megapixels" range:"0.01,16,0.01"`
}

func scaleImageToPixels(_ context.Context, in imageScaleToPixels) (diffusion.Image, error) {
	w, h := sides(in.Image)
	by := math.Sqrt(math.Trunc(in.Megapixels*1024*1024) / (w * h))
	return resizeImage(in.Image, round(w*by), round(h*by), string(in.Method))
}

type imageScaleToLargest struct {
	Image   diffusion.Image `in:"image"`
	Method  largestMethod   `in:"upscale_method"`
	Largest int             `in:"largest_size" range:"0,16384,1"`
}

func scaleImageToLargest(_ context.Context, in imageScaleToLargest) (diffusion.Image, error) {
	w, h := sides(in.Image)
	width, height := in.Largest, in.Largest
	switch {
	case h > w:
		width = round(w / h * float64(in.Largest))
	case w > h:
		height = round(h / w * float64(in.Largest))
	}
	return resizeImage(in.Image, width, height, string(in.Method))
}

type padImage struct {
	Image  diffusion.Image `in:"image"`
	Width  int             `in:"target_width" range:"1,16384,1"`
	Height int             `in:"target_height" range:"1,16384,1"`
	Colour padColour       `in:"padding_color"`
	Method padMethod       `in:"interpolation"`
}

func resizeAndPad(_ context.Context, in padImage) (diffusion.Image, error) {
	w, h := sides(in.Image)
	by := min(float64(in.Width)/w, float64(in.Height)/h)
	small, err := resizeImage(in.Image, int(w*by), int(h*by), string(in.Method))
	if err != nil {
		return diffusion.Image{}, err
	}
	fill := float32(0)
	if in.Colour == "white" {
		fill = 1
	}
	out := tensor.Full(fill, in.Image.Shape[0], in.Height, in.Width, in.Image.Shape[3])
	x, y := (in.Width-small.Shape[2])/2, (in.Height-small.Shape[1])/2
	return diffusion.Image{Tensor: out}, paste(out, small.Tensor, x, y)
}

// paste copies pictures into larger ones, both [batch, height, width, channel].
func paste(dst, src *tensor.Tensor, x, y int) error {
	b, h, w, c := src.Shape[0], src.Shape[1], src.Shape[2]*src.Shape[3], src.Shape[3]
	if x < 0 || y < 0 || dst.Shape[0] != b || dst.Shape[3] != c || y+h > dst.Shape[1] || x*c+w > dst.Shape[2]*c {
		return fmt.Errorf("paste picture: %v at %d,%d does not fit into %v", src.Shape, x, y, dst.Shape)
	}
	for row := range b * h {
		at := ((row/h*dst.Shape[1]+row%h+y)*dst.Shape[2] + x) * c
		copy(dst.Data[at:at+w], src.Data[row*w:])
	}
	return nil
}
