//go:build webgpu

package diffusion

import (
	"maps"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// TestWebGPUControls samples with controls: the latents are those of the CPU, as
// far as a device's sines of timesteps go, and no step but the first copies more than latents and timesteps between host
// and device.
func TestWebGPUControls(t *testing.T) {
	files := controlFiles(t)
	cpu := testRuntime(t, &weights.Cache{Dir: t.TempDir()})
	gpu, sessions := watched(t)
	crossed := crossings{sessions: sessions, last: map[string]ort.Transfers{}}
	for _, name := range slices.Sorted(maps.Keys(controlledCases)) {
		t.Run(name, func(t *testing.T) {
			c := controlledCases[name]
			crossed.steps = nil
			got := c.sample(t, gpu, files, crossed.note)
			compareTo(t, got, c.sample(t, cpu, files, nil), 5e-5)
			if !c.others {
				c.checkStep(t, crossed.steps[1])
			}
			checkNothingKept(t, gpu)
		})
	}
	for _, name := range slices.Sorted(maps.Keys(sessions)) {
		checkPlacement(t, name, sessions[name])
	}
}
