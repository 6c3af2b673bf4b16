package ort

/*
#include "api.h"

static void *device_memory(api_table api, const char *name, int index, void **info) {
	// 0 is an allocator of the device, and memory of the default kind.
	return ((void *(*)(const char *, int, int, int, void **))api[at_CreateMemoryInfo])(name, 0, index, 0, info);
}

static void *bind_value(api_table api, void *binding, const char *name, void *value) {
	return ((void *(*)(void *, const char *, void *))api[at_BindInput])(binding, name, value);
}

static void release_info(api_table api, void *info) { ((void (*)(void *))api[at_ReleaseMemoryInfo])(info); }

static void release_value(api_table api, void *value) { ((void (*)(void *))api[at_ReleaseValue])(value); }
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"unsafe"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/tensor"
	ortgo "github.com/yalue/onnxruntime_go"
)

// Held is an output of a run that stayed on its device, where it may go into
// runs of any session on that device. It takes memory there until Close, or
// until the session that made it is closed, which closes it too. A run with one
// that is closed is an error. Its methods may be called from several goroutines
// at once.
type Held struct {
	name  string
	shape tensor.Shape
	maker *Session
	at    *deviceSession // the maker's
	value unsafe.Pointer // OrtValue

	mu      sync.Mutex
	closed  bool
	users   sync.WaitGroup
	release sync.Once
}

// Inputs are what goes into a run, by the names of the graph's inputs: tensors,
// and values that lie on the session's device.
type Inputs struct {
	Tensors map[string]*tensor.Tensor
	Held    map[string]*Held
}

// RunHeld is Run where some inputs lie on the device already. They do not
// cross, and are not counted by Transfers.
func (s *Session) RunHeld(ctx context.Context, in Inputs) (outs map[string]*tensor.Tensor, err error) {
	err = s.guarded(ctx, in, func() error {
		if s.device == nil {
			outs, err = s.runHere(ctx, in.Tensors)
			return err
		}
		got := map[string]*tensor.Tensor{}
		err := s.runThere(ctx, in, deviceRun{memory: s.device.memory, collect: s.device.collectInto(got)})
		if err == nil {
			outs = got
		}
		return err
	})
	return outs, err
}

// Hold is RunHeld with all outputs staying on the device; the caller closes
// them. On the CPU it is an error.
func (s *Session) Hold(ctx context.Context, in Inputs) (outs map[string]*Held, err error) {
	err = s.guarded(ctx, in, func() error {
		if s.device == nil {
			return errors.New("outputs stay on devices other than the CPU only")
		}
		got := map[string]*Held{}
		err := s.runThere(ctx, in, deviceRun{memory: s.device.there, collect: s.keepIn(got)})
		if err != nil {
			return err
		}
		s.device.holding.add(got)
		outs = got
		return nil
	})
	return outs, err
}

// runThere runs on the device.
func (s *Session) runThere(ctx context.Context, in Inputs, r deviceRun) error {
	for _, name := range s.inputs {
		r.in = append(r.in, input{in.Tensors[name], in.Held[name]})
	}
	return s.runWatched(ctx, func(ro *ortgo.RunOptions) error {
		r.options = ro
		return s.device.run(ctx, r)
	})
}

// keepIn takes outputs over where they lie.
func (s *Session) keepIn(outs map[string]*Held) func([]unsafe.Pointer) (int64, error) {
	return func(values []unsafe.Pointer) (int64, error) {
		var made []*Held
		for i, value := range values {
			shape, _, err := view(s.device.api, value)
			if err != nil {
				return 0, fmt.Errorf("output %q: %w", s.outputs[i], err)
			}
			made = append(made, &Held{name: s.outputs[i], shape: shape, maker: s, at: s.device, value: value})
		}
		for i, h := range made {
			outs[h.name], values[i] = h, nil
		}
		return 0, nil
	}
}

// take keeps the values open until done is called.
func (s *Session) take(held map[string]*Held) (done func(), err error) {
	var taken []*Held
	done = func() {
		for _, h := range taken {
			h.users.Done()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(held)) {
		h := held[name]
		switch {
		case !slices.Contains(s.inputs, name):
			return done, fmt.Errorf("no input %q, want %v", name, s.inputs)
		case h.maker.provider != s.provider || s.device == nil:
			return done, fmt.Errorf("input %q lies on %s, not on %s", name, h.maker.provider, s.provider)
		case !h.use():
			return done, fmt.Errorf("input %q: the value is closed", name)
		}
		taken = append(taken, h)
	}
	return done, nil
}

// use keeps the value open until users.Done; it reports whether it is open.
func (h *Held) use() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.users.Add(1)
	return true
}

// bind makes the value an input of a binding.
func (h *Held) bind(binding unsafe.Pointer, name cName) error {
	return failed(h.at.api, C.bind_value(h.at.api, binding, name.name, h.value))
}

// Shape returns the shape of the value.
func (h *Held) Shape() tensor.Shape { return slices.Clone(h.shape) }

// Close waits for runs that use the value and gives its memory back. Closing
// twice does nothing.
func (h *Held) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.users.Wait()
	h.release.Do(func() {
		h.at.turn <- struct{}{}
		C.release_value(h.at.api, h.value)
		<-h.at.turn
		h.at.holding.remove(h)
	})
}

// Tensor copies the value to the host. It opens a session for that, and is not
// meant for what is done often.
func (h *Held) Tensor(ctx context.Context) (*tensor.Tensor, error) {
	op := fmt.Sprintf("copy output %q of session %q", h.name, h.maker.name)
	if !h.use() {
		return nil, &Error{Op: op, Code: CodeInput, Message: "the value is closed"}
	}
	defer h.users.Done()
	t, err := h.copied(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	h.at.counted.add(Transfers{Out: bytesOf(t)})
	return t, nil
}

func (h *Held) copied(ctx context.Context) (*tensor.Tensor, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx, "wait")
	}
	if h.maker.on.cpu() { // as it is in tests
		return copyTensor(h.at.api, h.value)
	}
	s, err := h.maker.env.NewSession(passing(h.shape), Options{Name: "copy", Device: h.maker.on})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	outs, err := s.RunHeld(ctx, Inputs{Held: map[string]*Held{"x": h}})
	return outs["x"], err
}

// passing is a graph whose input is its output: nothing is computed, and
// nothing but the copy takes memory.
func passing(shape tensor.Shape) *onnx.Model {
	x := onnx.ValueInfo{Name: "x", Type: onnx.Float}
	for _, d := range shape {
		x.Dims = append(x.Dims, onnx.Dim{Size: int64(d)})
	}
	return &onnx.Model{Opset: map[string]int64{"": 21}, Graph: onnx.Graph{Name: "copy", Inputs: []onnx.ValueInfo{x}, Outputs: []onnx.ValueInfo{x}}}
}

// holding is the values of a session that are open.
type holding struct {
	sync.Mutex
	open map[*Held]bool
}

func (o *holding) add(values map[string]*Held) {
	o.Lock()
	defer o.Unlock()
	if o.open == nil {
		o.open = map[*Held]bool{}
	}
	for _, h := range values {
		o.open[h] = true
	}
}

func (o *holding) remove(h *Held) {
	o.Lock()
	defer o.Unlock()
	delete(o.open, h)
}

// close closes the values.
func (o *holding) close() {
	o.Lock()
	values := slices.Collect(maps.Keys(o.open))
	o.Unlock()
	for _, h := range values {
		h.Close()
	}
}

func releaseMemory(api C.api_table, info unsafe.Pointer) { C.release_info(api, info) }

// memory returns the OrtMemoryInfo of the device.
func (d Device) memory(api C.api_table) (info unsafe.Pointer, err error) {
	word := map[string]string{"cuda": "Cuda", "webgpu": "WebGPU_Buf"}[d.Provider]
	if word == "" {
		word = "Cpu"
	}
	name := C.CString(word)
	defer C.free(unsafe.Pointer(name))
	if err := failed(api, C.device_memory(api, name, C.int(d.Index), &info)); err != nil {
		return nil, fmt.Errorf("name memory %s: %w", word, err)
	}
	return info, nil
}
