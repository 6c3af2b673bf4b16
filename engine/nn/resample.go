package nn

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Resampling is a way to give a picture another size, one of engine/tensor's
// methods.
type Resampling string

// The ways that graphs have.
const (
	ByCubic   Resampling = tensor.Bicubic
	ByLinear  Resampling = tensor.Bilinear
	ByNearest Resampling = tensor.NearestExact
	ByArea    Resampling = tensor.AreaMean
)

// Known reports whether graphs have the way.
func (r Resampling) Known() bool { return r == ByArea || r.attrs() != nil }

// attrs are those of Resize.
func (r Resampling) attrs() []onnx.Attr {
	half := attr("coordinate_transformation_mode", "half_pixel")
	switch r {
	case ByCubic:
		return []onnx.Attr{attr("mode", "cubic"), attr("cubic_coeff_a", float32(-0.75)), half}
	case ByLinear:
		return []onnx.Attr{attr("mode", "linear"), half}
	case ByNearest:
		return []onnx.Attr{attr("mode", "nearest"), attr("nearest_mode", "round_prefer_ceil"), half}
	}
	return nil
}

// Shrink divides height and width of [batch, channel, height, width] by a
// factor, rounded to even; a factor below 1 enlarges.
func Shrink(x *Value, factor float64, r Resampling) *Value {
	b := x.b
	raw := binary.LittleEndian.AppendUint64(nil, math.Float64bits(1/factor))
	size := x.size().cast(onnx.Double).Mul(b.constant(onnx.Double, raw, []int{1}))
	size = b.apply(call{op: "Round", in: []*Value{size}}, size.shape).cast(onnx.Int64)
	return x.resized(size, r)
}

// ResizeTo gives x the height and width of like.
func ResizeTo(x, like *Value, r Resampling) *Value {
	if x.b.target.Provider == CUDA && r != ByArea {
		return x.resized(like.pixels(0, 2), r)
	}
	return x.resized(like.size(), r)
}

// size returns height and width as a vector of int64.
func (v *Value) size() *Value {
	b := v.b
	return b.apply(call{op: "Slice", in: []*Value{v.shapeOf(), b.ints(2), b.ints(4), b.ints(0)}}, []int{2})
}

// resized gives v a height and width.
func (v *Value) resized(size *Value, r Resampling) *Value {
	if r == ByArea {
		rows, columns := means(v.size().at(0), size.at(0)), means(v.size().at(1), size.at(1))
		return product(rows, product(v, columns.Transpose(1, 0), v.shape), []int{v.shape[0], v.shape[1], Any, Any})
	}
	attrs := r.attrs()
	if attrs == nil {
		failf("resize: %q is not known", string(r))
	}
	return v.resizedWith(size, attrs)
}

// resizedWith is resized with the attributes of Resize.
func (v *Value) resizedWith(size *Value, attrs []onnx.Attr) *Value {
	b := v.b
	if b.target.Provider == CUDA {
		return v.resizedAt(2, size, attrs)
	}
	head := b.apply(call{op: "Slice", in: []*Value{v.shapeOf(), b.ints(0), b.ints(2), b.ints(0)}}, []int{2})
	sizes := b.apply(call{op: "Concat", in: []*Value{head, size}, attrs: []onnx.Attr{attr("axis", int64(0))}}, []int{4})
	return b.apply(call{op: "Resize", in: []*Value{v, nil, nil, sizes}, attrs: attrs}, []int{v.shape[0], v.shape[1], Any, Any})
}

// resizedAt gives the dimension at a place and the next one a size. ONNX Runtime
// must not take a Transpose through this operator, as it forgets that there are
// two sizes only; it takes none through a Reshape.
func (v *Value) resizedAt(place int64, size *Value, attrs []onnx.Attr) *Value {
	in, shape := v.Reshape(0, 0, 0, 0), slices.Clone(v.shape)
	shape[place], shape[place+1] = Any, Any
	attrs = append(attrs, attr("axes", []int64{place, place + 1}))
	return v.b.apply(call{op: "Resize", in: []*Value{in, nil, nil, size}, attrs: attrs}, shape)
}

// means returns the matrix [to, from] that takes means: new pixel i is that of
// the pixels floor(i·from/to) to ceil((i+1)·from/to)-1.
func means(from, to *Value) *Value {
	b := from.b
	i, j := b.upTo(to).Reshape(Any, 1), b.upTo(from).Reshape(1, Any)
	one := b.scalar(1)
	first := i.Mul(from).Div(to)
	end := i.Add(one).Mul(from).Add(to).Sub(one).Div(to)
	in := b.apply(call{op: "And", in: []*Value{j.compare("GreaterOrEqual", first), j.compare("Less", end)}}, []int{Any, Any})
	return in.cast(onnx.Float).Div(end.Sub(first).cast(onnx.Float))
}

// product is the matrix product a·b over the last two dimensions, whose result
// has the given shape.
func product(a, b *Value, shape []int) *Value {
	a, b = alike(a, b)
	return a.b.apply(call{op: "MatMul", in: []*Value{a, b}}, shape)
}

// compare is an element-wise comparison.
func (v *Value) compare(op string, o *Value) *Value {
	return v.b.apply(call{op: op, in: []*Value{v, o}, elem: onnx.Bool}, broadcast(op, v.shape, o.shape))
}

// at returns element i of a vector of int64 as a scalar.
func (v *Value) at(i int) *Value {
	return v.b.apply(call{op: "Gather", in: []*Value{v, v.b.scalar(i)}}, nil)
}

// sizeFor returns the size of a dimension for upTo.
func (v *Value) sizeFor(dimension int) *Value {
	if v.b.target.Provider == CUDA {
		return v.sizes(dimension, dimension+1)
	}
	return v.shapeOf().at(dimension)
}

// upTo returns 0…n-1 as int64; n is one number.
func (b *builder) upTo(n *Value) *Value {
	return b.apply(call{op: "Range", in: []*Value{b.scalar(0), n, b.scalar(1)}}, []int{Any})
}

// scalar is an int64 without dimensions.
func (b *builder) scalar(i int) *Value {
	return b.constant(onnx.Int64, binary.LittleEndian.AppendUint64(nil, uint64(int64(i))), []int{})
}
