package nodes

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// porterDuffMode says how two pictures with alpha become one.
type porterDuffMode string

var porterDuffModes = []string{
	"ADD", "CLEAR", "DARKEN", "DST", "DST_ATOP", "DST_IN", "DST_OUT", "DST_OVER", "LIGHTEN", "MULTIPLY", "OVERLAY",
	"SCREEN", "SRC", "SRC_ATOP", "SRC_IN", "SRC_OUT", "SRC_OVER", "XOR",
}

// addPorterDuff declares the node that combines pictures with alpha.
func addPorterDuff(c *engine.Catalog) {
	engine.Add(c, "PorterDuffImageComposite", "mask/compositing", porterDuff{Mode: "DST"}, compositePorterDuff).V3().
		Module(compositingModule).Title("Porter-Duff Image Composite").
		Doc("Combines two pictures with transparency; the masks are white where a picture is transparent.")
}

type porterDuff struct {
	Source           diffusion.Image `in:"source"`
	SourceAlpha      diffusion.Mask  `in:"source_alpha"`
	Destination      diffusion.Image `in:"destination"`
	DestinationAlpha diffusion.Mask  `in:"destination_alpha"`
	Mode             porterDuffMode  `in:"mode"`
}

// compositePorterDuff works on as many pictures as the shortest batch has; the
// destination's size is the result's.
func compositePorterDuff(_ context.Context, in porterDuff) (imageAndMask, error) {
	if in.Source.Shape[3] != in.Destination.Shape[3] {
		return imageAndMask{}, fmt.Errorf("composite images: the source has %d channels, the destination %d", in.Source.Shape[3], in.Destination.Shape[3])
	}
	f, ok := porterDuffs[in.Mode]
	if !ok {
		return imageAndMask{}, fmt.Errorf("composite images: %q is no mode", in.Mode)
	}
	src, err := fitImage(in.Source, in.Destination)
	if err != nil {
		return imageAndMask{}, err
	}
	dst := in.Destination
	var masks [2]*tensor.Tensor
	for i, m := range []diffusion.Mask{in.SourceAlpha, in.DestinationAlpha} {
		planes := planesOf(m)
		im, err := fitImage(diffusion.Image{Tensor: tensor.Of(planes.Data, planes.Shape[0], planes.Shape[2], planes.Shape[3], 1)}, dst)
		if err != nil {
			return imageAndMask{}, err
		}
		masks[i] = im.Tensor
	}
	n := min(src.Shape[0], dst.Shape[0], masks[0].Shape[0], masks[1].Shape[0])
	channels := dst.Shape[3]
	img, mask := tensor.New(n, dst.Shape[1], dst.Shape[2], channels), tensor.New(n, dst.Shape[1], dst.Shape[2])
	for i := range mask.Data {
		s, d := layered{alpha: 1 - masks[0].Data[i]}, layered{alpha: 1 - masks[1].Data[i]}
		var out layered
		for k := i * channels; k < (i+1)*channels; k++ {
			s.colour, d.colour = src.Data[k]*s.alpha, dst.Data[k]*d.alpha
			out = f(s, d)
			img.Data[k] = out.straight()
		}
		mask.Data[i] = 1 - out.alpha
	}
	return imageAndMask{diffusion.Image{Tensor: img}, diffusion.Mask{Tensor: mask}}, nil
}

// layered is a colour value that is multiplied by its alpha.
type layered struct{ colour, alpha float32 }

// straight is the colour without alpha, 0 where there is next to none.
func (l layered) straight() float32 {
	if l.alpha <= 1e-5 {
		return 0
	}
	return min(max(l.colour/l.alpha, 0), 1)
}

// porterDuffs are the formulas of android.graphics.PorterDuff.Mode, most of
// them from Porter and Duff, "Compositing digital images", 1984. That of
// OVERLAY is as printed there, with source and destination crossed in the
// second case.
var porterDuffs = map[porterDuffMode]func(s, d layered) layered{
	"ADD": func(s, d layered) layered {
		return layered{min(max(s.colour+d.colour, 0), 1), min(max(s.alpha+d.alpha, 0), 1)}
	},
	"CLEAR":    func(_, _ layered) layered { return layered{} },
	"SRC":      func(s, _ layered) layered { return s },
	"DST":      func(_, d layered) layered { return d },
	"SRC_OVER": func(s, d layered) layered { return s.over(d) },
	"DST_OVER": func(s, d layered) layered { return d.over(s) },
	"SRC_IN":   func(s, d layered) layered { return s.times(d.alpha) },
	"DST_IN":   func(s, d layered) layered { return d.times(s.alpha) },
	"SRC_OUT":  func(s, d layered) layered { return s.times(1 - d.alpha) },
	"DST_OUT":  func(s, d layered) layered { return d.times(1 - s.alpha) },
	"SRC_ATOP": func(s, d layered) layered { return layered{s.colour*d.alpha + (1-s.alpha)*d.colour, d.alpha} },
	"DST_ATOP": func(s, d layered) layered { return layered{s.alpha*d.colour + (1-d.alpha)*s.colour, s.alpha} },
	"XOR": func(s, d layered) layered {
		a, b := s.times(1-d.alpha), d.times(1-s.alpha)
		return layered{a.colour + b.colour, a.alpha + b.alpha}
	},
	"DARKEN":   func(s, d layered) layered { return s.either(d, min(s.colour, d.colour)) },
	"LIGHTEN":  func(s, d layered) layered { return s.either(d, max(s.colour, d.colour)) },
	"MULTIPLY": func(s, d layered) layered { return layered{s.colour * d.colour, s.alpha * d.alpha} },
	"SCREEN":   func(s, d layered) layered { return layered{s.colour + d.colour - s.colour*d.colour, s.union(d)} },
	"OVERLAY": func(s, d layered) layered {
		if 2*d.colour < d.alpha {
			return layered{2 * s.colour * d.colour, s.union(d)}
		}
		return layered{s.alpha*d.alpha - 2*(d.alpha-s.colour)*(s.alpha-d.colour), s.union(d)}
	},
}

func (l layered) times(f float32) layered { return layered{l.colour * f, l.alpha * f} }

func (l layered) over(below layered) layered {
	rest := below.times(1 - l.alpha)
	return layered{l.colour + rest.colour, l.alpha + rest.alpha}
}

func (l layered) union(o layered) float32 { return l.alpha + o.alpha - l.alpha*o.alpha }

// either is each layer where the other one is transparent, and both where they
// overlap.
func (l layered) either(o layered, both float32) layered {
	return layered{(1-o.alpha)*l.colour + (1-l.alpha)*o.colour + both, l.union(o)}
}
