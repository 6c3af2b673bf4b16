package archtest

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

// emulator replaces operators that only CUDA has by standard ones, so that
// graphs for CUDA run on the CPU.
type emulator struct{ graph *onnx.Graph }

// emulate rewrites a graph for CUDA.
func emulate(g *onnx.Graph) {
	nodes := g.Nodes
	g.Nodes, g.Initializers = nil, slices.Clip(g.Initializers)
	e := emulator{g}
	for _, n := range nodes {
		switch n.Op {
		case "GroupNorm":
			e.groupNorm(n, n.Inputs[0], n.Outputs[0])
		case "SkipGroupNorm":
			e.skipGroupNorm(n)
		case "BiasSplitGelu":
			e.biasSplitGelu(n)
		case "BiasAdd":
			sum := e.node("Add", "", []string{n.Inputs[0], n.Inputs[1]}, n.Outputs[0]+".biased")
			e.node("Add", "", []string{sum, n.Inputs[2]}, n.Outputs[0])
		default:
			g.Nodes = append(g.Nodes, n)
		}
	}
}

func (e *emulator) node(op, domain string, in []string, out string, attrs ...onnx.Attr) string {
	e.graph.Nodes = append(e.graph.Nodes, onnx.Node{Name: out, Op: op, Domain: domain, Inputs: in, Outputs: []string{out}, Attrs: attrs})
	return out
}

func (e *emulator) constant(name string, t onnx.ElemType, raw []byte, n int) string {
	e.graph.Initializers = append(e.graph.Initializers, onnx.Initializer{Name: name, Type: t, Dims: []int64{int64(n)}, Raw: raw})
	return name
}

func (e *emulator) ints(name string, values ...int64) string {
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	return e.constant(name, onnx.Int64, raw, len(values))
}

func (e *emulator) floats(name string, v float32, n int) string {
	var raw []byte
	for range n {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return e.constant(name, onnx.Float, raw, n)
}

func attrOf(n onnx.Node, name string) any {
	for _, a := range n.Attrs {
		if a.Name == name {
			return a.Value
		}
	}
	return nil
}

// groupNorm normalises x, which has channels last, as the attributes and the
// scale and shift of n say: in float32, as CUDA's kernel does.
func (e *emulator) groupNorm(n onnx.Node, x, out string) {
	if attrOf(n, "channels_last") != int64(1) {
		panic("GroupNorm: channels must come last")
	}
	groups := attrOf(n, "groups").(int64)
	to := func(v, name string, t onnx.ElemType) string {
		return e.node("Cast", "", []string{v}, name, onnx.Attr{Name: "to", Value: int64(t)})
	}
	first := e.node("Transpose", "", []string{to(x, out+".float", onnx.Float)}, out+".first", onnx.Attr{Name: "perm", Value: []int64{0, 3, 1, 2}})
	flat := e.node("Reshape", "", []string{first, e.ints(out+".groups", 0, groups, -1)}, out+".flat")
	one, zero := e.floats(out+".one", 1, int(groups)), e.floats(out+".zero", 0, int(groups))
	normal := e.node("InstanceNormalization", "", []string{flat, one, zero}, out+".normal", onnx.Attr{Name: "epsilon", Value: attrOf(n, "epsilon")})
	back := e.node("Reshape", "", []string{normal, e.node("Shape", "", []string{first}, out+".shape")}, out+".back")
	y := e.node("Transpose", "", []string{back}, out+".last", onnx.Attr{Name: "perm", Value: []int64{0, 2, 3, 1}})
	y = e.node("Mul", "", []string{y, n.Inputs[1]}, out+".scaled")
	y = e.node("Add", "", []string{y, n.Inputs[2]}, out+".shifted")
	switch attrOf(n, "activation") {
	case int64(1):
		y = e.node("QuickGelu", "com.microsoft", []string{y}, out+".active", onnx.Attr{Name: "alpha", Value: float32(1)})
	case int64(0):
	default:
		panic(fmt.Sprint("GroupNorm: activation ", attrOf(n, "activation")))
	}
	e.node("CastLike", "", []string{y, x}, out)
}

// skipGroupNorm adds the skip, and has the sum as a second output.
func (e *emulator) skipGroupNorm(n onnx.Node) {
	sum := n.Outputs[0] + ".sum"
	if len(n.Outputs) > 1 {
		sum = n.Outputs[1]
	}
	e.node("Add", "", []string{n.Inputs[0], n.Inputs[3]}, sum)
	e.groupNorm(n, sum, n.Outputs[0])
}

// biasSplitGelu adds the bias and multiplies the first half of the channels
// with the GELU of the second.
func (e *emulator) biasSplitGelu(n onnx.Node) {
	out := n.Outputs[0]
	sum := e.node("Add", "", []string{n.Inputs[0], n.Inputs[1]}, out+".biased")
	value, gate := out+".value", out+".gate"
	e.graph.Nodes = append(e.graph.Nodes, onnx.Node{
		Name: out + ".split", Op: "Split", Inputs: []string{sum}, Outputs: []string{value, gate},
		Attrs: []onnx.Attr{{Name: "axis", Value: int64(2)}, {Name: "num_outputs", Value: int64(2)}},
	})
	active := e.node("Gelu", "com.microsoft", []string{gate}, out+".active")
	e.node("Mul", "", []string{value, active}, out)
}
