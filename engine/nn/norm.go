package nn

import (
	"slices"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

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
	if x.b.target.Provider == CUDA {
		return groupNormLast(p, x, eps)
	}
	// In half precision the operator rounds its scale and shift.
	y := x.as(onnx.Float).Reshape(0, groups, Any)
	if x.b.target.PlainNorm {
		y = y.normalisedPlainly(eps)
	} else {
		y = y.normalised(eps)
	}
	return y.working().ReshapeLike(x).Mul(p.Param("weight", c, 1, 1)).Add(p.Param("bias", c, 1, 1))
}

// groupNormLast is GroupNorm for groups that no operator takes, with channels
// last: sizes need not be known so.
func groupNormLast(p Scope, x *Value, eps float32) *Value {
	c := x.Dim(1)
	y := x.channelsLast().as(onnx.Float).Reshape(0, 0, 0, groups, c/groups)
	d := y.Sub(y.reduce("ReduceMean", 1, 2, 4))
	variance := d.Mul(d).reduce("ReduceMean", 1, 2, 4).Add(x.b.floats([]float32{eps}, 1))
	y = d.Div(variance.sqrt()).working().Reshape(0, 0, 0, c)
	return y.Mul(p.Param("weight", c)).Add(p.Param("bias", c)).channelsFirst()
}

// normalised moves and scales the last dimension of [batch, groups, numbers] to
// mean 0 and variance 1.
func (v *Value) normalised(eps float32) *Value {
	ones, zeros := make([]float32, groups), make([]float32, groups)
	for i := range ones {
		ones[i] = 1
	}
	return v.b.apply(call{
		op: "InstanceNormalization", in: []*Value{v, v.b.floats(ones, groups), v.b.floats(zeros, groups)},
		attrs: []onnx.Attr{attr("epsilon", eps)},
	}, v.shape)
}

// normalisedPlainly is normalised without the operator for it.
func (v *Value) normalisedPlainly(eps float32) *Value {
	d := v.Sub(v.reduce("ReduceMean", 2))
	variance := d.Mul(d).reduce("ReduceMean", 2).Add(v.b.floats([]float32{eps}, 1))
	return d.Div(variance.sqrt())
}

func (v *Value) sqrt() *Value { return v.b.apply(call{op: "Sqrt", in: []*Value{v}}, v.shape) }

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
// its scale and shift in float32. Where x is a sum that nothing else has used so
// far the operator adds too.
func fusedGroupNorm(p Scope, x *Value, eps float32, silu bool) *Value {
	b, c, activation := x.b, x.Dim(1), int64(0)
	if silu {
		activation = 1
	}
	scale := p.param(view{label: "weight", shape: []int{c}, elem: onnx.Float})
	shift := p.param(view{label: "bias", shape: []int{c}, elem: onnx.Float})
	attrs := []onnx.Attr{
		attr("epsilon", eps), attr("groups", int64(groups)), attr("activation", activation), attr("channels_last", int64(1)),
	}
	if x.addends == nil || !b.withdraw(x) {
		in := x.working().channelsLast()
		return b.apply(call{op: "GroupNorm", domain: microsoft, in: []*Value{in, scale, shift}, attrs: attrs}, in.shape).channelsFirst()
	}
	in, plus := x.addends[0].channelsLast(), x.addends[1].addedLast()
	y, sum := b.next("SkipGroupNorm", in), b.next("SkipGroupNorm.sum", in)
	b.node("SkipGroupNorm", microsoft, []*Value{in, scale, shift, plus}, []string{y.name, sum.name}, attrs)
	sum.first, x.last = x, sum
	b.node("Transpose", "", []*Value{sum}, []string{x.name}, []onnx.Attr{attr("perm", []int64{0, 3, 1, 2})})
	return y.channelsFirst()
}

// sumOf returns v + o, whose shape is v's or has height and width 1, so that an
// operator behind can take the sum over.
func sumOf(v, o *Value) *Value {
	sum := v.Add(o)
	if v.b.target.Provider == CUDA && v.elem == o.elem {
		sum.addends = []*Value{v, o}
	}
	return sum
}

// addedLast returns a picture with channels last, or one of a single pixel.
func (v *Value) addedLast() *Value {
	if v.shape[2] == 1 && v.shape[3] == 1 {
		return v.Reshape(0, 1, 1, v.Dim(1))
	}
	return v.channelsLast()
}

// withdraw removes the node that makes v from the graph, if no node uses v.
func (b *builder) withdraw(v *Value) bool {
	nodes := b.graph.ONNX.Nodes
	for i := len(nodes) - 1; i >= 0; i-- {
		if slices.Contains(nodes[i].Inputs, v.name) {
			return false
		}
		if slices.Contains(nodes[i].Outputs, v.name) {
			b.graph.ONNX.Nodes = slices.Delete(nodes, i, i+1)
			return true
		}
	}
	return false
}

// LayerNorm normalises the last dimension, eps 1e-5, then scales and shifts.
func LayerNorm(p Scope, x *Value) *Value {
	c := x.Dim(-1)
	return x.b.apply(call{
		op: "LayerNormalization", in: []*Value{x.working(), p.Param("weight", c), p.Param("bias", c)},
		attrs: []onnx.Attr{attr("axis", int64(-1)), attr("epsilon", float32(1e-5))},
	}, x.shape)
}
