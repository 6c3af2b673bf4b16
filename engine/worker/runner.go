package worker

import (
	"context"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/workflows"
)

// Runner runs one prompt at a time on a device. Runners share nothing: what a
// node gives may live on the device, so each has results of its own too.
type Runner struct {
	Device  string                 // what people call it: "cpu", "cuda:0"; several may have one name
	Catalog func() *engine.Catalog // of this moment, whose nodes use the device; asked for at each prompt
	Engine  *engine.Runner         // with the results that are kept

	// Held says how many bytes of model files the device holds: of those that are
	// named, and of others. It is asked to choose among several runners. Nil: none.
	Held func(files []string) (named, others int64)
	// Forget drops the models, the node results, or both; see Worker.Free.
	Forget func(models, results bool)

	// Guarded by Worker.mu.
	busy    bool
	prompt  string // id of what runs; "": nothing does
	since   time.Time
	models  bool // to forget
	results bool // to forget
}

// RunnerState is what a runner does at the moment.
type RunnerState struct {
	Device string
	Prompt string    // id of what runs; "": nothing does
	Since  time.Time // of that
}

// State is what a worker does at the moment.
type State struct {
	Runners  []RunnerState // in the order of Worker.Runners
	Draining bool          // no more is taken
}

// State returns what the worker does at the moment.
func (w *Worker) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := State{Draining: w.draining}
	for _, r := range w.Runners {
		s.Runners = append(s.Runners, RunnerState{r.Device, r.prompt, r.since})
	}
	return s
}

// change changes what mu guards, and wakes those who wait for something of it.
func (w *Worker) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// await calls f as soon as is holds, both with mu held. The error is why ctx ended before.
func (w *Worker) await(ctx context.Context, is func() bool, f func()) error {
	for {
		w.mu.Lock()
		if is() {
			f()
			w.mu.Unlock()
			return nil
		}
		if w.changed == nil {
			w.changed = make(chan struct{})
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// idle lists the runners that have nothing to do. The caller holds mu.
func (w *Worker) idle() (list []*Runner) {
	for _, r := range w.Runners {
		if !r.busy {
			list = append(list, r)
		}
	}
	return list
}

// WhenIdle calls f while no prompt runs, and keeps the next ones in the queue
// until f returns. Running prompts are waited for, as long as ctx lasts.
func (w *Worker) WhenIdle(ctx context.Context, f func()) error {
	w.change(func() {
		w.wanted++
		if w.taking != nil {
			w.taking()
		}
	})
	defer w.change(func() { w.wanted-- })
	idle := func() bool { return !w.paused && w.taking == nil && len(w.idle()) == len(w.Runners) }
	if err := w.await(ctx, idle, func() { w.paused = true }); err != nil {
		return err
	}
	defer w.change(func() { w.paused = false })
	f()
	return nil
}

// Free calls each runner's Forget as soon as it runs no prompt.
func (w *Worker) Free(models, results bool) {
	var idle []*Runner
	w.change(func() {
		for _, r := range w.Runners {
			r.models, r.results = r.models || models, r.results || results
		}
		idle = w.idle()
		for _, r := range idle {
			r.busy = true
		}
	})
	for _, r := range idle {
		w.release(r)
	}
}

// release makes a runner idle when it has forgotten what it is to forget.
func (w *Worker) release(r *Runner) {
	for {
		var models, results bool
		w.change(func() {
			models, results = r.models, r.results
			r.models, r.results = false, false
			r.prompt, r.since = "", time.Time{}
			r.busy = models || results
		})
		if !models && !results {
			return
		}
		if r.Forget != nil {
			r.Forget(models, results)
		}
	}
}

// assign chooses an idle runner for a prompt and makes it busy.
func (w *Worker) assign(lease *queue.Lease) (r *Runner) {
	forever := context.Background() // one is idle, or forgets something and will be
	for r == nil {
		var idle []*Runner
		_ = w.await(forever, func() bool { idle = w.idle(); return len(idle) > 0 }, func() {})
		best := w.best(idle, lease.Prompt)
		w.change(func() {
			if best.busy { // it was told to forget something
				return
			}
			r = best
			r.busy, r.prompt, r.since = true, lease.Prompt.ID, time.Now()
		})
	}
	return r
}

// best is the runner that holds most of the prompt's models already. Among equal
// ones it is that which holds least of other models: it has most room for what has to be loaded.
func (w *Worker) best(list []*Runner, p queue.Prompt) *Runner {
	if len(list) == 1 {
		return list[0]
	}
	var files []string
	if g, err := workflows.Parse(p.Graph); err == nil && w.Files != nil {
		files = w.Files(g)
	}
	var best *Runner
	var most, least int64
	for _, r := range list {
		var named, others int64
		if r.Held != nil {
			named, others = r.Held(files)
		}
		if best == nil || named > most || named == most && others < least {
			best, most, least = r, named, others
		}
	}
	return best
}
