//go:build nullcuda

package ort

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// TestNullCUDAHeld has values stay on a GPU: they go into runs of other sessions
// there without crossing, and come back as they were.
func TestNullCUDAHeld(t *testing.T) {
	env, dir := nullGPU(t, 1<<30)
	if dir == "" {
		return
	}
	x := &tensor.Tensor{Shape: tensor.Shape{2, 3}, Data: []float32{1, 2, 3, 4, 5, 6}}
	open := func(m *onnx.Model, index int) *Session {
		t.Helper()
		s, err := env.NewSession(m, Options{Name: "net", Device: Device{Provider: "cuda", Index: index}, Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	maker, other := open(passing(x.Shape), 1), open(passing(x.Shape), 1)
	outs, err := maker.Hold(t.Context(), Inputs{Tensors: map[string]*tensor.Tensor{"x": x}})
	if err != nil {
		t.Fatal(err)
	}
	in := Inputs{Held: map[string]*Held{"x": outs["x"]}}
	for range 2 {
		got, err := other.RunHeld(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		copied, err := outs["x"].Tensor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range []*tensor.Tensor{got["x"], copied} {
			if !g.Shape.Equal(x.Shape) || !slices.Equal(g.Data, x.Data) {
				t.Errorf("%v came back of %v", g, x)
			}
		}
	}
	if got, want := other.Transfers(), (Transfers{Out: 2 * 24, Runs: 2}); got != want {
		t.Errorf("%+v crossed, want %+v", got, want)
	}
	// Kernels take such values, and what they give stays, too.
	sum := open(sumGraph(), 1)
	sums, err := sum.Hold(t.Context(), Inputs{Tensors: map[string]*tensor.Tensor{"y": x}, Held: in.Held})
	if err != nil || !sums["out"].Shape().Equal(x.Shape) {
		t.Fatalf("%v, %v", sums, err)
	}
	if got, want := sum.Transfers(), (Transfers{In: 24, Runs: 1}); got != want {
		t.Errorf("%+v crossed, want %+v", got, want)
	}
	if _, err := open(passing(x.Shape), 0).RunHeld(t.Context(), in); err == nil || !strings.Contains(err.Error(), `input "x" lies on cuda:1, not on cuda:0`) {
		t.Errorf("another GPU: %v", err)
	}
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := other.RunHeld(context.Background(), in); !errors.As(err, &e) || e.Code != CodeInput {
		t.Errorf("after its session: %v", err)
	}
	if _, err := sums["out"].Tensor(t.Context()); err != nil {
		t.Error(err)
	}
}

// sumGraph adds x and y.
func sumGraph() *onnx.Model {
	dims := []onnx.Dim{{Name: "rows"}, {Name: "columns"}}
	of := func(name string) onnx.ValueInfo {
		return onnx.ValueInfo{Name: name, Type: onnx.Float, Dims: dims}
	}
	return &onnx.Model{Opset: map[string]int64{"": 21}, Graph: onnx.Graph{
		Name: "sum", Inputs: []onnx.ValueInfo{of("x"), of("y")}, Outputs: []onnx.ValueInfo{of("out")},
		Nodes: []onnx.Node{{Name: "sum", Op: "Add", Inputs: []string{"x", "y"}, Outputs: []string{"out"}}},
	}}
}
