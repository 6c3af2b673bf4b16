package ort

// #cgo LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stdlib.h>
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"
)

// cudaProvider is the part of the CUDA library that computes. ONNX Runtime loads
// it when a session asks for CUDA.
const cudaProvider = "libonnxruntime_providers_cuda.so"

// cudaLibraries are what the provider is linked against or opens by name, each
// after those that it needs itself. cuDNN's other files are found by cuDNN.
var cudaLibraries = []string{
	"libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10",
	"libnvrtc-builtins.so.13.0", "libnvrtc.so.13", "libcudnn.so.9",
}

// preload loads NVIDIA's libraries from a folder, by path, so that whoever asks
// for them by name afterwards gets these. What is not there is left to the
// system. Repeating it costs next to nothing.
func preload(dir string) error {
	chooseRuntime()
	for _, name := range cudaLibraries {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := loadLibrary(path); err != nil {
			return fmt.Errorf("%w; repair it with: comfyrun runtime install --provider cuda", err)
		}
	}
	return nil
}

// chooseRuntime keeps a part of the CUDA provider that looks for CUDA's runtime
// itself from taking one of CUDA 12, should the system have that, too. A user's
// own choice stands.
func chooseRuntime() {
	name, value := C.CString("CUDNN_FRONTEND_CUDART_LIB_NAME"), C.CString("libcudart.so.13")
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(value))
	C.setenv(name, value, 0)
}

// loadLibrary loads a shared library by path, or by name from where the system
// looks. Functions are bound when they are called: of some hundred thousand, few
// ever are.
func loadLibrary(name string) error {
	runtime.LockOSThread() // dlerror's text belongs to the calling thread
	defer runtime.UnlockOSThread()
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	if C.dlopen(cname, C.RTLD_LAZY|C.RTLD_LOCAL) == nil {
		return fmt.Errorf("load %s: %s", name, C.GoString(C.dlerror()))
	}
	return nil
}
