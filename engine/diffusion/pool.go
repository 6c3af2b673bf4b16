package diffusion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// pool keeps sessions for reuse, dropping those unused for longest when their
// weights exceed the bound, or when memory runs out.
type pool struct {
	runtime *Runtime
	// open makes a session.
	open    func(context.Context, *onnx.Model, ort.Options) (session, error)
	mu      sync.Mutex
	entries map[string]*entry
	clock   int64 // counts uses
}

// entry is a session, being made or ready.
type entry struct {
	ready   chan struct{} // closed when session or err is set
	session session
	err     error
	// bytes are the weights that sessions with the same key shared have in
	// common, own those that only this one has.
	shared     string
	bytes, own int64
	users      int
	discarded  bool  // no longer in the pool: the last user closes it
	used       int64 // pool.clock at the last use
	// origin holds the places of the files that the weights come from.
	origin string
	// kept are the outputs that its session holds on the device, guarded by
	// keeping.
	keeping sync.Mutex
	kept    map[*kept]bool
}

func newPool(r *Runtime) *pool {
	return &pool{runtime: r, open: r.openSession, entries: map[string]*entry{}}
}

func (r *Runtime) openSession(_ context.Context, m *onnx.Model, o ort.Options) (session, error) {
	env, err := r.env()
	if err != nil {
		return nil, err
	}
	s, err := env.NewSession(m, o)
	if err != nil {
		return nil, err
	}
	return ortSession{s}, nil
}

// run evaluates a component's graph. The session is made at the first use;
// several callers wait for one to make it. Where memory runs out, sessions that
// are not running make room for a second attempt.
func (p *pool) run(ctx context.Context, c *component, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	return p.runFed(ctx, c, feed{tensors: in})
}

// runFed is run with inputs that may lie on the device.
func (p *pool) runFed(ctx context.Context, c *component, in feed) (out map[string]*tensor.Tensor, err error) {
	err = p.try(ctx, c, in, func(e *entry, g given) (err error) {
		out, err = e.session.run(ctx, g)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, in.blame(ctx, c.checkFinite(out))
}

// try makes one attempt at a run, or two.
func (p *pool) try(ctx context.Context, c *component, in feed, run func(*entry, given) error) error {
	err := p.attempt(ctx, c, in, run)
	if isMemory(err) && p.evict(c) {
		err = p.attempt(ctx, c, in, run)
	}
	if err != nil {
		return p.explained(c, err)
	}
	return nil
}

func (p *pool) attempt(ctx context.Context, c *component, in feed, run func(*entry, given) error) error {
	e, err := p.acquire(ctx, c)
	if err != nil {
		return fmt.Errorf("load %s: %w", c.name, err)
	}
	defer p.release(e)
	if len(c.inputs) > 0 {
		in.tensors = maps.Clone(in.tensors)
		maps.Copy(in.tensors, c.inputs)
	}
	g, done, err := in.open()
	if err == nil {
		err = run(e, g)
	}
	done() // before pool.mu: who holds that may wait for a value of in to move
	if isMemory(err) {
		p.discard(c.key(), e)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", c.name, err)
	}
	return nil
}

func (p *pool) acquire(ctx context.Context, c *component) (*entry, error) {
	for {
		e, mine := p.enter(c)
		if mine {
			e.err = p.load(ctx, c, e)
			close(e.ready)
		} else if err := e.wait(ctx); err != nil {
			p.release(e)
			return nil, err
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

// wait returns when the entry is ready, or when ctx ends. Who loads an entry
// must not leave it before the outcome is known: one that failed has no session
// and must be forgotten.
func (e *entry) wait(ctx context.Context) error {
	select {
	case <-e.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter counts the caller among an entry's users. mine says that the entry is
// new and the caller's to load.
func (p *pool) enter(c *component) (e *entry, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[c.key()]
	if !ok {
		e = &entry{ready: make(chan struct{}), origin: c.origin(), kept: map[*kept]bool{}}
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
	if e.discarded && e.users == 0 {
		e.close()
	}
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
		p.drop(oldest)
	}
}

// drop closes a session that is not in use; what it holds on the device moves to
// the host. The caller holds p.mu.
func (p *pool) drop(key string) {
	p.entries[key].close()
	delete(p.entries, key)
}

// close is drop for an entry by itself.
func (e *entry) close() {
	e.keeping.Lock()
	values := slices.Collect(maps.Keys(e.kept))
	e.keeping.Unlock()
	for _, k := range values {
		k.move()
	}
	e.session.Close()
}

// forgetFiles closes the unused sessions of files.
func (p *pool) forgetFiles(paths []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range p.entries {
		ofThem := slices.ContainsFunc(paths, func(path string) bool { return strings.Contains(e.origin, path) })
		if e.users == 0 && ofThem {
			p.drop(key)
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
	place, err := p.runtime.Place(ctx)
	if err != nil {
		return err
	}
	if err := p.makeRoom(place, c); err != nil {
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
	session, err := p.open(ctx, model, ort.Options{
		Name: c.name, Device: place.Device, Threads: o.Threads, Profile: o.Profile,
		// Sessions share their working memory on the CPU only.
		Release: c.seldom && !place.isCPU(),
	})
	if err != nil {
		return err
	}
	e.session = session
	p.mu.Lock()
	if place.isCPU() {
		e.shared, e.bytes, e.own = c.sharedKey(), c.weightBytes(), located.own
	} else {
		e.own = c.copiedBytes()
	}
	p.mu.Unlock()
	if o.Loaded != nil && c.file != nil {
		o.Loaded(c.file.Path, time.Since(began))
	}
	return nil
}
