package ort

/*
#cgo LDFLAGS: -ldl
// Mesa's Vulkan drivers that compute on the CPU look functions such as expf up
// in the program, and call nothing when it does not have them.
#cgo linux LDFLAGS: -Wl,--no-as-needed -lm -Wl,--as-needed
#include <dlfcn.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include "api.h"

typedef struct {
	api_table (*get_api)(uint32_t version);
	const char *(*get_version)(void);
} api_base;

static const api_base *open_base(void *handle) {
	api_base *(*get)(void) = (api_base *(*)(void))dlsym(handle, "OrtGetApiBase");
	return get ? get() : 0;
}

static const char *base_version(const api_base *b) { return b->get_version(); }

static api_table base_api(const api_base *b) { return b->get_api(api_version); }

static const char *message_of(api_table api, void *status) {
	return ((const char *(*)(void *))api[at_GetErrorMessage])(status);
}

static void release_status(api_table api, void *status) { ((void (*)(void *))api[at_ReleaseStatus])(status); }

static void *list_providers(api_table api, char ***names, int *n) {
	return ((void *(*)(char ***, int *))api[at_GetAvailableProviders])(names, n);
}

static void *free_providers(api_table api, char **names, int n) {
	return ((void *(*)(char **, int))api[at_ReleaseAvailableProviders])(names, n);
}

static void *run_config(api_table api, void *options, char *key, char *value) {
	return ((void *(*)(void *, const char *, const char *))api[at_AddRunConfigEntry])(options, key, value);
}

// return_large makes malloc hand blocks of 1 MiB and more back to the system
// when they are freed. glibc otherwise raises that limit up to 32 MiB as it
// goes and keeps such blocks in one heap per thread; as Go calls from ever
// other threads, the process grows without end.
static void return_large(void) {
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/comfyrun/comfyrun/engine/ort/winograd"
	ortgo "github.com/yalue/onnxruntime_go"
)

// probed is what a library says about itself.
type probed struct {
	version   string
	providers []string
	api       C.api_table
}

// probe loads the library and asks for its version and, when the version is
// accepted, for its providers. The library is not unloaded again: it may have
// started threads.
func probe(path string) (*probed, error) {
	// dlerror's text belongs to the calling thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	handle := C.dlopen(cpath, C.RTLD_NOW|C.RTLD_LOCAL)
	if handle == nil {
		return nil, fmt.Errorf("load %s: %s", path, C.GoString(C.dlerror()))
	}
	base := C.open_base(handle)
	if base == nil {
		return nil, fmt.Errorf("load %s: not an ONNX Runtime library (no OrtGetApiBase)", path)
	}
	p := &probed{version: C.GoString(C.base_version(base))}
	if checkVersion(p.version) != nil {
		return p, nil
	}
	C.return_large()
	p.api = C.base_api(base)
	var err error
	p.providers, err = listProviders(p.api)
	return p, err
}

// failed returns the error that a status carries and releases it; null is
// success.
func failed(api C.api_table, status unsafe.Pointer) error {
	if status == nil {
		return nil
	}
	defer C.release_status(api, status)
	return errors.New(C.GoString(C.message_of(api, status)))
}

func listProviders(api C.api_table) ([]string, error) {
	var names **C.char
	var n C.int
	if api == nil {
		return nil, errors.New("the library has no interface of the version wanted")
	}
	if err := failed(api, C.list_providers(api, &names, &n)); err != nil {
		return nil, fmt.Errorf("list providers: %w", err)
	}
	defer func() { failed(api, C.free_providers(api, names, n)) }()
	var providers []string
	for _, name := range unsafe.Slice(names, int(n)) {
		providers = append(providers, strings.TrimSuffix(C.GoString(name), "ExecutionProvider"))
	}
	slices.Sort(providers)
	return providers, nil
}

// The binding's RunOptions and SessionOptions hold nothing but the C pointer;
// this does not compile should that change.
const (
	_ = uint(unsafe.Sizeof(uintptr(0)) - unsafe.Sizeof(ortgo.RunOptions{}))
	_ = uint(unsafe.Sizeof(uintptr(0)) - unsafe.Sizeof(ortgo.SessionOptions{}))
)

// configureRun adds an entry to the options of a run.
func configureRun(api C.api_table, ro *ortgo.RunOptions, key, value string) error {
	k, v := C.CString(key), C.CString(value)
	defer C.free(unsafe.Pointer(k))
	defer C.free(unsafe.Pointer(v))
	if err := failed(api, C.run_config(api, *(*unsafe.Pointer)(unsafe.Pointer(ro)), k, v)); err != nil {
		return fmt.Errorf("run option %s: %w", key, err)
	}
	return nil
}

// registerOperators makes our own operators known to a session with so many
// threads.
func registerOperators(api C.api_table, so *ortgo.SessionOptions, threads int) (*winograd.Operator, error) {
	return winograd.Register(unsafe.Pointer(api), *(*unsafe.Pointer)(unsafe.Pointer(so)), threads)
}
