//go:build cgo

package winograd

// #include <stdlib.h>
// #include "winograd.h"
import "C"

import (
	"runtime"
	"unsafe"
)

// kernels names all kernels, fastest first.
var kernels = [...]string{"avx512", "avx2", "generic"}

// convolution is a convolution without ONNX Runtime: for tests, which compare
// kernels and divisions into units.
type convolution struct {
	kernel                 string
	threads                int // divides as for a session with so many
	x, u, bias, plus       []float32
	batch, cin, cout, h, w int
}

// run returns the result and the number of units; false when this processor
// lacks the kernel.
func (c convolution) run() (y []float32, units int, ok bool) {
	name := C.CString(c.kernel)
	defer C.free(unsafe.Pointer(name))
	kernel := C.winograd_kernel(name)
	if kernel == nil {
		return nil, 0, false
	}
	y = make([]float32, c.batch*c.cout*c.h*c.w)
	var pins runtime.Pinner
	defer pins.Unpin()
	pinned := func(data []float32) *C.float {
		if len(data) == 0 {
			return nil
		}
		pins.Pin(&data[0])
		return (*C.float)(unsafe.Pointer(&data[0]))
	}
	conv := C.Conv{x: pinned(c.x), u: pinned(c.u), bias: pinned(c.bias), plus: pinned(c.plus), y: pinned(y),
		batch: C.Size(c.batch), cin: C.Size(c.cin), cout: C.Size(c.cout), h: C.Size(c.h), w: C.Size(c.w)}
	if len(c.plus) == len(y) {
		conv.plus_plane = 1
	}
	plan := C.winograd_plan(kernel, conv, C.Size(c.threads))
	scratch := C.malloc(plan.scratch)
	defer C.free(scratch)
	units = int(C.winograd_units(&plan))
	for unit := units - 1; unit >= 0; unit-- { // any order will do
		C.winograd_unit(&plan, C.Size(unit), scratch)
	}
	return y, units, true
}
