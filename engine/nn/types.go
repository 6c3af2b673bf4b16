package nn

import (
	"fmt"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

// elem is the element type that weights have and layers compute with.
func (t Target) elem() onnx.ElemType {
	if t.Precision == Float16 {
		return onnx.Float16
	}
	return onnx.Float
}

// as returns v with another element type. The conversion is made once.
func (v *Value) as(t onnx.ElemType) *Value {
	if v.elem == t {
		return v
	}
	return v.b.once(fmt.Sprintf("%s as %s", v.name, t), func() *Value { return v.formed(v.cast(t)) })
}

// formed notes that a value is v in another form.
func (v *Value) formed(as *Value) *Value {
	v.b.graph.Forms[as.name] = v.name
	return as
}

// working returns v with the element type that layers compute with.
func (v *Value) working() *Value { return v.as(v.b.target.elem()) }

// alike gives both operands of an operator one element type: where one of them
// is in half precision, the other becomes so too.
func alike(v, o *Value) (*Value, *Value) {
	switch {
	case v.elem == onnx.Float16:
		return v, o.as(onnx.Float16)
	case o.elem == onnx.Float16:
		return v.as(onnx.Float16), o
	}
	return v, o
}

// alikeAll is alike for any number of operands.
func alikeAll(values []*Value) []*Value {
	out := make([]*Value, len(values))
	for i, v := range values {
		out[i] = v
		for _, o := range values {
			out[i], _ = alike(out[i], o)
		}
	}
	return out
}

// cast converts to another type of numbers.
func (v *Value) cast(t onnx.ElemType) *Value {
	return v.b.apply(call{op: "Cast", in: []*Value{v}, attrs: []onnx.Attr{attr("to", int64(t))}, elem: t}, v.shape)
}
