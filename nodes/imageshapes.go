package nodes

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// morphology is what the Morphology node does.
type morphology string

// addImageShapes declares the nodes that find edges, change shapes and convert
// colours.
func addImageShapes(c *engine.Catalog) {
	const module = "comfy_extras.nodes_morphology"
	engine.Add(c, "Canny", "image/preprocessors", cannyOf{Low: 0.4, High: 0.8}, canny).V3().
		Module("comfy_extras.nodes_canny").Doc("White edges on black, after Canny.")
	engine.Add(c, "Morphology", "image/postprocessing", morphologyOf{Size: 3}, morph).V3().Module(module).
		Title("ImageMorphology").Doc("Widens or narrows light parts of pictures.")
	engine.Add(c, "ImageRGBToYUV", "image/batch", rgbToYUV{}, splitYUV).V3().Module(module).
		Doc("Takes brightness and two colour differences of pictures apart.")
	engine.Add(c, "ImageYUVToRGB", "image/batch", yuvToRGB{}, joinYUV).V3().Module(module).
		Doc("Makes pictures of brightness and two colour differences.")
}

type cannyOf struct {
	Image diffusion.Image `in:"image"`
	Low   float64         `in:"low_threshold" range:"0.01,0.99,0.01"`
	High  float64         `in:"high_threshold" range:"0.01,0.99,0.01"`
}

func canny(_ context.Context, in cannyOf) (diffusion.Image, error) {
	edges, err := channelsFirst(in.Image, func(t *tensor.Tensor) (*tensor.Tensor, error) {
		return tensor.Canny(t, in.Low, in.High)
	})
	if err != nil {
		return edges, err
	}
	return diffusion.Image{Tensor: maskPicture(tensor.Of(edges.Data, edges.Shape[:3]...))}, nil
}

type morphologyOf struct {
	Image     diffusion.Image `in:"image"`
	Operation morphology      `in:"operation"`
	Size      int             `in:"kernel_size" range:"3,999,1"`
}

// morph works on each channel with a square of Size by Size pixels.
func morph(_ context.Context, in morphologyOf) (diffusion.Image, error) {
	w := tensor.Window{Before: in.Size / 2, After: in.Size - in.Size/2 - 1}
	dilate := func(t *tensor.Tensor) *tensor.Tensor { return tensor.Extreme(t, w, tensor.Largest) }
	erode := func(t *tensor.Tensor) *tensor.Tensor { return tensor.Extreme(t, w, tensor.Smallest) }
	return channelsFirst(in.Image, func(t *tensor.Tensor) (*tensor.Tensor, error) {
		switch in.Operation {
		case "erode":
			return erode(t), nil
		case "dilate":
			return dilate(t), nil
		case "open":
			return dilate(erode(t)), nil
		case "close":
			return erode(dilate(t)), nil
		case "gradient":
			return minus(dilate(t), erode(t)), nil
		case "bottom_hat":
			return minus(erode(dilate(t)), t), nil
		case "top_hat":
			return minus(t, dilate(erode(t))), nil
		}
		return nil, fmt.Errorf("change shapes: %q is no operation", in.Operation)
	})
}

func minus(a, b *tensor.Tensor) *tensor.Tensor {
	out := a.Clone()
	for i, v := range b.Data {
		out.Data[i] -= v
	}
	return out
}

type rgbToYUV struct {
	Image diffusion.Image `in:"image"`
}

// yuvImages are gray pictures of one component each.
type yuvImages struct {
	Y diffusion.Image `out:"Y"`
	U diffusion.Image `out:"U"`
	V diffusion.Image `out:"V"`
}

// splitYUV converts to the YCbCr of ITU-R BT.601, as kornia does: differences
// are scaled by 0.564 and 0.713 and moved by 0.5.
func splitYUV(_ context.Context, in rgbToYUV) (yuvImages, error) {
	rgb := withChannels(in.Image.Tensor, 3)
	var out [3]*tensor.Tensor
	for k := range out {
		out[k] = tensor.New(rgb.Shape[:3]...)
	}
	for i := range out[0].Data {
		r, g, b := rgb.Data[3*i], rgb.Data[3*i+1], rgb.Data[3*i+2]
		y := float32(0.299*r) + float32(0.587*g) + float32(0.114*b)
		out[0].Data[i], out[1].Data[i], out[2].Data[i] = y, float32((b-y)*0.564)+0.5, float32((r-y)*0.713)+0.5
	}
	gray := func(t *tensor.Tensor) diffusion.Image { return diffusion.Image{Tensor: maskPicture(t)} }
	return yuvImages{gray(out[0]), gray(out[1]), gray(out[2])}, nil
}

type yuvToRGB struct {
	Y diffusion.Image `in:"Y"`
	U diffusion.Image `in:"U"`
	V diffusion.Image `in:"V"`
}

// joinYUV takes the mean of each picture's channels as the component.
func joinYUV(_ context.Context, in yuvToRGB) (diffusion.Image, error) {
	if !in.Y.Shape[:3].Equal(in.U.Shape[:3]) || !in.Y.Shape[:3].Equal(in.V.Shape[:3]) {
		return diffusion.Image{}, fmt.Errorf("join Y, U and V: sizes %v, %v and %v differ", in.Y.Shape, in.U.Shape, in.V.Shape)
	}
	s := in.Y.Shape
	out := tensor.New(s[0], s[1], s[2], 3)
	for i := range len(out.Data) / 3 {
		y, u, v := meanChannel(in.Y, i), meanChannel(in.U, i)-0.5, meanChannel(in.V, i)-0.5
		rgb := [3]float32{y + float32(1.403*v), y - float32(0.714*v) - float32(0.344*u), y + float32(1.773*u)}
		for k, x := range rgb {
			out.Data[3*i+k] = min(max(x, 0), 1)
		}
	}
	return diffusion.Image{Tensor: out}, nil
}

// meanChannel is the mean of the channels of pixel i.
func meanChannel(im diffusion.Image, i int) float32 {
	c := im.Shape[3]
	var sum float32
	for _, v := range im.Data[i*c : (i+1)*c] {
		sum += v
	}
	return sum / float32(c)
}
