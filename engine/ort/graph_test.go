package ort_test

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// graph builds small models: inputs x, y, z, … of free sizes, one output.
type graph struct{ onnx.Model }

func newGraph(name string) *graph {
	return &graph{onnx.Model{
		Producer: "comfyrun test",
		Opset:    map[string]int64{"": 21, "com.microsoft": 1},
		Graph:    onnx.Graph{Name: name},
	}}
}

// free declares dimensions that are known only at run time.
func free(name string, rank int) onnx.ValueInfo {
	v := onnx.ValueInfo{Name: name, Type: onnx.Float}
	for i := range rank {
		v.Dims = append(v.Dims, onnx.Dim{Name: name + string(rune('a'+i))})
	}
	return v
}

func (g *graph) input(name string, rank int) string {
	g.Graph.Inputs = append(g.Graph.Inputs, free(name, rank))
	return name
}

func (g *graph) output(name string, rank int) {
	g.Graph.Outputs = append(g.Graph.Outputs, free(name, rank))
}

func (g *graph) ints(name string, vs ...int64) string {
	var raw []byte
	for _, v := range vs {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	g.Graph.Initializers = append(g.Graph.Initializers,
		onnx.Initializer{Name: name, Type: onnx.Int64, Dims: []int64{int64(len(vs))}, Raw: raw})
	return name
}

func (g *graph) weight(name string, t *tensor.Tensor) string {
	raw := []byte{}
	for _, v := range t.Data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	init := onnx.Initializer{Name: name, Type: onnx.Float, Raw: raw, Dims: []int64{}}
	for _, d := range t.Shape {
		init.Dims = append(init.Dims, int64(d))
	}
	g.Graph.Initializers = append(g.Graph.Initializers, init)
	return name
}

// node appends an operator; op may begin with "ms." for com.microsoft. It
// returns the first output's name.
func (g *graph) node(op string, inputs, outputs []string, attrs ...onnx.Attr) string {
	n := onnx.Node{Name: outputs[0], Op: op, Inputs: inputs, Outputs: outputs, Attrs: attrs}
	if len(op) > 3 && op[:3] == "ms." {
		n.Domain, n.Op = "com.microsoft", op[3:]
	}
	g.Graph.Nodes = append(g.Graph.Nodes, n)
	return outputs[0]
}

func (g *graph) session(t testing.TB, o ort.Options) *ort.Session {
	t.Helper()
	if o.Name == "" {
		o.Name = g.Graph.Name
	}
	s, err := orttest.Env(t).NewSession(&g.Model, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func run(t testing.TB, s *ort.Session, in map[string]*tensor.Tensor) map[string]*tensor.Tensor {
	t.Helper()
	out, err := s.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// random returns a tensor of values in [-1, 1) that depend on the shape only.
func random(seed uint64, shape ...int) *tensor.Tensor {
	t := tensor.New(shape...)
	r := rand.New(rand.NewPCG(seed, uint64(len(t.Data))))
	for i := range t.Data {
		t.Data[i] = 2*r.Float32() - 1
	}
	return t
}
