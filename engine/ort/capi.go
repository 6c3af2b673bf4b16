package ort

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

// The part of ONNX Runtime's C interface that the binding lacks, or that is
// needed before the binding may touch the library. OrtApi is a table of
// function pointers that only ever grows at its end, so positions stay valid;
// these are those of API version 24 (onnxruntime_c_api.h, struct OrtApi).
typedef void *const *api_table;
typedef struct {
	api_table (*get_api)(uint32_t version);
	const char *(*get_version)(void);
} api_base;

enum {
	api_version = 24,
	release_status = 93,
	get_providers = 125,
	release_providers = 126,
	add_run_config = 165
};

static const api_base *open_base(void *handle) {
	api_base *(*get)(void) = (api_base *(*)(void))dlsym(handle, "OrtGetApiBase");
	return get ? get() : 0;
}

static const char *base_version(const api_base *b) { return b->get_version(); }

static api_table base_api(const api_base *b) { return b->get_api(api_version); }

// done releases a status, which is null on success.
static int done(api_table api, void *status) {
	if (!status) return 0;
	((void (*)(void *))api[release_status])(status);
	return -1;
}

static int list_providers(api_table api, char ***names, int *n) {
	return done(api, ((void *(*)(char ***, int *))api[get_providers])(names, n));
}

static int free_providers(api_table api, char **names, int n) {
	return done(api, ((void *(*)(char **, int))api[release_providers])(names, n));
}

static int run_config(api_table api, void *options, char *key, char *value) {
	return done(api, ((void *(*)(void *, const char *, const char *))api[add_run_config])(options, key, value));
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

func listProviders(api C.api_table) ([]string, error) {
	var names **C.char
	var n C.int
	if api == nil || C.list_providers(api, &names, &n) != 0 {
		return nil, errors.New("the library does not list its providers")
	}
	defer C.free_providers(api, names, n)
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

// releaseAfterRun makes a run give the shared arena's memory that is unused at
// its end back to the system.
func releaseAfterRun(api C.api_table, ro *ortgo.RunOptions) error {
	key, value := C.CString("memory.enable_memory_arena_shrinkage"), C.CString("cpu:0")
	defer C.free(unsafe.Pointer(key))
	defer C.free(unsafe.Pointer(value))
	if C.run_config(api, *(*unsafe.Pointer)(unsafe.Pointer(ro)), key, value) != 0 {
		return errors.New("arena shrinkage is not accepted")
	}
	return nil
}

// registerOperators makes our own operators known to a session with so many
// threads.
func registerOperators(api C.api_table, so *ortgo.SessionOptions, threads int) (*winograd.Operator, error) {
	return winograd.Register(unsafe.Pointer(api), *(*unsafe.Pointer)(unsafe.Pointer(so)), threads)
}
