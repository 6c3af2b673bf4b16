//go:build cudalibs

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort/gpu/gputest"
)

// cudaLibrary is where make installs the library for CUDA.
const cudaLibrary = "../../lib"

// All that CUDA needs can be loaded from the folder that runtime install filled, with a driver that answers few
// questions in the place of NVIDIA's: ONNX Runtime loads its CUDA provider, that loads the rest, and the last word is
// CUDA's own, that such a driver is no good.
func TestCUDALibraries(t *testing.T) {
	library, err := filepath.Abs(cudaLibrary)
	if err != nil {
		t.Fatal(err)
	}
	gpus := []gputest.GPU{{Name: "none really", Major: 9, Total: 1 << 36}}
	driver := gputest.CUDA{Version: 13000, GPUs: gpus}.Build(t)
	out, err := withDrivers(t, []string{driver}, "runtime", "info", "--library", library)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, parts, ok := strings.Cut(out, library+"/cuda\n")
	for line := range strings.Lines(parts) {
		if strings.HasPrefix(line, "  ") && !strings.HasSuffix(line, " found\n") {
			t.Errorf("cannot be loaded: %s", line)
		}
	}
	if !ok || strings.Count(parts, " found\n") < 20 {
		t.Errorf("not all is listed:\n%s", out)
	}
	const refused = "expr=cudaGetDeviceCount"
	if !strings.Contains(out, refused) {
		t.Errorf("the provider was not asked for a device: no %q in\n%s", refused, out)
	}
}
