// Package ort runs ONNX graphs in ONNX Runtime. It is the only package with
// cgo and the only importer of the onnxruntime_go binding.
//
// Vocabulary: a library is the file libonnxruntime.so, found by Find and
// installed by Install. An Env is the loaded library, one per process. A
// Session is a graph made ready to run; its weights stay in the files that the
// graph's external initializers name and are mapped, not copied. A provider is
// ONNX Runtime's word for the code that runs operators on a kind of device. A
// Device is the CPU, a GPU by CUDA or one by WebGPU; on the latter two, inputs
// are bound: they stay on the device and are uploaded where they change. A Held
// is an output that stayed on its device, for runs of other sessions there.
//
// Tensors that go into and come out of a session are float32.
package ort

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/tensor"
	ortgo "github.com/yalue/onnxruntime_go"
)

// Version is the ONNX Runtime release that this build is pinned to and tested
// with. Open accepts its patch releases.
const Version = "1.30.0"

// Env is the loaded library. It stays loaded until the process ends.
type Env struct {
	library string
	*probed
	// webgpu holds an element while a session uses WebGPU: sessions share one
	// queue of commands there, which threads must not enter at once.
	webgpu chan struct{}
}

// loaded holds the process's Env: the binding and the library itself keep
// process-wide state, so a second library cannot be loaded beside the first.
var loaded struct {
	sync.Mutex
	env *Env
}

// Open loads the library at the given path. Opening the same path again
// returns the same Env; another path is refused. The error is an *Error with
// CodeLibrary or CodeVersion.
func Open(library string) (*Env, error) {
	path, err := filepath.Abs(library)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return nil, &Error{Op: "open library", Code: CodeLibrary, Message: err.Error() + "; install it with: comfyrun runtime install"}
	}
	loaded.Lock()
	defer loaded.Unlock()
	if loaded.env == nil {
		env, err := load(path)
		if err != nil {
			return nil, err
		}
		loaded.env = env
	}
	if loaded.env.library != path {
		return nil, &Error{Op: "open library", Code: CodeLibrary,
			Message: fmt.Sprintf("%s: this process has already loaded %s", path, loaded.env.library)}
	}
	return loaded.env, nil
}

func load(path string) (*Env, error) {
	p, err := probe(path)
	if err != nil {
		return nil, &Error{Op: "open library", Code: CodeLibrary, Message: err.Error()}
	}
	if err := checkVersion(p.version); err != nil {
		return nil, &Error{Op: "open library", Code: CodeVersion, Message: path + ": " + err.Error()}
	}
	if err := initialize(path); err != nil {
		return nil, &Error{Op: "open library", Code: CodeLibrary, Message: err.Error()}
	}
	e := &Env{library: path, probed: p, webgpu: make(chan struct{}, 1)}
	// The arena never gives its first region back; this makes it a small one.
	return e, e.Check(context.Background())
}

// initialize starts the binding's environment. Errors come back as values, so
// the library's own printing to standard error, which would only repeat them,
// is off.
func initialize(path string) error {
	ortgo.SetSharedLibraryPath(path)
	if err := ortgo.InitializeEnvironment(ortgo.WithLogLevelFatal()); err != nil {
		return err
	}
	if err := ortgo.DisableTelemetry(); err != nil {
		return err
	}
	return shareArena()
}

// shareArena registers one arena for the working memory of all sessions, so
// that a text encoder, a network and a decoder that run after one another need
// the largest of their sizes and not the sum. Growing by powers of two (0)
// keeps the number of regions small; regions of just the requested size do not
// merge and grow without end when image sizes change.
func shareArena() error {
	const powersOfTwo, unset = 0, -1
	config, err := ortgo.NewArenaCfg(0, powersOfTwo, unset, unset)
	if err != nil {
		return err
	}
	defer config.Destroy()
	memory, err := ortgo.GetMemoryInfo()
	if err != nil {
		return err
	}
	return ortgo.CreateAndRegisterAllocator(memory, config)
}

// checkVersion accepts the releases of Version's minor version.
func checkVersion(version string) error {
	major, minor, _ := strings.Cut(Version, ".")
	minor, _, _ = strings.Cut(minor, ".")
	series := major + "." + minor + "."
	switch {
	case strings.HasPrefix(version, series):
		return nil
	case strings.HasPrefix(version, "1.29."):
		return fmt.Errorf("ONNX Runtime %s is not used: its fp16 matrix product on x86-64 is broken and thousands of times too slow; "+
			"want %s (comfyrun runtime install)", version, Version)
	}
	return fmt.Errorf("ONNX Runtime %s is not tested with this build; want %s (comfyrun runtime install)", version, Version)
}

// Version returns the library's version, such as "1.30.0".
func (e *Env) Version() string { return e.version }

// Library returns the canonical path of the library.
func (e *Env) Library() string { return e.library }

// Providers returns the execution providers compiled into the library, sorted,
// without their suffix "ExecutionProvider": "CPU", "WebGpu". Being compiled in
// does not mean that the machine has the device.
func (e *Env) Providers() []string { return slices.Clone(e.providers) }

// Check runs a small graph on the CPU: 1 + 2 = 3.
func (e *Env) Check(ctx context.Context) error {
	scalar := func(name string) onnx.ValueInfo {
		return onnx.ValueInfo{Name: name, Type: onnx.Float, Dims: []onnx.Dim{{Size: 1}}}
	}
	s, err := e.NewSession(&onnx.Model{
		Opset: map[string]int64{"": 21},
		Graph: onnx.Graph{
			Name:   "check",
			Inputs: []onnx.ValueInfo{scalar("x"), scalar("y")}, Outputs: []onnx.ValueInfo{scalar("sum")},
			Nodes: []onnx.Node{{Name: "sum", Op: "Add", Inputs: []string{"x", "y"}, Outputs: []string{"sum"}}},
		},
	}, Options{Name: "check", Threads: 1})
	if err != nil {
		return err
	}
	defer s.Close()
	out, err := s.Run(ctx, map[string]*tensor.Tensor{"x": tensor.Full(1, 1), "y": tensor.Full(2, 1)})
	if err != nil {
		return err
	}
	if sum := out["sum"].Data[0]; sum != 3 {
		return &Error{Op: "check", Code: CodeRun, Provider: "cpu", Message: fmt.Sprintf("1 + 2 = %v", sum)}
	}
	return nil
}
