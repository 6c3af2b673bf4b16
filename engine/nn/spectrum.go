package nn

import (
	"math"
	"slices"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

// AddLow adds to [batch, channel, height, width] its slowest part times a
// factor, one number: the frequencies 0 and -1 of both directions out of its
// Fourier transform, the real part of what they give. That part is Re(Pₕ·x·Pᵥᵀ)
// with the projections P[i,j] = (1 + exp(-2πi(i-j)/n))/n, that is
// A·x·Aᵀ - B·x·Bᵀ with A = (1+cos)/n and B = sin/n. It is computed in float32.
func AddLow(x, factor *Value) *Value {
	full := x.as(onnx.Float)
	ah, bh := x.slowest(0)
	aw, bw := x.slowest(1)
	// A is symmetric and -Bᵀ is B.
	low := product(ah, product(full, aw, x.shape), x.shape).Add(product(bh, product(full, bw, x.shape), x.shape))
	return x.Add(low.Mul(factor))
}

// slowest returns the matrices A and B for a side of a picture, height (0) or
// width (1). A side of one pixel has no other frequency than 0.
func (v *Value) slowest(side int) (even, odd *Value) {
	b := v.b
	i, size := v.indices(side)
	angle := i.Reshape(Any, 1).Sub(i.Reshape(1, Any)).Mul(b.floats([]float32{2 * math.Pi}, 1).Div(size))
	one := b.floats([]float32{1}, 1)
	return angle.Cos().Add(one).Div(size).binary("Min", one), angle.Sin().Div(size)
}

// indices returns 0…n-1 for a side of n pixels, and n, in float32.
func (v *Value) indices(side int) (i, n *Value) {
	if v.b.target.Provider == CUDA {
		i = v.b.upTo(v.pixels(side, side+1)).cast(onnx.Float)
		return i, i.reduce("ReduceMax", 0).Add(v.b.floats([]float32{1}, 1))
	}
	size := v.size().at(side)
	return v.b.upTo(size).cast(onnx.Float), size.cast(onnx.Float)
}

// UnitMean returns the mean over the channels of [batch, channel, height,
// width], moved and scaled to reach from 0 to 1 in each picture: [batch, 1,
// height, width] in float32.
func UnitMean(x *Value) *Value {
	mean := x.as(onnx.Float).reduce("ReduceMean", 1)
	least, most := mean.reduce("ReduceMin", 1, 2, 3), mean.reduce("ReduceMax", 1, 2, 3)
	return mean.Sub(least).Div(most.Sub(least))
}

// reduce keeps the dimensions at size 1.
func (v *Value) reduce(op string, axes ...int) *Value {
	shape := slices.Clone(v.shape)
	for _, i := range axes {
		shape[i] = 1
	}
	return v.b.apply(call{op: op, in: []*Value{v, v.b.ints(axes...)}}, shape)
}

// Sub returns v - o with broadcasting.
func (v *Value) Sub(o *Value) *Value { return v.binary("Sub", o) }
