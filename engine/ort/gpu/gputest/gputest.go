// Package gputest makes drivers for tests: shared libraries with the functions
// that NVIDIA's and Vulkan's drivers have, which answer what a test wants. A C
// compiler is needed, as for everything that uses cgo.
package gputest

import (
	_ "embed"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed drivers/cuda.c
var cudaSource string

//go:embed drivers/nvml.c
var nvmlSource string

//go:embed drivers/vulkan.c
var vulkanSource string

// GPU is one that a driver of a test has.
type GPU struct {
	Name         string
	Major, Minor int
	Total, Free  int64 // bytes
}

// CUDA is a driver of NVIDIA's.
type CUDA struct {
	Version int // 13000 is 13.0
	Init    int // what cuInit returns
	GPUs    []GPU
	Lacks   string // a function that it has not
}

// Build returns the path of libcuda.so.1.
func (c CUDA) Build(t testing.TB) string {
	t.Helper()
	return build(t, "libcuda.so.1", cudaSource, c.macros())
}

func (c CUDA) macros() map[string]string {
	return map[string]string{
		"VERSION": fmt.Sprint(c.Version), "INIT": fmt.Sprint(c.Init), "GPUS": gpus(c.GPUs), "COUNT": fmt.Sprint(len(c.GPUs)),
		or(c.Lacks, "nothing"): "lacking",
	}
}

// NVML is the library beside it that tells the memory.
type NVML struct {
	Driver string
	GPUs   []GPU
}

// Build returns the path of libnvidia-ml.so.1.
func (n NVML) Build(t testing.TB) string {
	t.Helper()
	return build(t, "libnvidia-ml.so.1", nvmlSource, n.macros())
}

func (n NVML) macros() map[string]string {
	return map[string]string{"DRIVER": quote(n.Driver), "GPUS": gpus(n.GPUs), "COUNT": fmt.Sprint(len(n.GPUs))}
}

// Adapter is one that Vulkan lists.
type Adapter struct {
	Name   string
	Kind   int // VkPhysicalDeviceType
	Memory int64
}

// Vulkan is a loader with its drivers.
type Vulkan struct {
	Result   int // what vkCreateInstance returns
	Adapters []Adapter
}

// Build returns the path of libvulkan.so.1.
func (v Vulkan) Build(t testing.TB) string {
	t.Helper()
	var list []string
	for _, a := range v.Adapters {
		list = append(list, fmt.Sprintf("{%s,%d,%dull}", quote(a.Name), a.Kind, a.Memory))
	}
	return build(t, "libvulkan.so.1", vulkanSource, map[string]string{
		"RESULT": fmt.Sprint(v.Result), "COUNT": fmt.Sprint(len(list)), "ADAPTERS": strings.Join(append(list, "{0}"), ","),
	})
}

func gpus(list []GPU) string {
	var b strings.Builder
	for _, g := range list {
		fmt.Fprintf(&b, "{%s,%d,%d,%dull,%dull},", quote(g.Name), g.Major, g.Minor, g.Total, g.Free)
	}
	return b.String() + "{0}"
}

func quote(s string) string { return `"` + s + `"` }

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// build compiles a shared library with the macros that are given.
func build(t testing.TB, name, source string, macros map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	compile(t, path, source, macros)
	return path
}

// compile is build with a path and libraries that are linked against.
func compile(t testing.TB, path, source string, macros map[string]string, libraries ...string) {
	t.Helper()
	name := filepath.Base(path)
	args := []string{"-shared", "-fPIC", "-Wl,--default-symver", "-Wl,-soname," + name, "-o", path}
	for macro, value := range macros {
		args = append(args, "-D"+macro+"="+value)
	}
	cmd := exec.CommandContext(t.Context(), "cc", append(append(args, "-x", "c", "-", "-x", "none"), libraries...)...)
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile %s: %v\n%s", name, err, out)
	}
}
