package worker

import (
	"context"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
)

// Observer is told what a worker does: metrics and traces are made of it. Its
// methods are called one at a time for one prompt, and at once for several that
// run; they must not block.
type Observer interface {
	// Taken begins a prompt. Everything about the prompt happens in the context
	// that it returns, ctx or one made of it, so that it may carry a span.
	Taken(ctx context.Context, t Taken) context.Context
	// NodeDone tells of a node that finished, or whose results were there.
	NodeDone(ctx context.Context, n NodeDone)
	// Finished ends a prompt, when its result is recorded.
	Finished(ctx context.Context, f Finished)
}

// Taken is a prompt that is about to run.
type Taken struct {
	Prompt  queue.Prompt
	Attempt int           // 1 for the first
	Device  string        // of its runner
	Wait    time.Duration // from its submission until now
}

// NodeDone is a node of a prompt that finished.
type NodeDone struct {
	engine.Meta
	Prompt   string // id
	Class    string
	Cached   bool // its results were there already
	Ended    time.Time
	Duration time.Duration
}

// Finished is a prompt that ended. State is queue.Done, queue.Failed or
// queue.Cancelled, or queue.Queued for one that was given back, or queue.Lost
// for one that another worker has.
type Finished struct {
	Prompt  queue.Prompt
	Attempt int
	Device  string // of its runner
	State   queue.State
	Err     error // of one that did not end well
	Wait    time.Duration
	Took    time.Duration

	UI    []engine.NodeUI     // what its nodes show
	Nodes []engine.NodeReport // that finished
}

// Observers are several as one. The context of the last one's Taken is that of
// the prompt; each makes its own of the one before.
type Observers []Observer

// Taken tells all.
func (os Observers) Taken(ctx context.Context, t Taken) context.Context {
	for _, o := range os {
		ctx = o.Taken(ctx, t)
	}
	return ctx
}

// NodeDone tells all.
func (os Observers) NodeDone(ctx context.Context, n NodeDone) {
	for _, o := range os {
		o.NodeDone(ctx, n)
	}
}

// Finished tells all.
func (os Observers) Finished(ctx context.Context, f Finished) {
	for _, o := range os {
		o.Finished(ctx, f)
	}
}
