package gpu

// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "nvidia.h"
import "C"

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"unsafe"
)

// ErrNoDriver says that there is no driver of NVIDIA's.
var ErrNoDriver = errors.New("no NVIDIA driver")

// ErrNotVisible says that the kernel has NVIDIA's driver, whose libraries cannot
// be seen from here. It is an ErrNoDriver, too.
var ErrNotVisible = fmt.Errorf("%w visible", ErrNoDriver)

// Nvidia asks NVIDIA's driver. Without one the error wraps ErrNoDriver; a
// driver that answers and has no GPU gives an error, too, beside what it told.
func (s System) Nvidia() (*Nvidia, error) {
	runtime.LockOSThread() // dlerror's text belongs to the calling thread
	defer runtime.UnlockOSThread()
	library := cmp.Or(s.CUDA, "libcuda.so.1")
	cuda, nvml := C.CString(library), C.CString(cmp.Or(s.NVML, "libnvidia-ml.so.1"))
	found := (*C.nvidia_system)(C.calloc(1, C.sizeof_nvidia_system))
	defer func() {
		C.free(unsafe.Pointer(cuda))
		C.free(unsafe.Pointer(nvml))
		C.free(unsafe.Pointer(found))
	}()
	C.nvidia_look(cuda, nvml, found)
	n := &Nvidia{Driver: cmp.Or(C.GoString(&found.driver[0]), s.kernel())}
	n.CUDA = Version{int(found.version) / 1000, int(found.version) % 1000 / 10}
	for i := range int(found.count) {
		g := &found.gpus[i]
		n.GPUs = append(n.GPUs, GPU{
			Index: i, Name: C.GoString(&g.name[0]), Bus: C.GoString(&g.bus[0]),
			Capability: Version{int(g.major), int(g.minor)}, Total: int64(g.total), Free: int64(g.free),
		})
	}
	return n, n.problem(found, library)
}

// problem says what the driver lacks.
func (n *Nvidia) problem(found *C.nvidia_system, library string) error {
	text := C.GoString(&found.text[0])
	switch {
	case found.state == C.nvidia_absent && n.Driver != "":
		return fmt.Errorf("%w: %s, though the kernel has NVIDIA's driver %s; a container must be given the GPU", ErrNotVisible, text, n.Driver)
	case found.state == C.nvidia_absent:
		return fmt.Errorf("%w: %s", ErrNoDriver, text)
	case found.state == C.nvidia_broken:
		return fmt.Errorf("%w that is new enough: %s has no %s", ErrNoDriver, library, text)
	case found.state == C.nvidia_failed:
		return fmt.Errorf("ask NVIDIA's driver: %s (CUDA error %d)", text, found.code)
	case len(n.GPUs) == 0:
		return errors.New("NVIDIA's driver finds no GPU")
	}
	return nil
}

var kernelVersion = regexp.MustCompile(`(?m)^NVRM version:.*?\s(\d{3,}\.\d+(?:\.\d+)?)\s`)

// kernel returns the version of the kernel module, "" where none is loaded.
func (s System) kernel() string {
	text, err := os.ReadFile(cmp.Or(s.Kernel, "/proc/driver/nvidia/version"))
	if m := kernelVersion.FindSubmatch(text); err == nil && m != nil {
		return string(m[1])
	}
	return ""
}
