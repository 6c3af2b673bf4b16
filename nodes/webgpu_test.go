//go:build webgpu

package nodes

import (
	"context"
	"flag"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

// allGoldens has TestWebGPUGolden run all cases that use a model, for which a
// Vulkan driver on the processor takes hours.
var allGoldens = flag.Bool("all-goldens", false, "run all golden workflows on WebGPU")

// fewGoldens are the cases that run otherwise: together they use every kind of
// network, and weights of every type.
var fewGoldens = []string{"file-dtypes", "hires-chain", "upscale-model"}

// TestWebGPUGolden runs golden workflows on WebGPU and compares the pictures
// with those that ComfyUI made on a CPU.
func TestWebGPUGolden(t *testing.T) {
	for _, c := range goldenCases(t) {
		if c.Name == fullSize || len(c.Models) == 0 || !*allGoldens && !slices.Contains(fewGoldens, c.Name) {
			continue
		}
		c.Tolerance, c.device = difference{Max: 4, Mean: 0.7}, "webgpu"
		c.choose = func(ctx context.Context, device string) (*ort.Choice, error) {
			return ort.Choose(ctx, device, func(string) (string, error) { return orttest.Library(t), nil })
		}
		t.Run(c.Name, func(t *testing.T) {
			d := runGolden(t, c)
			t.Logf("%.0f levels, mean %.5f", d.Max, d.Mean)
		})
	}
}
