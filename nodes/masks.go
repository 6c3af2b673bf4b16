package nodes

import (
	"context"
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

type (
	colourChannel string
	maskOperation string
)

// maskKinds are the choice inputs of addMasks.
func maskKinds() []engine.Kind {
	return []engine.Kind{
		engine.Combo[colourChannel](engine.Choices("red", "green", "blue", "alpha")),
		engine.Combo[maskOperation](engine.Choices("multiply", "add", "subtract", "and", "or", "xor")),
	}
}

const masksModule = "comfy_extras.nodes_mask"

// addMasks declares the nodes that make and change masks.
func addMasks(c *engine.Catalog) {
	engine.Add(c, "InvertMask", "mask", invertMask{}, invertOfMask).Module(masksModule).
		Doc("Exchanges what is masked and what is not.")
	engine.Add(c, "MaskToImage", "mask", maskToImage{}, imageOfMask).Module(masksModule).
		Title("Convert Mask to Image").Doc("Shows a mask as a gray picture.")
	engine.Add(c, "ImageToMask", "mask", imageToMask{}, maskOfImage).Module(masksModule).
		Title("Convert Image to Mask").Doc("Takes one channel of a picture as a mask.")
	engine.Add(c, "ImageColorToMask", "mask", colourToMask{}, maskOfColour).Module(masksModule).
		Doc("Masks the pixels that have exactly one colour.")
	engine.Add(c, "SolidMask", "mask", solidMask{Value: 1, Width: 512, Height: 512}, newMask).Module(masksModule).
		Doc("A mask of one value.")
	engine.Add(c, "CropMask", "mask", cropMaskTo{Width: 512, Height: 512}, cropMask).Module(masksModule).
		Doc("Cuts a rectangle out of a mask.")
	engine.Add(c, "GrowMask", "mask", growMask{Tapered: true}, grow).Module(masksModule).
		Doc("Widens a mask by a number of pixels, or narrows it by a negative number.")
	engine.Add(c, "FeatherMask", "mask", featherMask{}, feather).Module(masksModule).
		Doc("Lets a mask fade towards its edges.")
	engine.Add(c, "ThresholdMask", "mask", thresholdMask{Value: 0.5}, threshold).Module(masksModule).
		Doc("Makes a mask black and white: white above a value.")
	engine.Add(c, "MaskComposite", "mask", maskComposite{}, combineMasks).Module(masksModule).
		Doc("Combines a mask with another one that is laid over it.")
	addCompositing(c)
}

type invertMask struct {
	Mask diffusion.Mask `in:"mask"`
}

func invertOfMask(_ context.Context, in invertMask) (diffusion.Mask, error) {
	return eachValue(in.Mask, func(v float32) float32 { return 1 - v }), nil
}

// eachValue returns a mask with f applied to every value.
func eachValue(m diffusion.Mask, f func(float32) float32) diffusion.Mask {
	out := m.Clone()
	for i, v := range out.Data {
		out.Data[i] = f(v)
	}
	return diffusion.Mask{Tensor: out}
}

type maskToImage struct {
	Mask diffusion.Mask `in:"mask"`
}

func imageOfMask(_ context.Context, in maskToImage) (diffusion.Image, error) {
	return diffusion.Image{Tensor: maskPicture(in.Mask.Tensor)}, nil
}

type imageToMask struct {
	Image   diffusion.Image `in:"image"`
	Channel colourChannel   `in:"channel"`
}

func maskOfImage(_ context.Context, in imageToMask) (diffusion.Mask, error) {
	at := map[colourChannel]int{"red": 0, "green": 1, "blue": 2, "alpha": 3}[in.Channel]
	s := in.Image.Shape
	if at >= s[3] {
		return diffusion.Mask{}, fmt.Errorf("convert image to mask: the picture has %d channels and no %s", s[3], in.Channel)
	}
	out := tensor.New(s[0], s[1], s[2])
	for i := range out.Data {
		out.Data[i] = in.Image.Data[i*s[3]+at]
	}
	return diffusion.Mask{Tensor: out}, nil
}

type colourToMask struct {
	Image  diffusion.Image `in:"image"`
	Colour int             `in:"color" range:"0,0xffffff,1" ui:"display=color"`
}

func maskOfColour(_ context.Context, in colourToMask) (diffusion.Mask, error) {
	s := in.Image.Shape
	out := tensor.New(s[0], s[1], s[2])
	for i := range out.Data {
		colour := 0
		for _, v := range in.Image.Data[i*s[3] : i*s[3]+3] {
			colour = colour<<8 | int(math.RoundToEven(float64(min(max(v, 0), 1)*255)))
		}
		if colour == in.Colour {
			out.Data[i] = 1
		}
	}
	return diffusion.Mask{Tensor: out}, nil
}

type solidMask struct {
	Value  float64 `in:"value" range:"0,1,0.01"`
	Width  int     `in:"width" range:"1,16384,1"`
	Height int     `in:"height" range:"1,16384,1"`
}

func newMask(_ context.Context, in solidMask) (diffusion.Mask, error) {
	return diffusion.Mask{Tensor: tensor.Full(float32(in.Value), 1, in.Height, in.Width)}, nil
}

type cropMaskTo struct {
	Mask   diffusion.Mask `in:"mask"`
	X      int            `in:"x" range:"0,16384,1"`
	Y      int            `in:"y" range:"0,16384,1"`
	Width  int            `in:"width" range:"1,16384,1"`
	Height int            `in:"height" range:"1,16384,1"`
}

func cropMask(_ context.Context, in cropMaskTo) (diffusion.Mask, error) {
	planes := planesOf(in.Mask)
	w, h := planes.Shape[3], planes.Shape[2]
	if in.X >= w || in.Y >= h {
		return diffusion.Mask{}, fmt.Errorf("crop mask: %d,%d lies outside of %dx%d", in.X, in.Y, w, h)
	}
	out, err := tensor.Crop(planes, tensor.Rect{X: in.X, Y: in.Y, Width: min(in.Width, w-in.X), Height: min(in.Height, h-in.Y)})
	return maskOfPlanes(out), err
}

// planesOf views masks of any number of dimensions as [batch, 1, height, width].
func planesOf(m diffusion.Mask) *tensor.Tensor {
	h, w := m.Dim(-2), m.Dim(-1)
	return tensor.Of(m.Data, len(m.Data)/max(h*w, 1), 1, h, w)
}

// maskOfPlanes views [batch, 1, height, width] as a mask.
func maskOfPlanes(t *tensor.Tensor) diffusion.Mask {
	if t == nil {
		return diffusion.Mask{}
	}
	return diffusion.Mask{Tensor: tensor.Of(t.Data, t.Shape[0], t.Shape[2], t.Shape[3])}
}

type growMask struct {
	Mask    diffusion.Mask `in:"mask"`
	Expand  int            `in:"expand" range:"-16384,16384,1"`
	Tapered bool           `in:"tapered_corners"`
}

// grow takes the largest, or smallest, value among the neighbours, once per
// pixel; tapered corners leave out the diagonal ones.
func grow(ctx context.Context, in growMask) (diffusion.Mask, error) {
	planes := planesOf(in.Mask).Clone()
	pick := func(a, b float32) float32 { return max(a, b) }
	if in.Expand < 0 {
		pick = func(a, b float32) float32 { return min(a, b) }
	}
	for range max(in.Expand, -in.Expand) {
		if err := ctx.Err(); err != nil {
			return diffusion.Mask{}, err
		}
		next := spread(planes, in.Tapered, pick)
		if sameData(next, planes) {
			break
		}
		planes = next
	}
	return maskOfPlanes(planes), nil
}

func sameData(a, b *tensor.Tensor) bool {
	for i, v := range a.Data {
		if v != b.Data[i] {
			return false
		}
	}
	return true
}

func spread(t *tensor.Tensor, tapered bool, pick func(a, b float32) float32) *tensor.Tensor {
	h, w := t.Shape[2], t.Shape[3]
	out := t.Clone()
	for i := range t.Data {
		x, y := i%w, i/w%h
		v := t.Data[i]
		for dy := -1; dy <= 1; dy++ {
			for dx := -1; dx <= 1; dx++ {
				if x+dx < 0 || x+dx >= w || y+dy < 0 || y+dy >= h || tapered && dx != 0 && dy != 0 {
					continue
				}
				v = pick(v, t.Data[i+dy*w+dx])
			}
		}
		out.Data[i] = v
	}
	return out
}

type featherMask struct {
	Mask   diffusion.Mask `in:"mask"`
	Left   int            `in:"left" range:"0,16384,1"`
	Top    int            `in:"top" range:"0,16384,1"`
	Right  int            `in:"right" range:"0,16384,1"`
	Bottom int            `in:"bottom" range:"0,16384,1"`
}

// feather multiplies by a ramp from each side. On the right and at the bottom
// ComfyUI's ramp begins one line too late and its first step falls on the
// opposite edge; pictures depend on it.
func feather(_ context.Context, in featherMask) (diffusion.Mask, error) {
	out := planesOf(in.Mask).Clone()
	h, w := out.Shape[2], out.Shape[3]
	columns, rows := ramps(w, in.Left, in.Right), ramps(h, in.Top, in.Bottom)
	for i := range out.Data {
		for _, f := range columns[i%w] {
			out.Data[i] *= f
		}
		for _, f := range rows[i/w%h] {
			out.Data[i] *= f
		}
	}
	return maskOfPlanes(out), nil
}

// ramps lists the factors of each line of an axis.
func ramps(n, begin, end int) [][]float32 {
	out := make([][]float32, n)
	begin, end = min(begin, n), min(end, n)
	for i := range begin {
		out[i] = append(out[i], float32(float64(i+1)/float64(begin)))
	}
	for i := range end {
		at := (n - i) % n
		out[at] = append(out[at], float32(float64(i+1)/float64(end)))
	}
	return out
}

type thresholdMask struct {
	Mask  diffusion.Mask `in:"mask"`
	Value float64        `in:"value" range:"0,1,0.01"`
}

func threshold(_ context.Context, in thresholdMask) (diffusion.Mask, error) {
	return eachValue(in.Mask, func(v float32) float32 { return truth(v > float32(in.Value)) }), nil
}

func truth(b bool) float32 {
	if b {
		return 1
	}
	return 0
}

type maskComposite struct {
	Destination diffusion.Mask `in:"destination"`
	Source      diffusion.Mask `in:"source"`
	X           int            `in:"x" range:"0,16384,1"`
	Y           int            `in:"y" range:"0,16384,1"`
	Operation   maskOperation  `in:"operation"`
}

// combineMasks changes the part of the destination that the source covers. The
// logical operations round to 0 and 1 first.
func combineMasks(_ context.Context, in maskComposite) (diffusion.Mask, error) {
	set := func(v float32) bool { return math.RoundToEven(float64(v)) != 0 }
	ops := map[maskOperation]func(d, s float32) float32{
		"multiply": func(d, s float32) float32 { return d * s },
		"add":      func(d, s float32) float32 { return d + s },
		"subtract": func(d, s float32) float32 { return d - s },
		"and":      func(d, s float32) float32 { return truth(set(d) && set(s)) },
		"or":       func(d, s float32) float32 { return truth(set(d) || set(s)) },
		"xor":      func(d, s float32) float32 { return truth(set(d) != set(s)) },
	}
	op, ok := ops[in.Operation]
	if !ok {
		return diffusion.Mask{}, fmt.Errorf("combine masks: %q is no operation", in.Operation)
	}
	dst := planesOf(in.Destination).Clone()
	src := planesOf(in.Source).Repeat(dst.Shape[0])
	h, w := min(src.Shape[2], dst.Shape[2]-in.Y), min(src.Shape[3], dst.Shape[3]-in.X)
	for i := range dst.Shape[0] * max(h, 0) * max(w, 0) {
		n, y, x := i/(h*w), i/w%h, i%w
		at := (n*dst.Shape[2]+y+in.Y)*dst.Shape[3] + x + in.X
		dst.Data[at] = op(dst.Data[at], src.Data[(n*src.Shape[2]+y)*src.Shape[3]+x])
	}
	for i, v := range dst.Data {
		dst.Data[i] = min(max(v, 0), 1)
	}
	return maskOfPlanes(dst), nil
}
