//go:build xl

package diffusion

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// TestFullXL writes a checkpoint of Stable Diffusion XL's real sizes (6.9 GB),
// encodes a prompt and evaluates the network for a picture of 512x512. There are
// no reference numbers: it shows that the sizes fit into memory, and how long
// things take.
func TestFullXL(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "xl.safetensors")
	began := time.Now()
	lap := func(what string) {
		t.Logf("%-40s %6.1f s, %s", what, time.Since(began).Seconds(), memory(t))
		began = time.Now()
	}
	shapes, err := weightstest.RealXL()
	if err != nil {
		t.Fatal(err)
	}
	weightstest.WriteShapes(t, path, shapes, tensor.F16)
	lap("write the checkpoint")
	r := testRuntime(t, &weights.Cache{Dir: filepath.Join(dir, "cache")})
	m, clip, _, err := r.LoadCheckpoint(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	lap("read the header, trace the graphs")
	for _, what := range []string{"first prompt: convert and load", "second prompt"} {
		if _, err := clip.Encode(t.Context(), "a photo of a cat"); err != nil {
			t.Fatal(err)
		}
		lap(what)
	}
	cond, err := clip.Encode(t.Context(), "a photo of a cat")
	if err != nil {
		t.Fatal(err)
	}
	x := tensor.Full(1, 1, 4, 64, 64)
	in, err := m.inputs(cond[0], side{shape: x.Shape})
	if err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	for _, what := range []string{"first evaluation: convert and load", "second evaluation, 512x512"} {
		out, err := m.predict(t.Context(), x, in, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range out.Data {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("the prediction holds %g", v)
			}
		}
		lap(what)
	}
}

// memory returns what the process has had in memory at most and has now, mapped
// weights included.
func memory(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "memory unknown"
	}
	var parts []string
	for _, line := range strings.Split(string(data), "\n") {
		for _, key := range []string{"VmHWM", "RssAnon", "RssFile"} {
			if rest, ok := strings.CutPrefix(line, key+":"); ok {
				parts = append(parts, key+" "+strings.TrimSpace(rest))
			}
		}
	}
	return strings.Join(parts, ", ")
}
