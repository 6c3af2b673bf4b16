package ort

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort/winograd"
	"github.com/comfyrun/comfyrun/engine/tensor"
	ortgo "github.com/yalue/onnxruntime_go"
)

// Options says how a session runs. The zero value is good for the CPU.
type Options struct {
	Name    string // for errors and profiles
	Device  Device
	Threads int    // worker threads of one run; 0 takes the physical cores
	Profile string // path prefix of a JSON profile, written by Close; "" for none
	// Release gives working memory back to the system after each run: for
	// graphs that need much and run seldom, such as a VAE. It costs the time to
	// obtain the memory again, a few per cent of a run.
	Release bool
	// Placement records which provider runs which node, for Session.Placement.
	Placement bool
}

// Session is a graph made ready to run. Its methods may be called from several
// goroutines at once.
type Session struct {
	env      *Env
	name     string
	provider string
	release  bool
	nodes    []Placed // that may run on the device; with Options.Placement only
	on       Device
	hostOnly atomic.Bool // the device has no arena that release could give back
	spent    atomic.Bool // memory ran out in it: see spentMessage
	inputs   []string
	outputs  []string

	mu        sync.RWMutex // held for reading while a run is on
	session   *ortgo.DynamicAdvancedSession
	operators *winograd.Operator
	device    *deviceSession // nil on the CPU
	turn      chan struct{}  // holds an element while the device is in use; nil on the CPU
}

// NewSession makes the model ready to run. Weights in external files are
// mapped: the files must stay unchanged until Close. The error is an *Error
// with CodeModel.
func (e *Env) NewSession(m *onnx.Model, o Options) (*Session, error) {
	op := fmt.Sprintf("create session %q", o.Name)
	s := &Session{env: e, name: o.Name, provider: o.Device.String(), on: o.Device, release: o.Release}
	s.hostOnly.Store(o.Device.Provider != "cuda")
	if o.Placement && !o.Device.cpu() {
		s.nodes = variable(&m.Graph, o.Device)
	}
	var err error
	if s.inputs, err = floatNames(m.Graph.Inputs); err == nil {
		s.outputs, err = floatNames(m.Graph.Outputs)
	}
	if err != nil {
		return nil, &Error{Op: op, Code: CodeModel, Message: err.Error()}
	}
	data, err := onnx.Encode(m)
	if err != nil {
		return nil, &Error{Op: op, Code: CodeModel, Message: err.Error()}
	}
	s.turn = e.turn(o.Device)
	defer s.enter()()
	if err := s.open(data, o); err != nil {
		return nil, wrap(op, CodeModel, s.provider, err)
	}
	return s, nil
}

// open makes the binding's session for an encoded model.
func (s *Session) open(data []byte, o Options) error {
	if o.Threads == 0 {
		o.Threads = physicalCores()
	}
	so, err := sessionOptions(o)
	if err != nil {
		return err
	}
	defer so.Destroy()
	if o.Device.cpu() {
		s.operators, err = registerOperators(s.env.api, so, o.Threads)
	} else {
		err = s.env.append(so, o.Device)
	}
	if err != nil {
		return err
	}
	s.session, err = ortgo.NewDynamicAdvancedSessionWithONNXData(data, s.inputs, s.outputs, so)
	if err == nil && !o.Device.cpu() {
		if s.device, err = openDevice(s); err != nil {
			s.session.Destroy()
		}
	}
	if err != nil {
		s.operators.Close()
	}
	return err
}

// arenas names the arenas of working memory that a run with release gives back.
func (s *Session) arenas() string {
	if s.hostOnly.Load() {
		return "cpu:0"
	}
	return fmt.Sprintf("cpu:0;gpu:%d", s.on.Index)
}

// floatNames returns the names of the values, all of which must be float32
// tensors of rank 1 or more.
func floatNames(values []onnx.ValueInfo) ([]string, error) {
	if len(values) == 0 {
		return nil, errors.New("a graph needs inputs and outputs")
	}
	names := make([]string, len(values))
	for i, v := range values {
		if v.Type != onnx.Float || len(v.Dims) == 0 {
			return nil, fmt.Errorf("%s: only float tensors with dimensions go in and out of a graph", v)
		}
		names[i] = v.Name
	}
	return names, nil
}

