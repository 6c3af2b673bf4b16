package nn

import (
	"slices"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

// ReLU returns max(v, 0).
func (v *Value) ReLU() *Value { return v.b.apply(call{op: "Relu", in: []*Value{v}}, v.shape) }

// Tanh is element-wise.
func (v *Value) Tanh() *Value { return v.b.apply(call{op: "Tanh", in: []*Value{v}}, v.shape) }

// LeakyReLU returns v where it is positive and slope·v elsewhere.
func (v *Value) LeakyReLU(slope float32) *Value {
	return v.b.apply(call{op: "LeakyRelu", in: []*Value{v}, attrs: []onnx.Attr{attr("alpha", slope)}}, v.shape)
}

// Scale returns f·v.
func (v *Value) Scale(f float32) *Value { return v.Mul(v.b.floats([]float32{f}, 1)) }

// Div returns v / o with broadcasting.
func (v *Value) Div(o *Value) *Value { return v.binary("Div", o) }

// PReLU is LeakyReLU with a slope for each channel of [batch, channel, height,
// width], or one for all, as the scope's weight has it.
// Source: He et al., Delving Deep into Rectifiers, 2015.
func PReLU(p Scope, x *Value) *Value {
	slope := p.Param("weight", p.Dim("weight", 0), 1, 1)
	return x.b.apply(call{op: "PRelu", in: []*Value{x, slope}}, x.shape)
}

// AvgPool halves height and width, rounding down, by means over 2x2 pixels.
func AvgPool(x *Value) *Value {
	return x.b.apply(call{op: "AveragePool", in: []*Value{x}, attrs: []onnx.Attr{
		attr("kernel_shape", []int64{2, 2}), attr("strides", []int64{2, 2}),
	}}, []int{x.shape[0], x.shape[1], Any, Any})
}

// PixelShuffle turns n² channels into n x n pixels: channel c·n²+y·n+x becomes
// row y, column x of channel c's pixels.
// Source: Shi et al., Real-Time Single Image and Video Super-Resolution Using
// an Efficient Sub-Pixel Convolutional Neural Network, 2016.
func PixelShuffle(x *Value, n int) *Value {
	if x.Dim(1)%(n*n) != 0 {
		failf("PixelShuffle: %d channels do not make %dx%d pixels", x.Dim(1), n, n)
	}
	return x.b.apply(call{op: "DepthToSpace", in: []*Value{x}, attrs: []onnx.Attr{
		attr("blocksize", int64(n)), attr("mode", "CRD"),
	}}, []int{x.shape[0], x.Dim(1) / (n * n), Any, Any})
}

// Mean returns the mean over height and width of [batch, channel, height,
// width]: [batch, channel], in float32.
func Mean(x *Value) *Value { return PlaneMean(x).Reshape(0, x.Dim(1)) }

// PlaneMean is Mean for any number of channels: [batch, channel, 1, 1].
func PlaneMean(x *Value) *Value {
	x = x.as(onnx.Float)
	return x.b.apply(call{op: "GlobalAveragePool", in: []*Value{x}}, append(slices.Clone(x.shape[:2]), 1, 1))
}

// Constant returns numbers that the graph carries.
func (p Scope) Constant(data []float32, shape ...int) *Value { return p.b.floats(data, shape...) }
