// Package worker executes the prompts of a queue: it takes one, plans it, runs
// it, tells what happens on the way in ComfyUI's words, and records what came
// of it.
//
//	w := &worker.Worker{Queue: q, Runners: []*worker.Runner{{Catalog: catalog, Engine: runner}}, Drain: 30 * time.Second}
//	err := w.Run(ctx) // until ctx ends
//
// # Vocabulary
//
// A runner runs one prompt at a time on a device; a worker has one for each. A
// prompt is taken only when a runner is idle, and goes to the one that holds
// most of the prompt's models; so prompts begin in the queue's order, and end as they may.
//
// A message is one JSON text of ComfyUI's websocket; its owner is the client
// that submitted the prompt. Messages travel as queue events of KindMessage,
// pictures of unfinished samplings as KindPreview, and the number of prompts that
// are left as KindStatus; package web hands them to sockets. To drain is to take
// no more prompts and let the running ones end. What is recorded in the history is
// a Result.
package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/workflows"
)

// Worker takes prompts from Queue and runs them, one at a time on each runner.
type Worker struct {
	Queue   *queue.Queue
	Runners []*Runner // at least one; of this worker only
	// Files lists the model files that a workflow needs, for the choice among
	// several runners. Nil: none are known.
	Files func(g *workflows.Graph) []string

	Log       *slog.Logger  // nil: nothing is logged
	TimeLimit time.Duration // of one prompt; 0: none
	Previews  PreviewOptions
	// Drain is how long the running prompts may go on after the context of Run
	// has ended. Then they are given back to the queue.
	Drain time.Duration

	// Prepare is called before a prompt is planned, within its time limit: what it
	// needs is brought here. Its error, best a *engine.NodeError, makes the
	// prompt a failed one. Nil: everything is here.
	Prepare func(ctx context.Context, p *Preparation) error
	// Observe is told what happens. Nil: nobody is.
	Observe Observer
	// After is called when a prompt has run, whatever came of it, and before
	// that is told or recorded. Its error makes the prompt a failed one. It may
	// change what f.UI shows. Not called for prompts that are given back.
	After func(ctx context.Context, f *Finished) error

	mu       sync.Mutex
	changed  chan struct{}      // closed when something below or of a runner changes; nil: nobody waits
	taking   context.CancelFunc // ends the taking of a prompt; nil: none is under way
	wanted   int                // callers of WhenIdle
	paused   bool               // one of them has its function called
	draining bool
}

// retryTake is how long the worker waits when the queue cannot be reached.
const retryTake = time.Second

// Run takes prompts until ctx ends, and returns when the last ones have ended or
// are given back. It is called once. The error is that of a queue that was closed.
func (w *Worker) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { w.change(func() { w.draining = true }) })
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		taking, err := w.begin(ctx)
		if err != nil {
			return nil
		}
		lease, err := w.Queue.Take(taking)
		interrupted := taking.Err() != nil
		if lease != nil {
			r := w.assign(lease)
			running.Go(func() { w.work(ctx, r, lease) })
		}
		w.change(func() { w.taking(); w.taking = nil })
		switch {
		case lease != nil || interrupted:
		case errors.Is(err, queue.ErrClosed):
			return err
		default:
			w.log().Error("cannot take prompts", "err", err)
			pause(ctx, retryTake)
		}
	}
}

// begin waits until a prompt may be taken: a runner is idle, and nobody wants all
// of them to be. The context that it returns ends when somebody does.
func (w *Worker) begin(ctx context.Context) (taking context.Context, err error) {
	free := func() bool { return ctx.Err() == nil && w.wanted == 0 && len(w.idle()) > 0 }
	err = w.await(ctx, free, func() { taking, w.taking = context.WithCancel(ctx) })
	return taking, err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (w *Worker) log() *slog.Logger {
	if w.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return w.Log
}

// errDrained ends a prompt that has not ended within Worker.Drain.
var errDrained = errors.New("the worker has to stop")

// work runs one prompt on a runner that is its, or gives it back.
func (w *Worker) work(ctx context.Context, r *Runner, lease *queue.Lease) {
	defer w.release(r)
	draining, end := drain(ctx, w.Drain)
	defer end()
	x := newExecution(w, r, lease)
	x.conclude(lease.Run(x.begin(draining), x.run))
}

// drain returns a context that goes on for a while when ctx has ended.
func drain(ctx context.Context, grace time.Duration) (context.Context, func()) {
	draining, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var timer *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(grace, func() { cancel(errDrained) })
	})
	return draining, func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		cancel(nil)
	}
}
