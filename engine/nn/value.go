package nn

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

// microsoft is the domain of ONNX Runtime's own operators.
const microsoft = "com.microsoft"

// Value is the output of an operator, an input or a weight. Its methods append
// operators to the graph.
type Value struct {
	b     *builder
	name  string
	shape []int // Any where the size is symbolic
	elem  onnx.ElemType
	// last is the same picture with channels last, first with channels first:
	// see channelsLast.
	last, first *Value
	addends     []*Value // what v is the sum of, where sumOf made it
}

// Rank returns the number of dimensions.
func (v *Value) Rank() int { return len(v.shape) }

// Dim returns the size of dimension i, which must not be symbolic; negative i
// counts from the end.
func (v *Value) Dim(i int) int {
	if i < 0 {
		i += len(v.shape)
	}
	if i < 0 || i >= len(v.shape) || v.shape[i] == Any {
		failf("Dim(%d) of %v is not known", i, v.shape)
	}
	return v.shape[i]
}

func (b *builder) value(name string, elem onnx.ElemType, shape []int) *Value {
	return &Value{b: b, name: name, shape: slices.Clone(shape), elem: elem}
}

func (b *builder) unique(name string) string {
	for candidate, i := name, 2; ; i++ {
		if !b.used[candidate] {
			b.used[candidate] = true
			return candidate
		}
		candidate = fmt.Sprintf("%s#%d", name, i)
	}
}

// node appends an operator with the given output names.
func (b *builder) node(op, domain string, in []*Value, out []string, attrs []onnx.Attr) {
	names := make([]string, len(in))
	for i, v := range in {
		if v != nil {
			names[i] = v.name
		}
	}
	b.last++
	b.graph.ONNX.Nodes = append(b.graph.ONNX.Nodes, onnx.Node{
		Name: fmt.Sprintf("%s_%d", op, b.last), Op: op, Domain: domain, Inputs: names, Outputs: out, Attrs: attrs,
	})
}

// call describes an operator with one output.
type call struct {
	op, domain string
	in         []*Value
	attrs      []onnx.Attr
	elem       onnx.ElemType // of the output; 0 for that of the first input
}

// apply appends an operator with one output of the given shape.
func (b *builder) apply(c call, shape []int) *Value {
	if c.elem == 0 {
		c.elem = c.in[0].elem
	}
	v := b.next(c.op, c.in[0])
	v.elem, v.shape = c.elem, slices.Clone(shape)
	b.node(c.op, c.domain, c.in, []string{v.name}, c.attrs)
	return v
}

// next returns an output for the next node, of the type and shape of like.
func (b *builder) next(name string, like *Value) *Value {
	return b.value(fmt.Sprintf("%s.%d", name, b.last+1), like.elem, like.shape)
}

func attr(name string, value any) onnx.Attr { return onnx.Attr{Name: name, Value: value} }

// floats returns a constant carried in the model.
func (b *builder) floats(data []float32, shape ...int) *Value {
	raw := make([]byte, 0, 4*len(data))
	for _, f := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return b.constant(onnx.Float, raw, shape)
}

// ints returns a constant vector of int64 carried in the model.
func (b *builder) ints(data ...int) *Value {
	raw := make([]byte, 0, 8*len(data))
	for _, i := range data {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(int64(i)))
	}
	return b.constant(onnx.Int64, raw, []int{len(data)})
}

func (b *builder) constant(t onnx.ElemType, raw []byte, shape []int) *Value {
	key := fmt.Sprintf("%d%v%x", t, shape, raw)
	if v := b.consts[key]; v != nil {
		return v
	}
	dims := make([]int64, len(shape))
	for i, d := range shape {
		dims[i] = int64(d)
	}
	v := b.value(b.unique(fmt.Sprintf("const_%d", len(b.consts))), t, shape)
	b.graph.ONNX.Initializers = append(b.graph.ONNX.Initializers,
		onnx.Initializer{Name: v.name, Type: t, Dims: dims, Raw: raw})
	b.consts[key] = v
	return v
}

// Add returns v + o with broadcasting.
func (v *Value) Add(o *Value) *Value { return v.binary("Add", o) }

// Mul returns v * o with broadcasting.
func (v *Value) Mul(o *Value) *Value { return v.binary("Mul", o) }

