//go:build nullcuda

package nodes

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/gpu/gputest"
)

// TestNullCUDAGolden runs the golden workflows by ONNX Runtime's CUDA provider on
// a GPU that computes nothing, up to the last picture. What is on the pictures
// means nothing.
func TestNullCUDAGolden(t *testing.T) {
	dir := gputest.OneNull().Inside(t)
	if dir == "" {
		return
	}
	for _, c := range goldenCases(t) {
		// One patch rounds sizes, which the provider does on the GPU.
		if c.Name == fullSize || c.Name == "model-patches" || len(c.Models) == 0 {
			continue
		}
		c.device = "cuda"
		c.choose = func(ctx context.Context, device string) (*ort.Choice, error) {
			return ort.Choose(ctx, device, func(string) (string, error) { return filepath.Join(dir, ort.LibraryName), nil })
		}
		t.Run(c.Name, func(t *testing.T) {
			plan, _ := planGolden(t, c)
			result, err := (&engine.Runner{}).Run(t.Context(), plan, engine.RunOptions{})
			if err != nil {
				// Memory that nobody wrote to may hold anything.
				if !strings.Contains(err.Error(), "overflowed in fp16") {
					t.Error(err)
				}
				return
			}
			for node, saved := range savedImages(t, result) {
				if len(saved) != len(c.Images[node]) {
					t.Errorf("node %s saved %d pictures, want %d", node, len(saved), len(c.Images[node]))
				}
			}
		})
	}
}
