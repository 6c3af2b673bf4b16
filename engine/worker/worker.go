// Package worker executes the prompts of a queue: it takes one, plans it, runs
// it, tells what happens on the way in ComfyUI's words, and records what came
// of it.
//
//	w := &worker.Worker{Queue: q, Catalog: catalog, Runner: runner, Drain: 30 * time.Second}
//	err := w.Run(ctx) // until ctx ends
//
// # Vocabulary
//
// A message is one JSON text of ComfyUI's websocket; its owner is the client
// that submitted the prompt. Messages travel as queue events of KindMessage,
// pictures of unfinished samplings as KindPreview, and the number of prompts that
// are left as KindStatus; package web hands them to sockets. To drain is to take
// no more prompts and let the running one end. What is recorded in the history is
// a Result.
package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
)

// Worker takes prompts from Queue and runs them, one at a time.
type Worker struct {
	Queue   *queue.Queue
	Catalog func() *engine.Catalog // of this moment; asked for at each prompt
	Runner  *engine.Runner

	Log       *slog.Logger  // nil: nothing is logged
	TimeLimit time.Duration // of one prompt; 0: none
	Previews  PreviewOptions
	// Drain is how long the running prompt may go on after the context of Run
	// has ended. Then it is given back to the queue.
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
	// Forget drops the models, the node results, or both. See Free.
	Forget func(models, results bool)

	working sync.Mutex // held while a prompt runs
	mu      sync.Mutex
	state   State
	models  bool // to forget
	results bool // to forget
}

// State is what a worker does at the moment.
type State struct {
	Prompt   string    // id of what runs; "": nothing does
	Since    time.Time // of that
	Draining bool      // no more is taken
}

// State returns what the worker does at the moment.
func (w *Worker) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *Worker) setState(change func(*State)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.state)
}

// Free calls Forget as soon as no prompt runs.
func (w *Worker) Free(models, results bool) {
	w.mu.Lock()
	w.models, w.results = w.models || models, w.results || results
	w.mu.Unlock()
	w.forget()
}

func (w *Worker) forget() {
	if !w.working.TryLock() {
		return // done when the prompt has ended
	}
	defer w.working.Unlock()
	w.mu.Lock()
	models, results := w.models, w.results
	w.models, w.results = false, false
	w.mu.Unlock()
	if w.Forget != nil && (models || results) {
		w.Forget(models, results)
	}
}

// WhenIdle calls f while no prompt runs, and keeps the next one waiting until f
// returns. A running prompt is waited for, as long as ctx lasts.
func (w *Worker) WhenIdle(ctx context.Context, f func()) error {
	idle := make(chan struct{})
	go func() {
		w.working.Lock()
		close(idle)
	}()
	select {
	case <-idle:
		defer w.working.Unlock()
		f()
		return nil
	case <-ctx.Done():
		go func() {
			<-idle
			w.working.Unlock()
		}()
		return context.Cause(ctx)
	}
}

// retryTake is how long the worker waits when the queue cannot be reached.
const retryTake = time.Second

// Run takes prompts until ctx ends, and returns when the last one has ended or
// is given back. It is called once. The error is that of a queue that was closed.
func (w *Worker) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { w.setState(func(s *State) { s.Draining = true }) })
	defer stop()
	for ctx.Err() == nil {
		lease, err := w.Queue.Take(ctx)
		switch {
		case lease != nil:
			w.work(ctx, lease)
		case ctx.Err() != nil:
		case errors.Is(err, queue.ErrClosed):
			return err
		default:
			w.log().Error("cannot take prompts", "err", err)
			pause(ctx, retryTake)
		}
	}
	return nil
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

// work runs one prompt, or gives it back.
func (w *Worker) work(ctx context.Context, lease *queue.Lease) {
	w.working.Lock()
	w.setState(func(s *State) { s.Prompt, s.Since = lease.Prompt.ID, time.Now() })
	defer func() {
		w.setState(func(s *State) { s.Prompt, s.Since = "", time.Time{} })
		w.working.Unlock()
		w.forget()
	}()
	draining, end := drain(ctx, w.Drain)
	defer end()
	x := newExecution(w, lease)
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
