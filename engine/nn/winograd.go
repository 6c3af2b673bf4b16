package nn

import (
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort/winograd"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// winogradMost bounds the output channels, and a quarter of the input
// channels. Layers with more work on small planes, where less is gained, and
// their transformed weights, four times the size, would be the largest of all.
const winogradMost = 640

// winogradConv returns a convolution by the operator WinogradConv, or nil where
// it does not apply: it is for 3x3 with stride 1 that keeps the size, and for
// weights that have to be converted anyway.
func winogradConv(p Scope, x *Value, w Window, out int, plus ...*Value) *Value {
	in := x.Dim(1)
	src, ok := p.b.weights.Lookup(p.join("weight"))
	if t := x.b.target; !t.onCPU() || t.elem() != onnx.Float || !ok || !src.Derive || w != Same(3) || max(in/4, out) > winogradMost {
		return nil
	}
	if src, ok = p.source("weight", tensor.Shape{out, in, 3, 3}); !ok {
		return nil
	}
	shape := winograd.Shape(out, in)
	transformed := src.Then(shape[:], Make{
		Name: winograd.TransformName,
		Apply: func(dst []float32, src []*tensor.Tensor) error {
			winograd.Transform(dst, src[0].Data, out, in)
			return nil
		},
	})
	u := p.viewOf(transformed, view{label: "weight transformed", shape: shape[:]})
	c := call{op: winograd.Op, domain: winograd.Domain, in: append([]*Value{x, u, p.Param("bias", out)}, plus...)}
	return x.b.declared(x.b.apply(c, []int{x.shape[0], out, Any, Any}))
}

// declared states the rank and channels of an operator's result that the
// runtime knows nothing about.
func (b *builder) declared(v *Value) *Value {
	info := onnx.ValueInfo{Name: v.name, Type: onnx.Float}
	for _, d := range v.shape {
		info.Dims = append(info.Dims, onnx.Dim{Size: int64(d)}) // Any is negative
	}
	b.graph.ONNX.Values = append(b.graph.ONNX.Values, info)
	return v
}
