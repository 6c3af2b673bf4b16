//go:build cudalibs

package ort

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort/gpu/gputest"
	ortgo "github.com/yalue/onnxruntime_go"
)

// The CUDA provider knows every option that sessions give it, and its value. It
// is loaded with a driver without a GPU in the place of NVIDIA's, in a process
// of its own, as a process loads one library. Only the number of the GPU needs a
// real one.
func TestCUDAOptions(t *testing.T) {
	if os.Getenv("COMFYRUN_CHILD") == "" {
		driver := gputest.CUDA{Version: 13000}.Build(t)
		cmd := exec.Command(os.Args[0], "-test.run", "^TestCUDAOptions$", "-test.v")
		cmd.Env = append(os.Environ(), "COMFYRUN_CHILD=1", "LD_LIBRARY_PATH="+filepath.Dir(driver))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	e, err := Open("../../lib/cuda/" + LibraryName)
	if err != nil {
		t.Fatal(err)
	}
	if err := preload(filepath.Dir(e.Library())); err != nil {
		t.Fatal(err)
	}
	options := cudaOptions(0)
	delete(options, "device_id")
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if err := update(t, key, options[key]); err != nil {
			t.Errorf("%s=%s: %v", key, options[key], err)
		}
	}
	for key, value := range map[string]string{"prefer_nwhc": "1", "cudnn_conv_algo_search": "FAST"} {
		if err := update(t, key, value); err == nil || !strings.Contains(err.Error(), "provider option") {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
}

func update(t *testing.T, key, value string) error {
	t.Helper()
	o, err := ortgo.NewCUDAProviderOptions()
	if err != nil {
		t.Fatal(err)
	}
	defer o.Destroy()
	return o.Update(map[string]string{key: value})
}
