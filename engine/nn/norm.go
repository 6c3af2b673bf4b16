package nn

import "github.com/comfyrun/comfyrun/engine/onnx"

// groups is the number of groups of GroupNorm.
const groups = 32

// GroupNorm normalises each of 32 groups of channels of [batch, channel,
// height, width], then scales and shifts by channel.
// Source: Wu and He, Group Normalization, 2018.
func GroupNorm(p Scope, x *Value, eps float32) *Value {
	c := x.Dim(1)
	if c%groups != 0 {
		failf("GroupNorm: %d channels do not make %d groups", c, groups)
	}
	if x.normalisesGroups() {
		return fusedGroupNorm(p, x, eps, false)
	}
	ones, zeros := make([]float32, groups), make([]float32, groups)
	for i := range ones {
		ones[i] = 1
	}
	// In half precision the operator rounds its scale and shift.
	y := x.as(onnx.Float).Reshape(0, groups, Any)
	y = x.b.apply(call{
		op: "InstanceNormalization", in: []*Value{y, x.b.floats(ones, groups), x.b.floats(zeros, groups)},
		attrs: []onnx.Attr{attr("epsilon", eps)},
	}, y.shape)
	return y.working().ReshapeLike(x).Mul(p.Param("weight", c, 1, 1)).Add(p.Param("bias", c, 1, 1))
}

// GroupNormSiLU is GroupNorm, and SiLU of what it gives.
func GroupNormSiLU(p Scope, x *Value, eps float32) *Value {
	if x.Dim(1)%groups == 0 && x.normalisesGroups() {
		return fusedGroupNorm(p, x, eps, true)
	}
	return GroupNorm(p, x, eps).SiLU()
}

// normalisesGroups reports whether there is an operator for GroupNorm. That of
// CUDA takes two channels of a group at once.
func (v *Value) normalisesGroups() bool {
	return v.b.target.Provider == CUDA && v.Dim(1)/groups%2 == 0
}

// fusedGroupNorm is GroupNorm by one operator, which wants channels last, and
// its scale and shift in float32.
func fusedGroupNorm(p Scope, x *Value, eps float32, silu bool) *Value {
	c, activation := x.Dim(1), int64(0)
	if silu {
		activation = 1
	}
	scale := p.param(view{label: "weight", shape: []int{c}, elem: onnx.Float})
	shift := p.param(view{label: "bias", shape: []int{c}, elem: onnx.Float})
	in := x.working().channelsLast()
	return x.b.apply(call{op: "GroupNorm", domain: microsoft, in: []*Value{in, scale, shift}, attrs: []onnx.Attr{
		attr("epsilon", eps), attr("groups", int64(groups)), attr("activation", activation), attr("channels_last", int64(1)),
	}}, in.shape).channelsFirst()
}

// LayerNorm normalises the last dimension, eps 1e-5, then scales and shifts.
func LayerNorm(p Scope, x *Value) *Value {
	c := x.Dim(-1)
	return x.b.apply(call{
		op: "LayerNormalization", in: []*Value{x.working(), p.Param("weight", c), p.Param("bias", c)},
		attrs: []onnx.Attr{attr("axis", int64(-1)), attr("epsilon", float32(1e-5))},
	}, x.shape)
}
