//go:build nullcuda

package ort

import (
	"encoding/binary"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort/gpu/gputest"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

var update = flag.Bool("update", false, "write the answers of the trial graphs")

// nullGPU opens the CUDA library of a machine whose GPU computes nothing, in a
// process of the test's own: elsewhere dir is "".
func nullGPU(t *testing.T, free int64) (env *Env, dir string) {
	t.Helper()
	g := gputest.GPU{Name: "null", Major: 9, Total: 80 << 30, Free: free}
	dir = gputest.Null{GPUs: []gputest.GPU{g, g}}.Inside(t)
	if dir == "" {
		return nil, ""
	}
	env, err := Open(filepath.Join(dir, LibraryName))
	if err != nil {
		t.Fatal(err)
	}
	return env, dir
}

// TestNullCUDAProbe has the trial of a device pass on a GPU that answers it as
// the CPU does; -update writes these answers down. On the second of two GPUs it
// works as well, on a third it does not.
func TestNullCUDAProbe(t *testing.T) {
	env, dir := nullGPU(t, 1<<30)
	if dir == "" {
		return
	}
	if *update {
		writeAnswers(t, env)
		return
	}
	for i := range 2 {
		c, err := env.Probe(t.Context(), Device{Provider: "cuda", Index: i})
		if err != nil {
			t.Fatal(err)
		}
		if !c.Float16 || !c.Attention {
			t.Errorf("GPU %d: %+v", i, c)
		}
	}
	if _, err := env.Probe(t.Context(), Device{Provider: "cuda", Index: 2}); err == nil {
		t.Error("there is a third GPU")
	} else {
		t.Log(err)
	}
}

func writeAnswers(t *testing.T, env *Env) {
	t.Helper()
	var file []byte
	for _, m := range []*onnx.Model{convolution(onnx.Float), attention(onnx.Float)} {
		in := map[string]*tensor.Tensor{}
		for i, v := range m.Graph.Inputs {
			in[v.Name] = wave(i, v)
		}
		out, _, err := prober{env, Device{}}.run(t.Context(), m, Device{}, in)
		if err != nil {
			t.Fatal(err)
		}
		file = binary.LittleEndian.AppendUint64(file, uint64(4*len(out.Data)))
		for _, v := range out.Data {
			file = binary.LittleEndian.AppendUint32(file, math.Float32bits(v))
		}
	}
	if err := os.WriteFile("gpu/gputest/drivers/null/answers", file, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestNullCUDAMemory fills a GPU's memory: with weights, then with what a run
// needs. The errors say how much that was, and the session stays usable.
func TestNullCUDAMemory(t *testing.T) {
	env, dir := nullGPU(t, 64<<20)
	if dir == "" {
		return
	}
	gpu := Options{Name: "net", Device: Device{Provider: "cuda"}, Threads: 1}
	big := onnx.Model{Opset: map[string]int64{"": 21}, Graph: onnx.Graph{
		Name: "big", Inputs: []onnx.ValueInfo{value("x", 1)}, Outputs: []onnx.ValueInfo{value("y", 20<<20)},
		Initializers: []onnx.Initializer{{Name: "w", Type: onnx.Float, Dims: []int64{20 << 20}, Raw: make([]byte, 80<<20)}},
		Nodes:        []onnx.Node{{Name: "add", Op: "Add", Inputs: []string{"x", "w"}, Outputs: []string{"y"}}},
	}}
	_, err := env.NewSession(&big, gpu)
	expectMemory(t, err, 0) // CUDA does not say it

	s, err := env.NewSession(waves(), gpu)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, floats := range []int{1 << 20, 10 << 20} {
		_, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": tensor.New(floats)})
		if floats == 1<<20 && err != nil {
			t.Error(err)
		} else if floats > 1<<20 {
			expectMemory(t, err, 4*int64(floats))
		}
	}
}

// waves is y = cos(sin(x)) for any number of numbers.
func waves() *onnx.Model {
	return &onnx.Model{Opset: map[string]int64{"": 21}, Graph: onnx.Graph{
		Name: "waves", Inputs: []onnx.ValueInfo{{Name: "x", Type: onnx.Float, Dims: []onnx.Dim{{Name: "n"}}}},
		Outputs: []onnx.ValueInfo{{Name: "y", Type: onnx.Float, Dims: []onnx.Dim{{Name: "n"}}}},
		Nodes: []onnx.Node{
			{Name: "sin", Op: "Sin", Inputs: []string{"x"}, Outputs: []string{"h"}},
			{Name: "cos", Op: "Cos", Inputs: []string{"h"}, Outputs: []string{"y"}},
		},
	}}
}

// TestNullCUDAGivesBack has memory for the work of two sessions. What runs need
// goes back after each where that is wanted, but for their inputs, and all of it
// when a session is closed.
func TestNullCUDAGivesBack(t *testing.T) {
	env, dir := nullGPU(t, 64<<20)
	if dir == "" {
		return
	}
	x := map[string]*tensor.Tensor{"x": tensor.New(2 << 20)} // 8 MiB, and two more of its size
	for _, c := range []struct{ release, close, fails bool }{{release: true}, {close: true}, {fails: true}} {
		var open []*Session
		failed := 0
		for range 4 {
			s, err := env.NewSession(waves(), Options{Name: "waves", Device: Device{Provider: "cuda"}, Threads: 1, Release: c.release})
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, s)
			if _, err := s.Run(t.Context(), x); err != nil {
				failed++
			}
			if c.close {
				s.Close()
			}
		}
		if (failed > 0) != c.fails {
			t.Errorf("%+v: %d of 4 runs found no memory", c, failed)
		}
		for _, s := range open {
			s.Close()
		}
	}
}

// TestNullCUDASpent expects a session to be refused after memory ran out in it:
// ONNX Runtime's convolution would take the sizes that it had no memory for to be
// prepared, and crash.
func TestNullCUDASpent(t *testing.T) {
	env, dir := nullGPU(t, 64<<20)
	if dir == "" {
		return
	}
	const width = 64
	side := onnx.Dim{Name: "side"}
	x := onnx.ValueInfo{Name: "x", Type: onnx.Float, Dims: []onnx.Dim{{Size: 1}, {Size: width}, side, side}}
	s, err := env.NewSession(&onnx.Model{Opset: map[string]int64{"": 21}, Graph: onnx.Graph{
		Name: "conv", Inputs: []onnx.ValueInfo{x}, Outputs: []onnx.ValueInfo{{Name: "y", Type: onnx.Float, Dims: x.Dims}},
		Initializers: []onnx.Initializer{{Name: "w", Type: onnx.Float, Dims: []int64{width, width, 3, 3}, Raw: make([]byte, 4*9*width*width)}},
		Nodes: []onnx.Node{{Name: "conv", Op: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"y"},
			Attrs: []onnx.Attr{{Name: "pads", Value: []int64{1, 1, 1, 1}}, {Name: "kernel_shape", Value: []int64{3, 3}}}}},
	}}, Options{Name: "conv", Device: Device{Provider: "cuda"}, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	run := func(side int) error {
		_, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": tensor.New(1, width, side, side)})
		return err
	}
	if err := run(64); err != nil {
		t.Error(err)
	}
	expectMemory(t, run(320), 4*width*320*320)
	for _, side := range []int{320, 64} {
		if err := run(side); err == nil || !strings.Contains(err.Error(), "open the session again") {
			t.Errorf("side %d after memory ran out: %v", side, err)
		}
	}
}

func expectMemory(t *testing.T, err error, needed int64) {
	t.Helper()
	t.Log(err)
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeMemory || e.Needed != needed || strings.Contains(e.Message, "onnxruntime_src") {
		t.Errorf("got %v, want %d bytes to be lacking, and nothing of ONNX Runtime's source", err, needed)
	}
}
