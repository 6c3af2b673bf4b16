package archtest

import (
	"maps"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

// TestCUDAGraphs runs the graphs for CUDA on the CPU, operators that it lacks
// replaced by others, and compares the results with those of the graphs for the
// CPU.
func TestCUDAGraphs(t *testing.T) {
	env := orttest.Env(t)
	all := Networks(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n := all[name]
		if n.Large {
			continue
		}
		t.Run(name, func(t *testing.T) {
			want := n.run(t, env, nn.Target{}, ort.Device{})
			for precision, limit := range map[nn.Precision]float64{nn.Float32: 1e-4, nn.Float16: 0.1} {
				got := n.run(t, env, nn.Target{Provider: nn.CUDA, Precision: precision}, ort.Device{}, emulate)
				t.Log(precision, compare(t, want, got, limit))
			}
		})
	}
}
