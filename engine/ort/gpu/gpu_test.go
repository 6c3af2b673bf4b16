package gpu_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/ort/gpu"
	"github.com/comfyrun/comfyrun/engine/ort/gpu/gputest"
)

const gib = 1 << 30

// nothing is a machine without any driver.
var nothing = gpu.System{CUDA: "/nonexistent/libcuda.so.1", NVML: "/nonexistent/libnvidia-ml.so.1",
	Vulkan: "/nonexistent/libvulkan.so.1", Kernel: "/nonexistent/version"}

func TestNvidia(t *testing.T) {
	s := nothing
	s.CUDA = gputest.CUDA{Version: 13020, GPUs: []gputest.GPU{
		{Name: "NVIDIA H100 80GB HBM3", Major: 9, Total: 79 * gib},
		{Name: "A part of a card", Major: 8, Minor: 6, Total: 10 * gib},
		{Name: "NVML does not know it", Major: 12, Minor: 1, Total: gib},
	}}.Build(t)
	s.NVML = gputest.NVML{Driver: "580.159.04", GPUs: []gputest.GPU{
		{Total: 80 * gib, Free: 60 * gib}, {Total: 40 * gib, Free: 39 * gib},
	}}.Build(t)
	got, err := s.Nvidia()
	if err != nil {
		t.Fatal(err)
	}
	want := &gpu.Nvidia{Driver: "580.159.04", CUDA: gpu.Version{Major: 13, Minor: 2}, GPUs: []gpu.GPU{
		{Index: 0, Name: "NVIDIA H100 80GB HBM3", Capability: gpu.Version{Major: 9}, Bus: "0000:00:00.0", Total: 79 * gib, Free: 60 * gib},
		{Index: 1, Name: "A part of a card", Capability: gpu.Version{Major: 8, Minor: 6}, Bus: "0000:01:00.0", Total: 10 * gib},
		{Index: 2, Name: "NVML does not know it", Capability: gpu.Version{Major: 12, Minor: 1}, Bus: "0000:02:00.0", Total: gib},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The kernel module's own words, of the closed and of the open one.
const (
	closedModule = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc version 12.2.0\n"
	openModule   = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)  Sun Jul 27\n"
)

func TestNvidiaProblems(t *testing.T) {
	module := func(text string) string {
		path := filepath.Join(t.TempDir(), "version")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		cuda     string
		kernel   string
		driver   string
		noDriver bool
		want     string
	}{
		"nothing":     {"", "", "", true, "no NVIDIA driver: /nonexistent/libcuda.so.1: cannot open"},
		"container":   {"", module(closedModule), "550.54.15", true, "has NVIDIA's driver 550.54.15; a container must be given the GPU"},
		"open module": {"", module(openModule), "580.65.06", true, "580.65.06"},
		"no GPU":      {gputest.CUDA{Version: 13000, Init: 100}.Build(t), "", "", false, "no CUDA-capable device is detected (CUDA error 100)"},
		"odd error":   {gputest.CUDA{Version: 13000, Init: 77}.Build(t), "", "", false, "unknown error (CUDA error 77)"},
		"none":        {gputest.CUDA{Version: 13000}.Build(t), "", "", false, "finds no GPU"},
		"old":         {gputest.CUDA{Version: 9000, Lacks: "cuGetErrorString"}.Build(t), "", "", true, "has no cuGetErrorString"},
	} {
		t.Run(name, func(t *testing.T) {
			s := nothing
			if c.cuda != "" {
				s.CUDA = c.cuda
			}
			if c.kernel != "" {
				s.Kernel = c.kernel
			}
			n, err := s.Nvidia()
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, gpu.ErrNoDriver) != c.noDriver {
				t.Fatalf("error %v, want %q (no driver: %v)", err, c.want, c.noDriver)
			}
			if n == nil || n.Driver != c.driver || len(n.GPUs) != 0 {
				t.Errorf("told %+v", n)
			}
		})
	}
}

func TestAdapters(t *testing.T) {
	s := gpu.System{Vulkan: gputest.Vulkan{Adapters: []gputest.Adapter{
		{Name: "llvmpipe", Kind: 4, Memory: gib}, {Name: "Intel", Kind: 1, Memory: 2 * gib},
		{Name: "odd", Kind: 9}, {Name: "Radeon", Kind: 2, Memory: 16 * gib},
	}}.Build(t)}
	got, err := s.Adapters()
	if err != nil {
		t.Fatal(err)
	}
	want := []gpu.Adapter{
		{Name: "Radeon", Kind: gpu.Discrete, Vulkan: "1.3.280", Memory: 16 * gib},
		{Name: "Intel", Kind: gpu.Integrated, Vulkan: "1.3.280", Memory: 2 * gib},
		{Name: "odd", Kind: gpu.Other, Vulkan: "1.3.280"},
		{Name: "llvmpipe", Kind: gpu.Software, Vulkan: "1.3.280", Memory: gib},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNoAdapters(t *testing.T) {
	for want, path := range map[string]string{
		"no Vulkan: /nonexistent": nothing.Vulkan,
		"no Vulkan: ":             gputest.CUDA{}.Build(t),
		"no Vulkan driver":        gputest.Vulkan{Result: -9}.Build(t),
		"driver for a GPU":        gputest.Vulkan{}.Build(t),
		"error -3":                gputest.Vulkan{Result: -3}.Build(t),
	} {
		adapters, err := gpu.System{Vulkan: path}.Adapters()
		if err == nil || !strings.Contains(err.Error(), want) || adapters != nil {
			t.Errorf("%v, error %v, want %q", adapters, err, want)
		}
	}
}

func TestVersion(t *testing.T) {
	var v gpu.Version
	if err := v.UnmarshalText([]byte("12.9")); err != nil || v != (gpu.Version{Major: 12, Minor: 9}) {
		t.Errorf("read %v, %v", v, err)
	}
	for _, w := range []gpu.Version{{13, 0}, {12, 10}} {
		if !v.Less(w) || w.Less(v) || w.Less(w) {
			t.Errorf("%v and %v are in no order", v, w)
		}
	}
	if v.UnmarshalText([]byte("new")) == nil {
		t.Error("a word was read as a version")
	}
}
