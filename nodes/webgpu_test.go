//go:build webgpu

package nodes

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

// allGoldens has TestWebGPUGolden run all cases that use a model, which takes
// SwiftShader hours.
var allGoldens = flag.Bool("all-goldens", false, "run all golden workflows on WebGPU")

// divided has several processes divide the cases among them: each takes one
// that no other has taken.
var divided = flag.String("divided", "", "run golden workflows that are not yet marked as taken in this `folder`")

// fewGoldens are the cases that run otherwise: together they use every kind of
// network, and weights of every type.
var fewGoldens = []string{"file-dtypes", "hires-chain", "upscale-model"}

// TestWebGPUGolden runs golden workflows on WebGPU and compares the pictures
// with those that ComfyUI made on a CPU. A line for each goes to the standard
// output as soon as it is done.
func TestWebGPUGolden(t *testing.T) {
	keepDevice(t)
	for _, c := range goldenCases(t) {
		if c.Name == fullSize || len(c.Models) == 0 || !*allGoldens && !slices.Contains(fewGoldens, c.Name) || taken(t, c.Name) {
			continue
		}
		c.Tolerance, c.device, c.exact = difference{Max: 4, Mean: 0.7}, "webgpu", true
		c.choose = func(ctx context.Context, device string) (*ort.Choice, error) {
			return ort.Choose(ctx, device, func(string) (string, error) { return orttest.Library(t), nil })
		}
		t.Run(c.Name, func(t *testing.T) {
			start := time.Now()
			d := runGolden(t, c)
			fmt.Printf("golden workflow %s on WebGPU: %.0f levels, mean %.5f (%.0f s)\n", c.Name, d.Max, d.Mean, time.Since(start).Seconds())
		})
	}
}

// taken marks a case in the folder that processes share, and tells whether one
// of them had done so before.
func taken(t *testing.T, name string) bool {
	t.Helper()
	if *divided == "" {
		return false
	}
	f, err := os.OpenFile(filepath.Join(*divided, name), os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return false
}

// keepDevice keeps a session open while the test runs: with the last one the
// device would go, and with it the shaders that were compiled.
func keepDevice(t *testing.T) {
	t.Helper()
	x := onnx.ValueInfo{Name: "x", Type: onnx.Float, Dims: []onnx.Dim{{Size: 1}}}
	y := x
	y.Name = "y"
	s, err := orttest.Env(t).NewSession(&onnx.Model{
		Opset: map[string]int64{"": 18},
		Graph: onnx.Graph{
			Name: "kept", Inputs: []onnx.ValueInfo{x}, Outputs: []onnx.ValueInfo{y},
			Nodes: []onnx.Node{{Op: "Neg", Inputs: []string{"x"}, Outputs: []string{"y"}}},
		},
	}, ort.Options{Name: "kept", Device: ort.Device{Provider: "webgpu"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
}
