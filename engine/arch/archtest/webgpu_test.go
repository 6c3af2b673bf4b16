//go:build webgpu

package archtest

import (
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

// sizeOps are operators that may run on the CPU beside a device: they compute
// sizes.
var sizeOps = []string{"Shape", "Slice", "Concat", "Gather", "Range", "Cast", "Add", "Sub", "Mul", "Div", "Round", "And", "Less", "GreaterOrEqual", "Reshape", "Unsqueeze", "Squeeze"}

// TestWebGPUNetworks compares every architecture on WebGPU with the CPU, and
// expects no operators on the CPU but those for sizes.
func TestWebGPUNetworks(t *testing.T) {
	env := orttest.Env(t)
	forEach(t, func(t *testing.T, n Network) {
		want := n.run(t, env, nn.Target{}, ort.Device{})
		got := n.run(t, env, nn.Target{Provider: nn.WebGPU, PlainAttention: true}, ort.Device{Provider: "webgpu"})
		t.Log(compare(t, want, got, 1e-3), got.cpu)
		for op := range got.cpu {
			if !slices.Contains(sizeOps, op) {
				t.Errorf("%s runs on the CPU", op)
			}
		}
	})
}
