package diffusion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/winograd"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// component is a part of a model that runs as one session: a graph and the
// file that its weights lie in.
type component struct {
	name  string // "unet", "vae_decoder", "clip": names the weights that it wants
	graph *nn.Graph
	file  *weights.File
	stamp int64 // modification time of the file: a replaced file is another one
	// variant tells graphs over the same weights apart.
	variant string
	// weights are those that the graph is traced over, by trace; a tower's tables
	// are among them, its graph does not want them. Both are needed to change
	// weights: see with.
	weights nn.Weights
	trace   func(nn.Weights) (*nn.Graph, error)
	// base is the component before any steps, nil for itself.
	base  *component
	steps []step
	// extra are weights of the graph that are in no file: see addBranches.
	extra []weights.Part
	// inputs are given to each run, beside those of the caller.
	inputs map[string]*tensor.Tensor
	// roundF16 rounds float32 weights to half precision first, as ComfyUI
	// stores text encoders.
	roundF16 bool
}

func newComponent(name string, f *weights.File, graph *nn.Graph) *component {
	c := &component{name: name, file: f, graph: graph}
	if info, err := os.Stat(f.Path); err == nil {
		c.stamp = info.ModTime().UnixNano()
	}
	return c
}

// key identifies the component's session.
func (c *component) key() string {
	return fmt.Sprintf("%s@%d,%d#%s%s", c.file.Path, c.file.Size, c.stamp, c.name, c.variant)
}

// origin holds the places of the files that the component's weights come from.
func (c *component) origin() string {
	places := []string{c.key()}
	for _, s := range c.steps {
		places = append(places, s.name)
	}
	return strings.Join(places, "\n")
}

// digest identifies what the component computes by the content of its file; by
// the file's place where it cannot be read.
func (c *component) digest(d *weights.Digests) string {
	sum, err := d.Digest(context.Background(), c.file.Path)
	if err != nil {
		return digest(c.key())
	}
	parts := []any{sum, c.name, c.variant}
	if c.base != nil {
		parts[2] = c.base.variant
	}
	for _, s := range c.steps {
		parts = append(parts, s.digest(d), s.amount)
	}
	return digest(parts...)
}

// pool keeps sessions for reuse, dropping those unused for longest when their
// weights exceed the bound.
type pool struct {
	runtime *Runtime
	mu      sync.Mutex
	entries map[string]*entry
	clock   int64 // counts uses
}

// entry is a session, being made or ready.
type entry struct {
	ready   chan struct{} // closed when session or err is set
	session *ort.Session
	err     error
	// bytes are the weights that sessions with the same key shared have in
	// common, own those that only this one has.
	shared     string
	bytes, own int64
	users      int
	used       int64 // pool.clock at the last use
	// origin holds the places of the files that the weights come from.
	origin string
}

func newPool(r *Runtime) *pool { return &pool{runtime: r, entries: map[string]*entry{}} }

// run evaluates a component's graph. The session is made at the first use;
// several callers wait for one to make it.
func (p *pool) run(ctx context.Context, c *component, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	e, err := p.acquire(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", c.name, err)
	}
	defer p.release(e)
	if len(c.inputs) > 0 {
		in = maps.Clone(in)
		maps.Copy(in, c.inputs)
	}
	out, err := e.session.Run(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", c.name, err)
	}
	return out, nil
}

func (p *pool) acquire(ctx context.Context, c *component) (*entry, error) {
	for {
		e, mine := p.enter(c)
		if mine {
			e.err = p.load(ctx, c, e)
			close(e.ready)
		}
		select {
		case <-e.ready:
		case <-ctx.Done():
			p.release(e)
			return nil, ctx.Err()
		}
		if e.err == nil {
			return e, nil
		}
		p.forget(c.key(), e)
		// Somebody else's cancelled attempt says nothing about this one.
		if !errors.Is(e.err, context.Canceled) || ctx.Err() != nil {
			return nil, e.err
		}
	}
}

// enter counts the caller among an entry's users. mine says that the entry is
// new and the caller's to load.
func (p *pool) enter(c *component) (e *entry, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[c.key()]
	if !ok {
		e = &entry{ready: make(chan struct{}), origin: c.origin()}
		p.entries[c.key()] = e
	}
	e.users++
	return e, !ok
}

// forget removes an entry that could not be loaded, so that the next use tries
// again.
func (p *pool) forget(key string, e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.users--
	if p.entries[key] == e {
		delete(p.entries, key)
	}
}

func (p *pool) release(e *entry) {
	p.mu.Lock()
	e.users--
	p.clock++
	e.used = p.clock
	p.mu.Unlock()
	if limit := p.runtime.options.SessionBytes; limit > 0 {
		p.shrink(limit)
	}
}

