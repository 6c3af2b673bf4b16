//go:build gpu

package nodes

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort"
)

// cudaLibraries is where make lib-cuda installs them, seen from this package.
const cudaLibraries = "../lib"

// TestGoldenCUDA runs the golden workflows on the first NVIDIA GPU, in the
// precision that is usual there, and compares the pictures with those that
// ComfyUI made on a CPU in float32.
func TestGoldenCUDA(t *testing.T) {
	var worst difference
	for _, c := range goldenCases(t) {
		if c.Name == fullSize && !withFullSize || len(c.Models) == 0 {
			continue
		}
		c.Tolerance, c.device = difference{Max: 6, Mean: 1}, "cuda"
		c.choose = func(ctx context.Context, device string) (*ort.Choice, error) {
			return ort.Choose(ctx, device, func(provider string) (string, error) {
				return ort.FindFor(provider, "", filepath.FromSlash(cudaLibraries))
			})
		}
		t.Run(c.Name, func(t *testing.T) {
			d := runGolden(t, c)
			t.Logf("%.0f levels, mean %.5f", d.Max, d.Mean)
			worst.Max, worst.Mean = max(worst.Max, d.Max), max(worst.Mean, d.Mean)
		})
	}
	t.Logf("all: at most %.0f levels, mean %.5f", worst.Max, worst.Mean)
}
