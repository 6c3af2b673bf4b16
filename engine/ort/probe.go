package ort

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

// The part of ONNX Runtime's C interface that is needed before the binding may
// touch the library. OrtApi is a table of function pointers that only ever
// grows at its end, so positions stay valid; these are those of API version 24
// (onnxruntime_c_api.h, struct OrtApi).
typedef struct {
	void *const *(*get_api)(uint32_t version);
	const char *(*get_version)(void);
} api_base;

enum { api_version = 24, release_status = 93, get_providers = 125, release_providers = 126 };

static const api_base *open_base(void *handle) {
	api_base *(*get)(void) = (api_base *(*)(void))dlsym(handle, "OrtGetApiBase");
	return get ? get() : 0;
}

static const char *base_version(const api_base *b) { return b->get_version(); }

static int list_providers(const api_base *b, char ***names, int *n) {
	void *const *api = b->get_api(api_version);
	if (!api) return -1;
	void *status = ((void *(*)(char ***, int *))api[get_providers])(names, n);
	if (status) {
		((void (*)(void *))api[release_status])(status);
		return -1;
	}
	return 0;
}

static void free_providers(const api_base *b, char **names, int n) {
	void *const *api = b->get_api(api_version);
	void *status = ((void *(*)(char **, int))api[release_providers])(names, n);
	if (status) ((void (*)(void *))api[release_status])(status);
}
*/
import "C"

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unsafe"
)

// probe loads the library and asks for its version and its providers. A
// library of another version is asked for its version only. The handle is kept
// open: unloading a library that has started threads is not safe.
func probe(path string) (version string, providers []string, err error) {
	// dlerror's text belongs to the calling thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	handle := C.dlopen(cpath, C.RTLD_NOW|C.RTLD_LOCAL)
	if handle == nil {
		return "", nil, fmt.Errorf("load %s: %s", path, C.GoString(C.dlerror()))
	}
	base := C.open_base(handle)
	if base == nil {
		return "", nil, fmt.Errorf("load %s: not an ONNX Runtime library (no OrtGetApiBase)", path)
	}
	version = C.GoString(C.base_version(base))
	if checkVersion(version) != nil {
		return version, nil, nil
	}
	var names **C.char
	var n C.int
	if C.list_providers(base, &names, &n) != 0 {
		return "", nil, fmt.Errorf("load %s: no list of providers", path)
	}
	defer C.free_providers(base, names, n)
	for _, name := range unsafe.Slice(names, int(n)) {
		providers = append(providers, strings.TrimSuffix(C.GoString(name), "ExecutionProvider"))
	}
	slices.Sort(providers)
	return version, providers, nil
}
