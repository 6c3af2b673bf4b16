package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/ort/gpu/gputest"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

// withDrivers runs comfyrun in a process that finds the drivers at these paths, and no others.
func withDrivers(t *testing.T, drivers []string, args ...string) (string, error) {
	t.Helper()
	var dirs []string
	for _, path := range drivers {
		dirs = append(dirs, filepath.Dir(path))
	}
	cmd := exec.CommandContext(t.Context(), "comfyrun", args...)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(dirs, ":"), "COMFYRUN_HOME="+t.TempDir())
	out, err := cmd.Output() // drivers and what stands on them may write to standard error
	return string(out), err
}

// What drivers tell is printed, for people and as JSON.
func TestRuntimeInfoGPUs(t *testing.T) {
	const gib = 1 << 30
	gpus := []gputest.GPU{{Name: "NVIDIA H100", Major: 9, Total: 80 * gib, Free: 70 * gib}, {Name: "NVIDIA TITAN X", Major: 5, Minor: 2, Total: 12 * gib}}
	drivers := []string{
		gputest.CUDA{Version: 13010, GPUs: gpus}.Build(t), gputest.NVML{Driver: "590.44.01", GPUs: gpus[:1]}.Build(t),
		gputest.Vulkan{Adapters: []gputest.Adapter{{Name: "llvmpipe", Kind: 4, Memory: gib}}}.Build(t),
	}
	library := orttest.Library(t)
	alone := filepath.Join(t.TempDir(), "libonnxruntime.so.1") // the checkout's lib may hold CUDA's library, too
	if err := os.Symlink(library, alone); err != nil {
		t.Fatal(err)
	}
	out, err := withDrivers(t, drivers, "runtime", "info", "--provider", "cpu", "--library", alone)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"nvidia driver 590.44.01, for CUDA up to 13.1", "cuda:0 NVIDIA H100, compute capability 9.0, 81920 MiB, 71680 MiB free",
		"cuda:1 NVIDIA TITAN X, compute capability 5.2, 12288 MiB cannot be used: NVIDIA TITAN X has compute capability 5.2; CUDA 13 needs 7.5",
		"vulkan llvmpipe (cpu), Vulkan 1.3.280, 1024 MiB", "cuda libraries not installed; fetch them with: comfyrun runtime install --provider cuda",
		"provider CUDA in a library of its own: comfyrun runtime install --provider cuda",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	out, err = withDrivers(t, drivers, "runtime", "info", "--provider", "cpu", "--library", alone, "--json")
	var info runtimeInfo
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err != nil || info.Path != library || !info.Usable() || info.Nvidia.GPUs[0].Free != 70*gib || info.Refused[1] == "" || len(info.Adapters) != 1 {
		t.Errorf("%v\n%s", err, out)
	}
}

// Without a driver it takes no second to say so.
func TestRuntimeInfoNoDriver(t *testing.T) {
	// Drivers that do not work hide those that the machine may have.
	drivers := []string{gputest.CUDA{Lacks: "cuGetErrorString"}.Build(t), gputest.Vulkan{Result: -9}.Build(t)}
	var took time.Duration
	for range 3 {
		start := ofChildren(t)
		out, err := withDrivers(t, drivers, "runtime", "info", "--library", orttest.Library(t))
		if err != nil || !strings.Contains(out, "no NVIDIA driver") || !strings.Contains(out, "install a driver of version 580 or newer") {
			t.Fatalf("%v\n%s", err, out)
		}
		if took = ofChildren(t) - start; took < time.Second {
			return
		}
	}
	t.Errorf("took %v", took)
}

// ofChildren is how long processes that ended have kept processors busy, whatever else the machine has to do.
func ofChildren(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
