package diffusion

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// Floating-point operations of one call with real widths, counted from the
// layer list (two for each multiply-add): the work that the definition of the
// network asks for, however it is done.
var operations = map[string]map[int]float64{
	"UNet":        {256: 180.6e9, 512: 803e9},
	"VAE decoder": {256: 622e9, 512: 2515e9},
}

// BenchmarkFull runs the networks of SD 1.5 with real widths beside a large
// matrix product through the same library, and reports the rate of each and
// their ratio. COMFYRUN_BENCH_DIR keeps the 2.1 GB checkpoint and its converted
// weights for the next time, COMFYRUN_BENCH_THREADS sets the threads (1).
func BenchmarkFull(b *testing.B) {
	dir := os.Getenv("COMFYRUN_BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	threads, _ := strconv.Atoi(os.Getenv("COMFYRUN_BENCH_THREADS"))
	threads = max(threads, 1)
	path, err := weightstest.WriteFile(dir, "sd15-full-fp16")
	if err != nil {
		b.Fatal(err)
	}
	library := orttest.Library(b)
	r, err := Open(Options{
		Library: func() (string, error) { return library, nil }, Threads: threads,
		Cache: &weights.Cache{Dir: filepath.Join(dir, "weights")},
	})
	if err != nil {
		b.Fatal(err)
	}
	model, _, vae, err := r.LoadCheckpoint(context.Background(), path)
	if err != nil {
		b.Fatal(err)
	}
	gemm := newGEMM(b, threads)
	for _, size := range []int{256, 512} {
		n := size / 8
		run := func(name string, c *component, in map[string]*tensor.Tensor) {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				benchComponent(b, gemm, operations[name][size], func() error {
					_, err := r.pool.run(context.Background(), c, in)
					return err
				})
			})
			r.Free()
		}
		run("UNet", model.unet, map[string]*tensor.Tensor{
			"x": tensor.Full(0.3, 1, 4, n, n), "timesteps": tensor.Full(500, 1), "context": tensor.Full(0.1, 1, 77, 768),
		})
		run("VAE decoder", vae.decoder, map[string]*tensor.Tensor{"z": tensor.Full(0.3, 1, 4, n, n)})
	}
}

// benchComponent times run and the matrix product in turn.
func benchComponent(b *testing.B, gemm *gemm, ops float64, run func() error) {
	if err := run(); err != nil { // maps the weights
		b.Fatal(err)
	}
	var own, product time.Duration
	for b.Loop() {
		product += gemm.run(b)
		start := time.Now()
		if err := run(); err != nil {
			b.Fatal(err)
		}
		own += time.Since(start)
	}
	n := float64(b.N)
	rate, peak := ops*n/own.Seconds()/1e9, gemm.operations()*n/product.Seconds()/1e9
	b.ReportMetric(own.Seconds()/n, "s/call")
	b.ReportMetric(rate, "GFLOP/s")
	b.ReportMetric(peak, "GEMM-GFLOP/s")
	b.ReportMetric(rate/peak, "of-GEMM")
}

// gemm is a matrix product of a size at which a core is as fast as it gets.
type gemm struct {
	session *ort.Session
	in      map[string]*tensor.Tensor
}

const gemmSize = 2048

func newGEMM(b *testing.B, threads int) *gemm {
	b.Helper()
	square := []onnx.Dim{{Size: gemmSize}, {Size: gemmSize}}
	session, err := orttest.Env(b).NewSession(&onnx.Model{
		Opset: map[string]int64{"": 18},
		Graph: onnx.Graph{
			Name:    "gemm",
			Inputs:  []onnx.ValueInfo{{Name: "a", Type: onnx.Float, Dims: square}, {Name: "b", Type: onnx.Float, Dims: square}},
			Outputs: []onnx.ValueInfo{{Name: "c", Type: onnx.Float, Dims: square}},
			Nodes:   []onnx.Node{{Name: "product", Op: "MatMul", Inputs: []string{"a", "b"}, Outputs: []string{"c"}}},
		},
	}, ort.Options{Name: "gemm", Threads: threads})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { session.Close() })
	g := &gemm{session: session, in: map[string]*tensor.Tensor{
		"a": tensor.Full(0.5, gemmSize, gemmSize), "b": tensor.Full(0.25, gemmSize, gemmSize),
	}}
	g.run(b)
	return g
}

func (g *gemm) operations() float64 { return 8 * 2 * gemmSize * gemmSize * gemmSize }

// run computes the product eight times and returns the time it took.
func (g *gemm) run(b *testing.B) time.Duration {
	start := time.Now()
	for range 8 {
		if _, err := g.session.Run(context.Background(), g.in); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}
