package ort_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// weightFile writes float32 values 0, 1, 2, … behind a head of odd length, and
// returns its canonical path.
func weightFile(t *testing.T, head, count int) string {
	t.Helper()
	data := make([]byte, head, head+4*count)
	for i := range count {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(i)))
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "weights of a model.safetensors")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func (g *graph) external(name, path string, offset int, dims ...int64) string {
	length := int64(4)
	for _, d := range dims {
		length *= d
	}
	g.Graph.Initializers = append(g.Graph.Initializers, onnx.Initializer{Name: name, Type: onnx.Float, Dims: dims,
		External: &onnx.External{Path: path, Offset: int64(offset), Length: length}})
	return name
}

func TestExternalWeights(t *testing.T) {
	const head = 71
	g := newGraph("external")
	path := weightFile(t, head, 100)
	sum := g.node("Add", []string{g.input("x", 1), g.external("w", path, head+4*10, 3)}, []string{"sum"})
	g.node("Mul", []string{sum, g.external("v", weightFile(t, 0, 20), 4*5, 3)}, []string{"out"})
	g.output("out", 1)
	out := run(t, g.session(t, ort.Options{}), map[string]*tensor.Tensor{"x": tensor.Full(1, 3)})["out"]
	for i, want := range []float32{11 * 5, 12 * 6, 13 * 7} {
		if out.Data[i] != want {
			t.Errorf("out[%d] = %v, want %v", i, out.Data[i], want)
		}
	}
}

// Weights of 128 MiB must be mapped: neither a session nor a run copies them.
func TestWeightsAreNotCopied(t *testing.T) {
	const width, layers = 1024, 32
	path := weightFile(t, 0, width*width)
	g := newGraph("wide")
	last := g.input("x", 2)
	for i := range layers {
		n := strconv.Itoa(i)
		last = g.node("ms.FusedMatMul", []string{last, g.external("w"+n, path, 0, width, width)}, []string{"h" + n},
			onnx.Attr{Name: "transB", Value: int64(1)}, onnx.Attr{Name: "alpha", Value: float32(1e-9)})
	}
	g.node("Neg", []string{last}, []string{"out"})
	g.output("out", 2)
	before := anonymous(t)
	run(t, g.session(t, ort.Options{}), map[string]*tensor.Tensor{"x": tensor.Full(1, 2, width)})
	if after := anonymous(t); after > before+16 {
		t.Errorf("%d MiB before, %d MiB after: weights of 128 MiB were copied", before, after)
	}
}