func (v *Value) binary(op string, o *Value) *Value {
	v, o = alike(v, o)
	return v.b.apply(call{op: op, in: []*Value{v, o}}, broadcast(op, v.shape, o.shape))
}

// broadcast returns the shape of an element-wise operation. Symbolic sizes are
// taken to fit: the runtime checks them.
func broadcast(op string, a, b []int) []int {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	off := len(a) - len(b)
	for i, d := range b {
		switch e := a[off+i]; {
		case e == 1:
			out[off+i] = d
		case d != 1 && d != e && d != Any && e != Any:
			failf("%s: shapes %v and %v do not fit", op, a, b)
		case e == Any && d > 1:
			out[off+i] = d
		}
	}
	return out
}

// SiLU returns v·sigmoid(v).
func (v *Value) SiLU() *Value { return v.quickGelu(1) }

// QuickGelu returns v·sigmoid(1.702·v), CLIP's approximation of GELU.
func (v *Value) QuickGelu() *Value { return v.quickGelu(1.702) }

func (v *Value) quickGelu(alpha float32) *Value {
	return v.b.apply(call{op: "QuickGelu", domain: microsoft, in: []*Value{v}, attrs: []onnx.Attr{attr("alpha", alpha)}}, v.shape)
}

// Cos is element-wise.
func (v *Value) Cos() *Value { return v.b.apply(call{op: "Cos", in: []*Value{v}}, v.shape) }

// Sin is element-wise.
func (v *Value) Sin() *Value { return v.b.apply(call{op: "Sin", in: []*Value{v}}, v.shape) }

// Transpose permutes the dimensions: dimension i of the result is dimension
// perm[i] of v.
func (v *Value) Transpose(perm ...int) *Value {
	shape, p := make([]int, len(perm)), make([]int64, len(perm))
	for i, from := range perm {
		shape[i], p[i] = v.shape[from], int64(from)
	}
	return v.b.apply(call{op: "Transpose", in: []*Value{v}, attrs: []onnx.Attr{attr("perm", p)}}, shape)
}

// Reshape gives v another shape: 0 keeps the dimension at that place, Any
// takes what remains.
func (v *Value) Reshape(shape ...int) *Value {
	out := slices.Clone(shape)
	for i, d := range shape {
		if d == 0 {
			if i >= len(v.shape) {
				failf("Reshape: %v has no dimension %d to keep", v.shape, i)
			}
			out[i] = v.shape[i]
		}
	}
	checkElements(v.shape, out)
	return v.b.apply(call{op: "Reshape", in: []*Value{v, v.b.ints(shape...)}}, out)
}

// checkElements fails when both shapes are concrete and differ in size.
func checkElements(from, to []int) {
	if slices.Contains(from, Any) || slices.Contains(to, Any) {
		return
	}
	if elements(from) != elements(to) {
		failf("Reshape: %v does not fit %v", from, to)
	}
}

// ReshapeLike gives v the run-time shape of like.
func (v *Value) ReshapeLike(like *Value) *Value {
	return v.b.apply(call{op: "Reshape", in: []*Value{v, like.shapeOf()}}, like.shape)
}

// shapeOf returns the run-time shape of v as a vector of int64.
func (v *Value) shapeOf() *Value {
	return v.b.once("Shape("+v.name+")", func() *Value {
		return v.b.apply(call{op: "Shape", in: []*Value{v}, elem: onnx.Int64}, []int{len(v.shape)})
	})
}

// once returns what make makes, which it calls the first time that the key is
// asked for.
func (b *builder) once(key string, make func() *Value) *Value {
	if have := b.consts[key]; have != nil {
		return have
	}
	made := make()
	b.consts[key] = made
	return made
}

// Concat joins values along a dimension.
func Concat(axis int, parts ...*Value) *Value {
	parts = alikeAll(parts)
	v := parts[0]
	shape := slices.Clone(v.shape)
	for _, p := range parts[1:] {
		if len(p.shape) != len(shape) {
			failf("Concat: shapes %v and %v differ in rank", v.shape, p.shape)
		}
		if shape[axis] == Any || p.shape[axis] == Any {
			shape[axis] = Any
			continue
		}
		shape[axis] += p.shape[axis]
	}
	return v.b.apply(call{op: "Concat", in: parts, attrs: []onnx.Attr{attr("axis", int64(axis))}}, shape)
}
