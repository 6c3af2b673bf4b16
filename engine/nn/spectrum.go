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
	ah, bh := slowest(x.size().at(0))
	aw, bw := slowest(x.size().at(1))
	// A is symmetric and -Bᵀ is B.
	low := product(ah, product(full, aw, x.shape), x.shape).Add(product(bh, product(full, bw, x.shape), x.shape))
	return x.Add(low.Mul(factor))
}

// slowest returns the matrices A and B for a side of n pixels. A side of one
// pixel has no other frequency than 0.
func slowest(n *Value) (even, odd *Value) {
	b := n.b
	i, size := b.upTo(n).cast(onnx.Float), n.cast(onnx.Float)
	angle := i.Reshape(Any, 1).Sub(i.Reshape(1, Any)).Mul(b.floats([]float32{2 * math.Pi}, 1).Div(size))
	one := b.floats([]float32{1}, 1)
	return angle.Cos().Add(one).Div(size).binary("Min", one), angle.Sin().Div(size)
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
