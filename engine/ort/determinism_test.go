package ort_test

import (
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// layersGraph has the operators that do a network's arithmetic, large enough
// for ONNX Runtime to share them out to threads.
func layersGraph() *graph {
	const width = 192
	g := newGraph("layers")
	g.input("x", 3)
	n := g.node("LayerNormalization", []string{"x", g.weight("g", random(1, width)), g.weight("b", random(2, width))}, []string{"n"})
	q := g.node("ms.FusedMatMul", []string{n, g.weight("q", random(3, width, width))}, []string{"qx"},
		onnx.Attr{Name: "transB", Value: int64(1)}, onnx.Attr{Name: "alpha", Value: float32(0.1)})
	a := g.node("ms.MultiHeadAttention", []string{q, n, n}, []string{"a"}, onnx.Attr{Name: "num_heads", Value: int64(4)})
	r := g.node("Reshape", []string{a, g.ints("image", 0, 24, 64, -1)}, []string{"r"})
	c := g.node("Conv", []string{r, g.weight("w", random(4, 24, 24, 3, 3))}, []string{"c"},
		onnx.Attr{Name: "pads", Value: []int64{1, 1, 1, 1}})
	i := g.node("InstanceNormalization", []string{c, g.weight("ones", tensor.Full(1, 24)), g.weight("zeros", tensor.New(24))}, []string{"i"})
	g.node("ms.QuickGelu", []string{i}, []string{"out"}, onnx.Attr{Name: "alpha", Value: float32(1)})
	g.output("out", 4)
	return g
}

// The same input gives the same bits: again, in another session, with other
// inputs run in between and with another number of threads.
func TestSameInputSameBits(t *testing.T) {
	in := map[string]*tensor.Tensor{"x": random(9, 2, 512, 192)}
	first := layersGraph().session(t, ort.Options{Threads: 1})
	want := run(t, first, in)["out"].Data
	run(t, first, map[string]*tensor.Tensor{"x": random(8, 1, 256, 192)})
	for threads := 1; threads <= 4; threads++ {
		s := layersGraph().session(t, ort.Options{Threads: threads})
		for range 3 {
			if !slices.Equal(want, run(t, s, in)["out"].Data) {
				t.Fatalf("other bits with %d threads", threads)
			}
		}
	}
	if !slices.Equal(want, run(t, first, in)["out"].Data) {
		t.Error("other bits after other inputs")
	}
}
