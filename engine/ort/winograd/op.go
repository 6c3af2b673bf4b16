//go:build cgo

package winograd

/*
#cgo CFLAGS: -O3
#include <stdlib.h>
#include "op.h"
#include "winograd.h"
*/
import "C"

import (
	"errors"
	"unsafe"
)

// Operator is the operator of one session. It must be closed after the session.
type Operator struct{ domain *C.winograd_domain }

// Register makes the operator known to session options. api is ONNX Runtime's
// table of functions (OrtApi, version 24 or later), options its
// OrtSessionOptions, threads the number of threads that the session will have.
func Register(api, options unsafe.Pointer, threads int) (*Operator, error) {
	fastest := C.CString("")
	defer C.free(unsafe.Pointer(fastest))
	domain := C.winograd_register(C.OrtApi(api), options, fastest, C.ptrdiff_t(threads))
	if domain == nil {
		return nil, errors.New("register operator " + Domain + "." + Op + ": ONNX Runtime refuses it")
	}
	return &Operator{domain}, nil
}

// Close releases the operator.
func (o *Operator) Close() {
	if o != nil && o.domain != nil {
		C.winograd_release(o.domain)
		o.domain = nil
	}
}
