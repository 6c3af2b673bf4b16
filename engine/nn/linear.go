package nn

import (
	"slices"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

// Linear returns x·Wᵀ + b for a weight [out, in] and a bias [out]. x is
// [batch, tokens, in] or [batch, in].
func Linear(p Scope, x *Value, out int) *Value {
	return affine(x, p.Param("weight", out, x.Dim(-1)), p.Param("bias", out))
}

// LinearNoBias returns x·Wᵀ.
func LinearNoBias(p Scope, x *Value, out int) *Value {
	return affine(x, p.Param("weight", out, x.Dim(-1)), nil)
}

// LinearRows is Linear with the rows lo to lo+out of a larger weight, which
// has a bias.
func LinearRows(p Scope, x *Value, lo, out int) *Value {
	return affine(x, p.Rows("weight", lo, out, x.Dim(-1)), p.Rows("bias", lo, out))
}

// LinearRowsGelu is LinearRows followed by the exact GELU.
func LinearRowsGelu(p Scope, x *Value, lo, out int) *Value {
	y := affine(x, p.Rows("weight", lo, out, x.Dim(-1)), nil)
	return x.b.apply(call{op: "BiasGelu", domain: microsoft, in: []*Value{y, p.Rows("bias", lo, out)}}, y.shape)
}

// LinearAdd is Linear plus a value of its result's shape.
func LinearAdd(p Scope, x, plus *Value) *Value {
	out := plus.Dim(-1)
	if !x.addsBias(plus.Rank(), out) {
		return Linear(p, x, out).Add(plus)
	}
	y := LinearNoBias(p, x, out)
	return x.b.apply(call{op: "BiasAdd", domain: microsoft, in: []*Value{y, p.Param("bias", out), plus.working()}}, plus.shape)
}

// addsBias reports whether there is an operator that adds a bias and a value:
// CUDA has one for tokens of the widths of Stable Diffusion's networks.
func (v *Value) addsBias(rank, width int) bool {
	return v.b.target.Provider == CUDA && rank == 3 && slices.Contains([]int{320, 640, 1280}, width)
}

// GatedLinear is a gated layer (GEGLU) of width channels: the first half of the
// weight's rows makes the value, the second half its gate, through the exact
// GELU.
// Source: Shazeer, GLU Variants Improve Transformer, 2020.
func GatedLinear(p Scope, x *Value, width int) *Value {
	if !x.splitsGelu(width) {
		value, gate := LinearRows(p, x, 0, width), LinearRowsGelu(p, x, width, width)
		return value.Mul(gate)
	}
	y := LinearNoBias(p, x, 2*width)
	shape := append(slices.Clone(x.shape[:2]), width)
	return x.b.apply(call{op: "BiasSplitGelu", domain: microsoft, in: []*Value{y, p.Param("bias", 2*width)}}, shape)
}

// splitsGelu reports whether there is an operator that adds a bias and gates
// one half of v's channels by the other: CUDA has one for some widths. That of
// WebGPU has no shader in half precision that compiles (ONNX Runtime 1.30).
func (v *Value) splitsGelu(width int) bool {
	switch v.b.target.Provider {
	case WebGPU:
		return v.Rank() == 3 && v.b.target.elem() == onnx.Float
	case CUDA:
		return v.Rank() == 3 && slices.Contains([]int{1280, 2560, 3072, 5120, 6144}, width)
	}
	return false
}

// affine returns x·wᵀ + bias; bias may be nil. The weight stays as it lies in
// the file: transposing it while loading would copy it.
func affine(x, w, bias *Value) *Value {
	x = x.working()
	if x.b.target.Provider == WebGPU {
		return gemm(x, w, bias)
	}
	y := x.b.apply(call{
		op: "FusedMatMul", domain: microsoft, in: []*Value{x, w}, attrs: []onnx.Attr{attr("transB", int64(1))},
	}, append(slices.Clone(x.shape[:len(x.shape)-1]), w.shape[0]))
	if bias == nil {
		return y
	}
	return y.Add(bias)
}

// gemm is affine by the operator for plain matrices, for devices that have no
// FusedMatMul.
func gemm(x, w, bias *Value) *Value {
	in := []*Value{x.flat(), w}
	if bias != nil {
		in = append(in, bias)
	}
	y := x.b.apply(call{op: "Gemm", in: in, attrs: []onnx.Attr{attr("transB", int64(1))}}, []int{in[0].shape[0], w.shape[0]})
	if x.Rank() == 2 {
		return y
	}
	return y.reshapedTo([]int{x.shape[0], Any, w.shape[0]})
}

// flat returns the rows of v as a matrix.
func (v *Value) flat() *Value {
	if v.Rank() == 2 {
		return v
	}
	return v.b.once("flat "+v.name, func() *Value { return v.formed(v.Reshape(Any, v.Dim(-1))) })
}

// reshapedTo is Reshape where the first of two symbolic sizes is the batch of
// the graph.
func (v *Value) reshapedTo(shape []int) *Value {
	if shape[0] != Any {
		return v.Reshape(shape...)
	}
	rest := v.b.ints(shape[1:]...)
	sizes := v.b.once("batch and "+rest.name, func() *Value { return Concat(0, v.b.batchSize(), rest) })
	return v.b.apply(call{op: "Reshape", in: []*Value{v, sizes}}, shape)
}

// batchSize returns the size of the batch as a vector of one int64.
func (b *builder) batchSize() *Value {
	if b.batch == nil {
		failf("no input of the graph has a batch")
	}
	return b.once("batch", func() *Value {
		return b.apply(call{
			op: "Shape", in: []*Value{b.batch}, attrs: []onnx.Attr{attr("start", int64(0)), attr("end", int64(1))}, elem: onnx.Int64,
		}, []int{1})
	})
}