func sessionOptions(o Options) (*ortgo.SessionOptions, error) {
	so, err := ortgo.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	if err := configure(so, o); err != nil {
		so.Destroy()
		return nil, err
	}
	return so, nil
}

func configure(so *ortgo.SessionOptions, o Options) error {
	errs := []error{
		so.SetGraphOptimizationLevel(ortgo.GraphOptimizationLevelEnableExtended),
		so.SetIntraOpNumThreads(o.Threads),
		so.SetInterOpNumThreads(1),
		// A pattern of one size is of no use for the next one, and its single
		// block costs a third more memory at the peak.
		so.SetMemPattern(false),
		so.SetLogSeverityLevel(ortgo.LoggingLevelFatal),
	}
	entries := map[string]string{
		// Locations of weights are canonical paths without their leading slash.
		"session.model_external_initializers_file_folder_path": "/",
		"session.use_env_allocators":                           "1",
		// A constant in the arena would keep the region around it from being
		// given back.
		"session.use_device_allocator_for_initializers": "1",
		"session.intra_op.allow_spinning":               "0",
	}
	if o.Device.cpu() {
		// Prepacking copies every weight into the heap. On a device it transposes
		// weights where they lie.
		entries["session.disable_prepacking"] = "1"
	}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		errs = append(errs, so.AddSessionConfigEntry(key, entries[key]))
	}
	if o.Placement {
		errs = append(errs, so.AddSessionConfigEntry("session.record_ep_graph_assignment_info", "1"))
	}
	if o.Profile != "" {
		errs = append(errs, so.EnableProfiling(o.Profile))
	}
	return errors.Join(errs...)
}

// Inputs returns the names of the graph's inputs, in the graph's order.
func (s *Session) Inputs() []string { return slices.Clone(s.inputs) }

// Outputs returns the names of the graph's outputs, in the graph's order.
func (s *Session) Outputs() []string { return slices.Clone(s.outputs) }

// Run runs the graph. in holds exactly the graph's inputs by name; the result
// holds all its outputs, in memory of its own. The inputs are read in place
// and must not change meanwhile.
//
// When ctx ends, the run stops after the operators under way and Run returns
// an error that wraps ctx's error and cause; the session stays usable. Other errors are
// *Error; on CUDA, a session in which memory ran out refuses all further runs.
func (s *Session) Run(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	return s.RunHeld(ctx, Inputs{Tensors: in})
}

// guarded makes a run: it checks the inputs, keeps the session and what lies on
// the device open meanwhile, and explains errors.
func (s *Session) guarded(ctx context.Context, in Inputs, run func() error) error {
	op := fmt.Sprintf("run session %q", s.name)
	if ctx.Err() != nil {
		return ended(ctx, op)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.session == nil {
		return &Error{Op: op, Code: CodeInput, Message: "the session is closed"}
	}
	if s.spent.Load() {
		return &Error{Op: op, Code: CodeMemory, Provider: s.provider, Message: spentMessage}
	}
	err := s.checkInputs(in)
	if err == nil {
		var done func()
		done, err = s.take(in.Held)
		defer done()
	}
	if err != nil {
		return &Error{Op: op, Code: CodeInput, Message: err.Error()}
	}
	end := s.span(ctx)
	err = run()
	end(err)
	if err != nil && ctx.Err() != nil {
		return ended(ctx, op)
	}
	if err != nil {
		err = wrap(op, CodeRun, s.provider, err)
		var e *Error
		if errors.As(err, &e) && e.Code == CodeMemory && strings.HasPrefix(s.provider, "cuda") {
			s.spent.Store(true)
		}
	}
	return err
}

// A convolution on CUDA that finds no memory for its result remembers the sizes,
// and not that nothing is prepared for them: the next run of these sizes would
// crash, or compute with what was prepared for others (ONNX Runtime 1.30).
const spentMessage = "memory ran out in an earlier run; open the session again"

// ended says that ctx ended, and why.
func ended(ctx context.Context, op string) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return fmt.Errorf("%s: %w", op, cause)
	}
	return fmt.Errorf("%s: %w: %w", op, err, cause)
}

