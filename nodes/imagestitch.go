package nodes

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

type (
	stitchSide    string
	spacingColour string
)

// addStitching declares the node that puts pictures side by side.
func addStitching(c *engine.Catalog) {
	defaults := imageStitch{Side: "right", Match: true, Colour: "white"}
	engine.Add(c, "ImageStitch", "image/transform", defaults, stitchImages).Module(imagesModule).
		Title("Image Stitch").Doc("Puts a second picture beside, above or below the first one.")
}

type imageStitch struct {
	First   diffusion.Image  `in:"image1"`
	Side    stitchSide       `in:"direction"`
	Match   bool             `in:"match_image_size"`
	Spacing int              `in:"spacing_width" range:"0,1024,2"`
	Colour  spacingColour    `in:"spacing_color"`
	Second  *diffusion.Image `in:"image2,optional"`
}

// stitchImages repeats the last picture of the shorter batch. The second
// picture is resized to the length of the side that they share, or the smaller
// of the two is framed.
func stitchImages(_ context.Context, in imageStitch) (diffusion.Image, error) {
	if in.Second == nil {
		return in.First, nil
	}
	n := max(in.First.Shape[0], in.Second.Shape[0])
	a, b := lastRepeated(in.First, n), lastRepeated(*in.Second, n)
	var err error
	if in.Match {
		b, err = in.matched(b, a)
	} else {
		a, b, err = in.framed(a, b)
	}
	if err != nil {
		return diffusion.Image{}, err
	}
	return in.joined(sameChannels(a, b))
}

// axis is the dimension along which pictures are joined.
func (in imageStitch) axis() int {
	if in.Side == "left" || in.Side == "right" {
		return 2
	}
	return 1
}

// lastRepeated brings a batch to n pictures.
func lastRepeated(im diffusion.Image, n int) diffusion.Image {
	out := tensor.New(n, im.Shape[1], im.Shape[2], im.Shape[3])
	for i := range n {
		copy(out.Index(i).Data, im.Index(min(i, im.Shape[0]-1)).Data)
	}
	return diffusion.Image{Tensor: out}
}

// matched resizes a picture so that the side it shares with another one has
// the same length.
func (in imageStitch) matched(im, like diffusion.Image) (diffusion.Image, error) {
	w, h := sides(im)
	width, height := like.Shape[2], like.Shape[1]
	if in.axis() == 2 {
		width = int(float64(height) * (w / h))
	} else {
		height = int(float64(width) / (w / h))
	}
	return resizeImage(im, width, height, tensor.Lanczos)
}

// framed gives the picture whose shared side is shorter a frame there: white
// where the spacing is white, and else black.
func (in imageStitch) framed(a, b diffusion.Image) (x, y diffusion.Image, err error) {
	fill := float32(0)
	if in.Colour == "white" {
		fill = 1
	}
	shared := 3 - in.axis()
	n := max(a.Shape[shared], b.Shape[shared])
	frame := func(im diffusion.Image) (diffusion.Image, error) {
		shape := append(tensor.Shape(nil), im.Shape...)
		shape[shared] = n
		out := tensor.Full(fill, shape...)
		x, y := (shape[2]-im.Shape[2])/2, (shape[1]-im.Shape[1])/2
		return diffusion.Image{Tensor: out}, paste(out, im.Tensor, x, y)
	}
	if x, err = frame(a); err != nil {
		return x, y, err
	}
	y, err = frame(b)
	return x, y, err
}

// joined puts the spacing between two pictures. Its width is made even.
func (in imageStitch) joined(a, b diffusion.Image) (diffusion.Image, error) {
	if in.Side == "left" || in.Side == "up" {
		a, b = b, a
	}
	parts := []*tensor.Tensor{a.Tensor, b.Tensor}
	if in.Spacing > 0 {
		shape := append(tensor.Shape(nil), a.Shape...)
		shape[in.axis()] = in.Spacing + in.Spacing%2
		parts = []*tensor.Tensor{a.Tensor, in.spacing(shape), b.Tensor}
	}
	out, err := tensor.Concat(in.axis(), parts...)
	if err != nil {
		return diffusion.Image{}, fmt.Errorf("stitch images: %w", err)
	}
	return diffusion.Image{Tensor: out}, nil
}

func (in imageStitch) spacing(shape tensor.Shape) *tensor.Tensor {
	colour := map[spacingColour][4]float32{
		"white": {1, 1, 1, 1}, "black": {0, 0, 0, 1}, "red": {1, 0, 0, 1}, "green": {0, 1, 0, 1}, "blue": {0, 0, 1, 1},
	}[in.Colour]
	out := tensor.New(shape...)
	for i := range out.Data {
		out.Data[i] = colour[min(i%shape[3], 3)]
	}
	return out
}
