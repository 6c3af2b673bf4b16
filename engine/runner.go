package engine

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

// Runner runs plans. The zero Runner keeps no results between runs. It may
// run several plans at a time; nodes that need the device take turns.
type Runner struct {
	Cache    *Cache // nil: nothing is kept
	Parallel int    // nodes at a time in one run; 0: one per processor

	once   sync.Once
	device chan struct{} // holds a token while a node uses the device
}

// RunOptions are what a run gets beside the plan.
type RunOptions struct {
	// Events is told what happens, one event at a time. It must not block.
	Events func(Event)
	// Extra is what hidden inputs of the kind EXTRA_PNGINFO get.
	Extra ExtraPNGInfo
	// Digests asks for the digest of every result that can name its own
	// content (Digest() string), and for the sketch of every one that can tell
	// roughly what it holds (Sketch() string), for receipts.
	Digests bool
}

// Result is what a run gave, also one that failed or was stopped.
type Result struct {
	// UI is what nodes show, in the plan's order: those that ran, and those
	// whose results were there from an earlier run.
	UI []NodeUI
	// Nodes is every node that finished, in the order in which they did.
	Nodes []NodeReport

	values map[string][][]any
}

// NodeUI is what one node shows. Meta is the node that produced it, which for
// an equal node is another one.
type NodeUI struct {
	Node string
	Meta Meta
	UI   UI
}

// NodeReport is how one node fared.
type NodeReport struct {
	Meta
	Class    string
	Key      Key
	Cached   bool     // not executed for this node in this run
	Digests  []string // per output, when asked for
	Sketches []string // per output, when asked for; empty for what has none
	Duration time.Duration
}

// Values is the lists of values on the outputs of a node that was a target.
func (r *Result) Values(node string) [][]any { return r.values[node] }

// Run executes what the plan's outputs need and is not in the cache. On
// failure the error is a *NodeError that names the node; a run whose ctx is
// done fails with the kind Interrupted. The Result holds what was finished.
func (r *Runner) Run(ctx context.Context, p *Plan, o RunOptions) (*Result, error) {
	r.once.Do(func() { r.device = make(chan struct{}, 1) })
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := newRun(r, p, o)
	run.stop = cancel
	run.emit(Event{Kind: EventStart})
	var held []string
	if r.Cache != nil {
		held = r.Cache.begin(p.Steps)
	}
	run.emit(Event{Kind: EventCached, Nodes: held})
	run.showHeld(held)
	run.loop(ctx)
	return run.end()
}

func (r *Runner) parallel() int {
	if r.Parallel > 0 {
		return r.Parallel
	}
	return runtime.GOMAXPROCS(0)
}

// showHeld puts into the result what cached nodes show.
func (r *run) showHeld(held []string) {
	for _, id := range held {
		s := r.plan.byID[id]
		if out, ok := r.runner.Cache.get(s.Key); ok && len(out.ui) > 0 {
			r.ui[s] = NodeUI{Node: id, Meta: out.meta, UI: out.ui}
		}
	}
}

// end emits the last event and makes the result.
func (r *run) end() (*Result, error) {
	for _, s := range r.plan.Steps {
		if ui, ok := r.ui[s]; ok {
			r.result.UI = append(r.result.UI, ui)
		}
	}
	for _, s := range r.made {
		if ui, ok := r.ui[s]; ok {
			r.result.UI = append(r.result.UI, ui)
		}
	}
	switch e := r.failure; {
	case e == nil:
		r.emit(Event{Kind: EventSuccess})
		return r.result, nil
	case e.Kind == Interrupted:
		r.emit(Event{Kind: EventInterrupted, Meta: r.failedAt, Class: e.Class, Nodes: r.finished(), Err: e})
	default:
		r.emit(Event{Kind: EventError, Meta: r.failedAt, Class: e.Class, Nodes: r.finished(), All: r.allIDs(), Err: e})
	}
	return r.result, r.failure
}

func (r *run) allIDs() []string {
	var ids []string
	for _, n := range r.plan.Graph.Nodes() {
		ids = append(ids, n.ID)
	}
	for _, s := range r.made {
		ids = append(ids, s.ID)
	}
	return ids
}

// finished is the ids of the nodes that ran to the end in this run.
func (r *run) finished() []string {
	r.emitting.Lock()
	defer r.emitting.Unlock()
	return append([]string{}, r.executed...)
}

// fail records the first failure and stops the others.
func (r *run) fail(ctx context.Context, s *Step, err error, args *Args) {
	if r.failure != nil {
		return
	}
	m := s.meta()
	e := &NodeError{Node: s.ID, Class: s.Type.Class, Kind: ExecutionFailed, Err: err, Display: m.Display, Real: m.Real, RealClass: s.real().Type.Class}
	switch own := err.(type) { // as it is: a wrapped one may tell of another node
	case *InputError:
		e.Input, e.Err = own.Input, own.Err
	case *NodeError:
		e.Kind, e.Err = own.Kind, own.Err
	}
	if args != nil {
		e.Inputs = args.byName()
	}
	if ctx.Err() != nil || errors.Is(err, ErrInterrupted) {
		e.Kind = Interrupted
	}
	if ctx.Err() != nil {
		e.Err = context.Cause(ctx)
	}
	r.failure, r.failedAt = e, m
	r.stop(ErrInterrupted)
}

func (a *Args) byName() map[string][]any {
	out := make(map[string][]any, len(a.Values)+len(a.Rest))
	for i, values := range a.Values {
		if values != nil {
			out[a.Type.Inputs[i].Name] = values
		}
	}
	for name, values := range a.Rest {
		out[name] = values
	}
	return out
}