func (s *Session) checkInputs(in Inputs) error {
	for _, name := range s.inputs {
		t, held := in.Tensors[name], in.Held[name] != nil
		switch {
		case t == nil && !held:
			return fmt.Errorf("input %q is missing, want %s", name, strings.Join(s.inputs, ", "))
		case t != nil && held:
			return fmt.Errorf("input %q is given twice", name)
		case t != nil && (len(t.Shape) == 0 || len(t.Data) != t.Shape.Elements()):
			return fmt.Errorf("input %q: %d elements for shape %v", name, len(t.Data), t.Shape)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.Tensors)) {
		if !slices.Contains(s.inputs, name) {
			return fmt.Errorf("no input %q, want %s", name, strings.Join(s.inputs, ", "))
		}
	}
	return nil
}

// runHere runs on the CPU.
func (s *Session) runHere(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	var pins runtime.Pinner // ONNX Runtime keeps pointers to the inputs between calls
	defer pins.Unpin()
	values := make([]ortgo.Value, len(s.inputs))
	for i, name := range s.inputs {
		t := in[name]
		if len(t.Data) > 0 {
			pins.Pin(&t.Data[0])
		}
		v, err := ortgo.NewTensor(dims(t.Shape), t.Data)
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", name, err)
		}
		defer v.Destroy()
		values[i] = v
	}
	outs := make([]ortgo.Value, len(s.outputs))
	defer func() {
		for _, v := range outs {
			if v != nil {
				v.Destroy()
			}
		}
	}()
	err := s.runWatched(ctx, func(ro *ortgo.RunOptions) error { return s.session.RunWithOptions(values, outs, ro) })
	if err != nil {
		return nil, err
	}
	return collect(s.outputs, outs)
}

// runWatched makes the run and terminates it when ctx ends.
func (s *Session) runWatched(ctx context.Context, run func(*ortgo.RunOptions) error) error {
	hostOnly := s.hostOnly.Load()
	err := s.attempt(ctx, run)
	if err == nil || hostOnly || !strings.Contains(err.Error(), "memory arena shrink list") {
		return err
	}
	s.hostOnly.Store(true)
	return s.attempt(ctx, run) // the first one was refused before it began
}

func (s *Session) attempt(ctx context.Context, run func(*ortgo.RunOptions) error) error {
	ro, err := ortgo.NewRunOptions()
	if err != nil {
		return err
	}
	defer ro.Destroy()
	if s.release {
		// Memory that is unused at the end of the run goes back to the system.
		if err := configureRun(s.env.api, ro, "memory.enable_memory_arena_shrinkage", s.arenas()); err != nil {
			return err
		}
	}
	watched := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		ro.Terminate()
		close(watched)
	})
	err = run(ro)
	if !stop() {
		<-watched // Terminate must not meet options that are gone
	}
	return err
}

// collect takes the outputs' memory over. The binding has copied it out of
// ONNX Runtime once already; Destroy releases only the wrapper.
func collect(names []string, values []ortgo.Value) (map[string]*tensor.Tensor, error) {
	outs := make(map[string]*tensor.Tensor, len(names))
	for i, name := range names {
		v, ok := values[i].(*ortgo.Tensor[float32])
		if !ok {
			return nil, fmt.Errorf("output %q is not a float tensor", name)
		}
		shape := make(tensor.Shape, 0, 4)
		for _, d := range v.GetShape() {
			shape = append(shape, int(d))
		}
		outs[name] = &tensor.Tensor{Shape: shape, Data: v.GetData()}
	}
	return outs, nil
}

func dims(s tensor.Shape) ortgo.Shape {
	out := make(ortgo.Shape, len(s))
	for i, d := range s {
		out[i] = int64(d)
	}
	return out
}

// Close waits for runs under way and releases the session, and what it holds on
// its device. Closing twice does nothing.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		return nil
	}
	if s.device != nil {
		s.device.holding.close()
	}
	defer s.enter()()
	if s.device != nil {
		s.device.close()
	}
	err := s.session.Destroy()
	s.session, s.device = nil, nil
	s.operators.Close()
	if err != nil {
		return wrap(fmt.Sprintf("close session %q", s.name), CodeRun, s.provider, err)
	}
	return nil
}
