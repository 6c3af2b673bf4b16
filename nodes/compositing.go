package nodes

import (
	"context"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

const compositingModule = "comfy_extras.nodes_compositing"

// addCompositing declares the nodes that lay pictures over each other.
func addCompositing(c *engine.Catalog) {
	engine.Add(c, "ImageCompositeMasked", "image", imageComposite{}, compositeImages).Module(masksModule).
		Doc("Lays one picture over another, where the mask is white.")
	engine.Add(c, "JoinImageWithAlpha", "mask/compositing", joinAlpha{}, join).Module(compositingModule).V3().
		Title("Join Image with Alpha").Doc("Makes pictures transparent where the mask is white.")
	engine.Add(c, "SplitImageWithAlpha", "mask/compositing", splitAlpha{}, split).Module(compositingModule).V3().
		Title("Split Image with Alpha").Doc("Takes the transparency of pictures as a mask.")
}

type imageComposite struct {
	Destination  diffusion.Image `in:"destination"`
	Source       diffusion.Image `in:"source"`
	X            int             `in:"x" range:"0,16384,1"`
	Y            int             `in:"y" range:"0,16384,1"`
	ResizeSource bool            `in:"resize_source"`
	Mask         *diffusion.Mask `in:"mask,optional"`
}

func compositeImages(_ context.Context, in imageComposite) (diffusion.Image, error) {
	dst, err := in.Destination.ChannelsFirst()
	if err != nil {
		return diffusion.Image{}, err
	}
	src, err := (diffusion.Image{Tensor: withChannels(in.Source.Tensor, dst.Shape[1])}).ChannelsFirst()
	if err != nil {
		return diffusion.Image{}, err
	}
	l := layer{source: src, mask: in.Mask, x: in.X, y: in.Y, resize: in.ResizeSource}
	if dst, err = l.over(dst); err != nil {
		return diffusion.Image{}, err
	}
	dst, err = dst.ChannelsLast()
	return diffusion.Image{Tensor: dst}, err
}

// layer is something to be laid over a tensor, [batch, channel, height, width],
// at a position in its own pixels. A nil mask covers everything; any other is
// resized to the source.
type layer struct {
	source *tensor.Tensor
	mask   *diffusion.Mask
	x, y   int
	resize bool // to the size of what it is laid over
}

// over returns dst with the layer on it; what sticks out is lost.
func (l layer) over(dst *tensor.Tensor) (*tensor.Tensor, error) {
	src, err := l.source, error(nil)
	if l.resize {
		if src, err = tensor.Resize(src, dst.Shape[3], dst.Shape[2], tensor.Bilinear); err != nil {
			return nil, err
		}
	}
	src = src.Repeat(dst.Shape[0])
	mask := tensor.Full(1, 1, 1, src.Shape[2], src.Shape[3])
	if l.mask != nil {
		if mask, err = tensor.Resize(planesOf(*l.mask), src.Shape[3], src.Shape[2], tensor.Bilinear); err != nil {
			return nil, err
		}
	}
	mask = mask.Repeat(src.Shape[0])
	out := dst.Clone()
	x, y := min(l.x, dst.Shape[3]), min(l.y, dst.Shape[2])
	h, w := min(src.Shape[2], dst.Shape[2]-y), min(src.Shape[3], dst.Shape[3]-x)
	for row := range dst.Shape[0] * dst.Shape[1] * h {
		plane, line := row/h, row%h
		to := out.Data[(plane*dst.Shape[2]+y+line)*dst.Shape[3]+x:][:w]
		from := src.Data[(plane*src.Shape[2]+line)*src.Shape[3]:][:w]
		weight := mask.Data[(plane/dst.Shape[1]*src.Shape[2]+line)*src.Shape[3]:][:w]
		for i, m := range weight {
			to[i] = float32(m*from[i]) + float32((1-m)*to[i])
		}
	}
	return out, nil
}

type joinAlpha struct {
	Image diffusion.Image `in:"image"`
	Alpha diffusion.Mask  `in:"alpha"`
}

func join(_ context.Context, in joinAlpha) (diffusion.Image, error) {
	mask, err := tensor.Resize(planesOf(in.Alpha), in.Image.Shape[2], in.Image.Shape[1], tensor.Bilinear)
	if err != nil {
		return diffusion.Image{}, err
	}
	n := max(in.Image.Shape[0], mask.Shape[0])
	mask = mask.Repeat(n)
	out := withChannels(withChannels(in.Image.Repeat(n), 3), 4)
	for i, v := range mask.Data {
		out.Data[4*i+3] = 1 - v
	}
	return diffusion.Image{Tensor: out}, nil
}

type splitAlpha struct {
	Image diffusion.Image `in:"image"`
}

func split(_ context.Context, in splitAlpha) (imageAndMask, error) {
	s := in.Image.Shape
	mask := tensor.New(s[0], s[1], s[2])
	if s[3] > 3 {
		for i := range mask.Data {
			mask.Data[i] = 1 - in.Image.Data[i*s[3]+3]
		}
	}
	return imageAndMask{diffusion.Image{Tensor: withChannels(in.Image.Tensor, 3)}, diffusion.Mask{Tensor: mask}}, nil
}
