package ort

/*
#include "api.h"

static void *cpu_memory(api_table api, void **info) {
	// 0 is an allocator without an arena, and memory of the default kind.
	return ((void *(*)(int, int, void **))api[at_CreateCpuMemoryInfo])(0, 0, info);
}

static void *create_binding(api_table api, void *session, void **binding) {
	return ((void *(*)(void *, void **))api[at_CreateIoBinding])(session, binding);
}

static void release_binding(api_table api, void *binding) { ((void (*)(void *))api[at_ReleaseIoBinding])(binding); }

// bind_floats binds host memory to an input, which copies it to the device
// unless the input is wanted on the CPU; then the memory itself is used.
static void *bind_floats(api_table api, void *memory, void *binding, const char *name, void *data, size_t bytes, const int64_t *dims, size_t rank) {
	void *value = 0;
	void *status = ((void *(*)(void *, void *, size_t, const int64_t *, size_t, int, void **))api[at_CreateTensorWithDataAsOrtValue])(
		memory, data, bytes, dims, rank, 1, &value);
	if (status) return status;
	status = ((void *(*)(void *, const char *, void *))api[at_BindInput])(binding, name, value);
	((void (*)(void *))api[at_ReleaseValue])(value);
	return status;
}

static void *bind_output(api_table api, void *memory, void *binding, const char *name) {
	return ((void *(*)(void *, const char *, void *))api[at_BindOutputToDevice])(binding, name, memory);
}

static void clear_outputs(api_table api, void *binding) { ((void (*)(void *))api[at_ClearBoundOutputs])(binding); }

static void *run_bound(api_table api, void *session, void *options, void *binding) {
	void *status = ((void *(*)(void *))api[at_SynchronizeBoundInputs])(binding);
	if (status) return status;
	status = ((void *(*)(void *, void *, void *))api[at_RunWithBinding])(session, options, binding);
	if (status) return status;
	return ((void *(*)(void *))api[at_SynchronizeBoundOutputs])(binding);
}

static void *bound_outputs(api_table api, void *binding, void ***values, size_t *count) {
	void *allocator = 0;
	void *status = ((void *(*)(void **))api[at_GetAllocatorWithDefaultOptions])(&allocator);
	if (status) return status;
	return ((void *(*)(void *, void *, void ***, size_t *))api[at_GetBoundOutputValues])(binding, allocator, values, count);
}

static void release_outputs(api_table api, void **values, size_t count) {
	void *allocator = 0, *status;
	if (!values) return;
	for (size_t i = 0; i < count; i++) ((void (*)(void *))api[at_ReleaseValue])(values[i]);
	status = ((void *(*)(void **))api[at_GetAllocatorWithDefaultOptions])(&allocator);
	if (!status) status = ((void *(*)(void *, void *))api[at_AllocatorFree])(allocator, values);
	if (status) ((void (*)(void *))api[at_ReleaseStatus])(status);
}

typedef struct {
	int type;
	size_t rank;
	int64_t dims[8];
	void *data;
} tensor_view;

// view_tensor tells type, shape and memory of a tensor; of a rank above 8, the
// rank only.
static void *view_tensor(api_table api, void *value, tensor_view *v) {
	void *info = 0;
	void *status = ((void *(*)(void *, void **))api[at_GetTensorTypeAndShape])(value, &info);
	if (status) return status;
	status = ((void *(*)(void *, int *))api[at_GetTensorElementType])(info, &v->type);
	if (!status) status = ((void *(*)(void *, size_t *))api[at_GetDimensionsCount])(info, &v->rank);
	if (!status && v->rank <= 8) status = ((void *(*)(void *, int64_t *, size_t))api[at_GetDimensions])(info, v->dims, v->rank);
	((void (*)(void *))api[at_ReleaseTensorTypeAndShapeInfo])(info);
	if (status) return status;
	return ((void *(*)(void *, void **))api[at_GetTensorMutableData])(value, &v->data);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/tensor"
	ortgo "github.com/yalue/onnxruntime_go"
)

// ioBinding is a set of inputs that lie on the device, for one session.
type ioBinding struct {
	at     *deviceSession
	handle unsafe.Pointer
	inputs []boundInput // in the order of the graph's inputs
	used   int64        // number of the run that used it last
}

// boundInput is what was last uploaded. The memory is C's: ONNX Runtime keeps a
// pointer to it where an operator on the CPU takes the input.
type boundInput struct {
	shape tensor.Shape // nil before the first upload
	data  []float32
}

// The binding's sessions hold nothing but a pointer to a struct that begins
// with the C pointer; this does not compile should the former change, and a test
// looks at the latter.
const (
	_ = uint(unsafe.Sizeof(uintptr(0)) - unsafe.Sizeof(ortgo.DynamicAdvancedSession{}))
	_ = uint(unsafe.Sizeof(ortgo.DynamicAdvancedSession{}) - unsafe.Sizeof(uintptr(0)))
)

// handleOf returns ONNX Runtime's session inside the binding's.
func handleOf(s *ortgo.DynamicAdvancedSession) unsafe.Pointer {
	return **(**unsafe.Pointer)(unsafe.Pointer(s))
}

func (d *deviceSession) newBinding() (*ioBinding, error) {
	b := &ioBinding{at: d, inputs: make([]boundInput, len(d.inputs))}
	if err := failed(d.api, C.create_binding(d.api, d.session, &b.handle)); err != nil {
		return nil, fmt.Errorf("create binding: %w", err)
	}
	return b, nil
}

// close gives back what lies on the device.
func (b *ioBinding) close() {
	C.release_binding(b.at.api, b.handle)
	for _, in := range b.inputs {
		release(in.data)
	}
}

// holds says whether input i is v already, bit for bit.
func (b *ioBinding) holds(i int, v input) bool {
	in, t := b.inputs[i], v.tensor
	return t != nil && in.shape != nil && in.shape.Equal(t.Shape) && slices.Equal(words(in.data), words(t.Data))
}

// set makes v input i.
func (b *ioBinding) set(i int, v input) error {
	if v.held != nil {
		return v.held.bind(b.handle, b.at.inputs[i])
	}
	return b.upload(i, v.tensor)
}

// unbind makes nothing input i: a binding would keep the device's memory of a
// value beyond the life of its session, which WebGPU does not stand.
func (b *ioBinding) unbind(i int) error {
	b.inputs[i].shape = nil
	name, size := b.at.inputs[i].name, C.int64_t(0)
	return failed(b.at.api, C.bind_floats(b.at.api, b.at.memory, b.handle, name, unsafe.Pointer(name), 0, &size, 1))
}

// upload copies t to the device as input i.
func (b *ioBinding) upload(i int, t *tensor.Tensor) error {
	in := &b.inputs[i]
	in.shape = nil // until it is bound
	if len(in.data) != len(t.Data) {
		fresh := allocate(len(t.Data))
		if fresh == nil {
			return errors.New("out of memory for a copy of the input")
		}
		// The old memory may be in use until the new one is bound.
		defer release(in.data)
		in.data = fresh
	}
	copy(in.data, t.Data)
	sizes := dims(t.Shape)
	err := failed(b.at.api, C.bind_floats(b.at.api, b.at.memory, b.handle, b.at.inputs[i].name,
		unsafe.Pointer(unsafe.SliceData(in.data)), C.size_t(4*len(in.data)), (*C.int64_t)(unsafe.SliceData(sizes)), C.size_t(len(sizes))))
	if err == nil {
		in.shape = slices.Clone(t.Shape)
	}
	return err
}

// deviceRun is a run of a session on a device.
type deviceRun struct {
	options *ortgo.RunOptions
	in      []input        // in the order of the graph's inputs
	memory  unsafe.Pointer // OrtMemoryInfo of the outputs
	// collect takes the outputs, OrtValues in the order of the graph's. It sets
	// those to nil that it keeps, and returns the bytes that it copied.
	collect func(values []unsafe.Pointer) (int64, error)
}

// run runs the session with its inputs bound.
func (b *ioBinding) run(r deviceRun) (int64, error) {
	d := b.at
	for _, name := range d.outputs {
		if err := failed(d.api, C.bind_output(d.api, r.memory, b.handle, name.name)); err != nil {
			return 0, fmt.Errorf("bind output %q: %w", name, err)
		}
	}
	// Values of the last run would be taken as memory for the next one's, of the same shapes.
	defer C.clear_outputs(d.api, b.handle)
	if err := failed(d.api, C.run_bound(d.api, d.session, *(*unsafe.Pointer)(unsafe.Pointer(r.options)), b.handle)); err != nil {
		return 0, err
	}
	var values *unsafe.Pointer
	var count C.size_t
	if err := failed(d.api, C.bound_outputs(d.api, b.handle, &values, &count)); err != nil {
		return 0, fmt.Errorf("take outputs: %w", err)
	}
	defer C.release_outputs(d.api, values, count)
	return r.collect(unsafe.Slice(values, int(count)))
}

// collectInto copies outputs in host memory.
func (d *deviceSession) collectInto(outs map[string]*tensor.Tensor) func([]unsafe.Pointer) (int64, error) {
	return func(values []unsafe.Pointer) (bytes int64, err error) {
		for i, value := range values {
			t, err := copyTensor(d.api, value)
			if err != nil {
				return bytes, fmt.Errorf("output %q: %w", d.outputs[i], err)
			}
			outs[d.outputs[i].String()] = t
			bytes += bytesOf(t)
		}
		return bytes, nil
	}
}

// view tells the shape of a float32 tensor, and its memory.
func view(api C.api_table, value unsafe.Pointer) (tensor.Shape, unsafe.Pointer, error) {
	var v C.tensor_view
	if err := failed(api, C.view_tensor(api, value, &v)); err != nil {
		return nil, nil, err
	}
	if v._type != C.int(onnx.Float) || v.rank > C.size_t(len(v.dims)) {
		return nil, nil, fmt.Errorf("type %d of rank %d, want float32 of rank 8 at most", v._type, v.rank)
	}
	shape := make(tensor.Shape, v.rank)
	for i := range shape {
		shape[i] = int(v.dims[i])
	}
	return shape, v.data, nil
}

// copyTensor copies a float32 tensor in host memory.
func copyTensor(api C.api_table, value unsafe.Pointer) (*tensor.Tensor, error) {
	shape, data, err := view(api, value)
	if err != nil {
		return nil, err
	}
	t := &tensor.Tensor{Shape: shape, Data: make([]float32, shape.Elements())}
	copy(t.Data, unsafe.Slice((*float32)(data), len(t.Data)))
	return t, nil
}

// openDevice makes what a session on a device needs beside the session.
func openDevice(s *Session) (*deviceSession, error) {
	d := &deviceSession{api: s.env.api, session: handleOf(s.session), turn: s.turn, most: maxBoundBytes}
	if s.release {
		d.most = maxSeldomBoundBytes
	}
	if err := failed(d.api, C.cpu_memory(d.api, &d.memory)); err != nil {
		return nil, err
	}
	var err error
	if d.there, err = s.on.memory(d.api); err != nil {
		releaseMemory(d.api, d.memory)
		return nil, err
	}
	for _, name := range s.inputs {
		d.inputs = append(d.inputs, cName{C.CString(name)})
	}
	for _, name := range s.outputs {
		d.outputs = append(d.outputs, cName{C.CString(name)})
	}
	return d, nil
}

// close gives back what openDevice and the runs took.
func (d *deviceSession) close() {
	for _, b := range d.bindings {
		b.close()
	}
	releaseMemory(d.api, d.memory)
	releaseMemory(d.api, d.there)
	for _, n := range slices.Concat(d.inputs, d.outputs) {
		C.free(unsafe.Pointer(n.name))
	}
}

// deviceSession is the part of a Session that runs on a device other than the
// CPU.
type deviceSession struct {
	api      C.api_table
	session  unsafe.Pointer // OrtSession
	memory   unsafe.Pointer // OrtMemoryInfo of the host
	there    unsafe.Pointer // that of the device
	inputs   []cName
	outputs  []cName
	turn     chan struct{} // the session's
	bindings []*ioBinding
	most     int64 // bytes of one binding's inputs, where there are several
	counted  counter
	holding  holding
}

// cName is a string in C's memory.
type cName struct{ name *C.char }

func (n cName) String() string { return C.GoString(n.name) }

// allocate returns count values in C's memory, nil where there is none.
func allocate(count int) []float32 {
	p := C.malloc(C.size_t(4 * max(count, 1)))
	if p == nil {
		return nil
	}
	return unsafe.Slice((*float32)(p), count)
}

// release frees what allocate returned.
func release(data []float32) { C.free(unsafe.Pointer(unsafe.SliceData(data))) }

// words is the bits of the values.
func words(values []float32) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(values))), len(values))
}
