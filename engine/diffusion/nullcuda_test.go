//go:build nullcuda

package diffusion

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/gpu/gputest"
)

// watchedCUDA is watchedOn for CUDA's provider on a GPU that computes nothing, in a
// process of the test's own: elsewhere the Runtime is nil.
func watchedCUDA(t *testing.T) (*Runtime, map[string]*ort.Session) {
	t.Helper()
	dir := gputest.OneNull().Inside(t)
	if dir == "" {
		return nil, nil
	}
	return watchedOn(t, "cuda", filepath.Join(dir, ort.LibraryName))
}

// TestNullCUDAStaysThere has networks stay on CUDA.
func TestNullCUDAStaysThere(t *testing.T) {
	if r, sessions := watchedCUDA(t); r != nil {
		checkStaysThere(t, r, sessions)
	}
}

// TestNullCUDAControls samples with controls on CUDA: no step but the first copies
// more than latents and timesteps between host and device.
func TestNullCUDAControls(t *testing.T) {
	r, sessions := watchedCUDA(t)
	if r == nil {
		return
	}
	files := controlFiles(t)
	crossed := crossings{sessions: sessions, last: map[string]ort.Transfers{}}
	for _, name := range slices.Sorted(maps.Keys(controlledCases)) {
		c := controlledCases[name]
		crossed.steps = nil
		c.sample(t, r, files, crossed.note)
		if !c.others {
			c.checkStep(t, crossed.steps[1])
		}
		checkNothingKept(t, r)
	}
	for _, name := range slices.Sorted(maps.Keys(sessions)) {
		checkPlacement(t, name, sessions[name])
	}
}
