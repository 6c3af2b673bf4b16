//go:build webgpu

package archtest

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

// shapeOps are operators that may run on the CPU beside a device: they compute
// sizes.
var shapeOps = []string{"Shape", "Slice", "Concat", "Gather", "Range", "Cast", "Add", "Sub", "Mul", "Div", "Round", "And", "Less", "GreaterOrEqual", "Reshape", "Unsqueeze", "Squeeze"}

// TestWebGPU compares every architecture on WebGPU with the CPU, and expects no
// operators on the CPU but those for sizes.
func TestWebGPU(t *testing.T) {
	env := orttest.Env(t)
	all := Networks(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n := all[name]
		if n.Large {
			continue
		}
		t.Run(name, func(t *testing.T) {
			target := nn.Target{Provider: nn.WebGPU, PlainAttention: true}
			want := n.run(t, env, nn.Target{}, ort.Device{})
			got := n.run(t, env, target, ort.Device{Provider: "webgpu"})
			t.Log(compare(t, want, got, 1e-3), got.cpu)
			for op := range got.cpu {
				if !slices.Contains(shapeOps, strings.TrimPrefix(op, "com.microsoft.")) {
					t.Errorf("%s runs on the CPU", op)
				}
			}
		})
	}
}
