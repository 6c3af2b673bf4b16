package ort_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// BenchmarkGEMM multiplies [1024 1280] with a weight [5120 1280], a linear
// layer of a diffusion network, and reports GFLOP/s: what this machine's cores
// reach, the measure for every other speed.
func BenchmarkGEMM(b *testing.B) {
	const m, k, n = 1024, 1280, 5120
	g := newGraph("gemm")
	g.node("ms.FusedMatMul", []string{g.input("x", 2), g.weight("w", random(1, n, k))}, []string{"out"},
		onnx.Attr{Name: "transB", Value: int64(1)})
	g.output("out", 2)
	in := map[string]*tensor.Tensor{"x": random(2, m, k)}
	for _, threads := range []int{1, 0} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			benchmark(b, g.session(b, ort.Options{Threads: threads}), in, 2*m*k*n)
		})
	}
}

// BenchmarkConv is a 3x3 convolution of 320 channels at 64x64.
func BenchmarkConv(b *testing.B) {
	const c, size = 320, 64
	g := newGraph("conv")
	g.node("Conv", []string{g.input("x", 4), g.weight("w", random(1, c, c, 3, 3))}, []string{"out"},
		onnx.Attr{Name: "pads", Value: []int64{1, 1, 1, 1}})
	g.output("out", 4)
	in := map[string]*tensor.Tensor{"x": random(2, 1, c, size, size)}
	benchmark(b, g.session(b, ort.Options{Threads: 1}), in, 2*c*c*9*size*size)
}

// BenchmarkCall is what one run of a graph that does nothing costs.
func BenchmarkCall(b *testing.B) {
	x := random(1, 1, 1)
	benchmark(b, addGraph().session(b, ort.Options{Threads: 1}), map[string]*tensor.Tensor{"x": x, "y": x}, 0)
}

// benchmark runs the session and reports GFLOP/s for runs of flop operations.
func benchmark(b *testing.B, s *ort.Session, in map[string]*tensor.Tensor, flop float64) {
	run(b, s, in)
	for b.Loop() {
		if _, err := s.Run(context.Background(), in); err != nil {
			b.Fatal(err)
		}
	}
	if flop > 0 {
		b.ReportMetric(flop*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	}
}