// shrink closes unused sessions, the least recently used first, until the rest
// have at most limit bytes of weights.
func (p *pool) shrink(limit int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		total, oldest := p.total(), ""
		for key, e := range p.entries {
			if e.users == 0 && (oldest == "" || e.used < p.entries[oldest].used) {
				oldest = key
			}
		}
		if total <= limit || oldest == "" {
			return
		}
		p.entries[oldest].session.Close()
		delete(p.entries, oldest)
	}
}

// forgetFiles closes the unused sessions of files.
func (p *pool) forgetFiles(paths []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range p.entries {
		ofThem := slices.ContainsFunc(paths, func(path string) bool { return strings.Contains(e.origin, path) })
		if e.users == 0 && ofThem {
			e.session.Close()
			delete(p.entries, key)
		}
	}
}

// total returns the bytes of all sessions, those that several map once.
func (p *pool) total() int64 {
	var total int64
	shared := map[string]int64{}
	for _, e := range p.entries {
		total += e.own
		shared[e.shared] = max(shared[e.shared], e.bytes)
	}
	for _, n := range shared {
		total += n
	}
	return total
}

// load finds the component's weights, completes its graph and makes the
// session.
func (p *pool) load(ctx context.Context, c *component, e *entry) error {
	env, err := p.runtime.env()
	if err != nil {
		return err
	}
	began := time.Now()
	located, err := c.locate(ctx, p.runtime.options.Cache)
	// Once mapped, the weights need no name in the file system any more.
	defer located.close()
	if err != nil {
		return err
	}
	model := c.model(located.byName)
	o := p.runtime.options
	session, err := env.NewSession(model, ort.Options{Name: c.name, Device: p.runtime.device, Threads: o.Threads, Profile: o.Profile})
	if err != nil {
		return err
	}
	e.session, e.shared, e.bytes = session, c.sharedKey(), c.weightBytes()
	e.own = located.own
	if o.Loaded != nil {
		o.Loaded(c.file.Path, time.Since(began))
	}
	return nil
}

// parts lists the float32 tensors that the graph needs, each once.
func (c *component) parts() []weights.Part {
	var parts []weights.Part
	seen := map[string]bool{}
	for _, p := range c.graph.Params {
		name := partName(p.Source)
		if seen[name] {
			continue
		}
		seen[name] = true
		parts = append(parts, weights.Part{
			Name: name, Shape: p.Source.Shape, From: p.Source.From, Transform: c.transform(p.Source),
		})
	}
	return parts
}

// transform returns how a part is made of the file's tensors, nil when it lies
// in the file as the graph wants it.
func (c *component) transform(s nn.Source) *weights.Transform {
	if s.Make != nil {
		return &weights.Transform{Name: s.Make.Name, Apply: s.Make.Apply}
	}
	if info, ok := c.file.Tensor(s.From[0]); c.roundF16 && ok && info.DType == tensor.F32 {
		return weights.RoundF16()
	}
	return nil
}

// partName identifies what a source computes.
func partName(s nn.Source) string {
	name := strings.Join(s.From, "+")
	if s.Make != nil {
		name += "|" + s.Make.Name
	}
	return name
}

// model returns the graph with its weights as external data.
func (c *component) model(located map[string]weights.Location) *onnx.Model {
	m := &onnx.Model{
		Producer: "comfyrun", Opset: map[string]int64{"": 18, "com.microsoft": 1, winograd.Domain: winograd.Version}, Graph: c.graph.ONNX,
	}
	inits := append([]onnx.Initializer{}, c.graph.ONNX.Initializers...)
	for _, p := range c.graph.Params {
		inits = append(inits, external(p.Name, p.Shape, located[partName(p.Source)], p.Offset))
	}
	for _, p := range c.extra {
		inits = append(inits, external(p.Name, p.Shape, located[p.Name], 0))
	}
	m.Graph.Initializers = inits
	return m
}

// external returns the initializer that lies at a location, behind offset
// elements.
func external(name string, shape tensor.Shape, at weights.Location, offset int) onnx.Initializer {
	dims := make([]int64, len(shape))
	for i, d := range shape {
		dims[i] = int64(d)
	}
	return onnx.Initializer{Name: name, Type: onnx.Float, Dims: dims, External: &onnx.External{
		Path: at.Path, Offset: at.Offset + 4*int64(offset), Length: 4 * int64(shape.Elements()),
	}}
}

// weightBytes returns the size of the graph's weights in float32.
func (c *component) weightBytes() int64 {
	var n int64
	for _, p := range c.graph.Params {
		n += 4 * int64(p.Shape.Elements())
	}
	return n
}
