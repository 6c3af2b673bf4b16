package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/workflows"
)

// execution is one attempt at a prompt.
type execution struct {
	w        *Worker
	runner   *Runner
	lease    *queue.Lease
	prompt   string // id
	client   string
	observed context.Context // of the observer
	wait     time.Duration

	out      *outbox
	previews PreviewOptions
	progress *progressState
	again    string // output node whose earlier results were just told

	started  bool              // that was told
	history  []json.RawMessage // messages that are recorded
	warnings []Warning
	ending   *ending // how the run ended; nil: not yet
	finished Finished
	invalid  *engine.InvalidError
}

// ending is the last message of a run, before it is sent.
type ending struct {
	kind string
	data json.RawMessage
}

func newExecution(w *Worker, r *Runner, lease *queue.Lease) *execution {
	x := &execution{w: w, runner: r, lease: lease, prompt: lease.Prompt.ID, client: lease.Prompt.ClientID,
		wait: lease.Started.Sub(lease.Receipt.Created), progress: newProgressState(lease.Prompt.ID)}
	x.out = newOutbox(func(e queue.Event) {
		if err := w.Queue.Publish(e); err != nil {
			w.log().Warn("event is lost", "prompt_id", x.prompt, "bytes", len(e.Data), "err", err)
		}
	})
	x.finished = Finished{Prompt: lease.Prompt, Attempt: lease.Attempt, Device: r.Device, Wait: x.wait}
	return x
}

// begin tells that the prompt was taken. It is run in the context that begin returns.
func (x *execution) begin(ctx context.Context) context.Context {
	x.observed = ctx
	if x.w.Observe != nil {
		x.observed = x.w.Observe.Taken(ctx, Taken{Prompt: x.lease.Prompt, Attempt: x.lease.Attempt, Device: x.runner.Device, Wait: x.wait})
	}
	x.w.log().Info("prompt begins", "prompt_id", x.prompt, "attempt", x.lease.Attempt, "device", x.runner.Device, "waited_seconds", x.wait.Seconds())
	x.status(Begun)
	return x.observed
}

// run executes the prompt and returns what to record. It is what queue.Lease.Run wants.
func (x *execution) run(ctx context.Context) (result json.RawMessage, err error) {
	start := time.Now()
	x.finished.Err = x.perform(ctx)
	x.finished.Took = time.Since(start)
	if x.finished.State = x.state(ctx); x.finished.State == queue.Queued || x.finished.State == queue.Lost {
		return nil, x.finished.Err
	}
	if x.w.After != nil {
		if err := x.after(ctx); err != nil && x.finished.Err == nil {
			x.fail(err)
		}
	}
	x.tellEnding()
	return x.result(), x.finished.Err
}

// state says what becomes of the prompt, as queue.Lease.Run will have it.
func (x *execution) state(ctx context.Context) queue.State {
	err, stopped := x.finished.Err, x.lease.Err()
	switch {
	case err == nil:
		return queue.Done
	case errors.Is(stopped, queue.ErrLost) || errors.Is(stopped, queue.ErrRecorded):
		return queue.Lost
	case errors.Is(err, queue.ErrCancelled) || errors.Is(err, engine.ErrInterrupted):
		return queue.Cancelled
	case ctx.Err() != nil && !errors.Is(stopped, queue.ErrCancelled):
		return queue.Queued
	}
	return queue.Failed
}

// after calls the hook. A panic becomes an error.
func (x *execution) after(ctx context.Context) (err error) {
	defer x.rescue(&err)
	if err := x.w.After(ctx, &x.finished); err != nil {
		return fmt.Errorf("finish prompt: %w", err)
	}
	return nil
}

// rescue makes an error of a panic.
func (x *execution) rescue(err *error) {
	if problem := recover(); problem != nil {
		x.w.log().Error("panic while a prompt ran", "prompt_id", x.prompt, "panic", fmt.Sprint(problem), "stack", string(debug.Stack()))
		*err = fmt.Errorf("panic: %v", problem)
	}
}

// perform plans and runs. Every error leaves an ending, but that of a prompt which is given back.
func (x *execution) perform(ctx context.Context) (err error) {
	defer func() {
		if err != nil && x.ending == nil {
			x.fail(err)
		}
	}()
	defer x.rescue(&err)
	extra, err := x.extra()
	if err != nil {
		return err
	}
	if limit := x.w.TimeLimit; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, &TimeLimitError{limit})
		defer cancel()
	}
	plan, err := x.plan(ctx)
	if err != nil {
		return err
	}
	done, err := x.runner.Engine.Run(ctx, plan, engine.RunOptions{Events: x.event, Extra: extra})
	if done != nil {
		x.finished.UI, x.finished.Nodes = done.UI, done.Nodes
	}
	return err
}

func (x *execution) plan(ctx context.Context) (*engine.Plan, error) {
	g, err := workflows.Parse(x.lease.Prompt.Graph)
	if err != nil {
		return nil, fmt.Errorf("read workflow: %w", err)
	}
	if err := x.prepare(ctx, g); err != nil {
		return nil, err
	}
	var o engine.PlanOptions
	if len(x.lease.Prompt.Targets) > 0 {
		o.Targets = x.lease.Prompt.Targets
	}
	plan, err := engine.NewPlan(g, x.runner.Catalog(), o)
	if invalid, ok := errors.AsType[*engine.InvalidError](err); ok {
		x.invalid = invalid
		return nil, fmt.Errorf("the workflow was accepted, but cannot run here any more: %w", err)
	}
	return plan, err
}

// extra reads what extra_data has for the worker.
func (x *execution) extra() (engine.ExtraPNGInfo, error) {
	var e struct {
		PNG    any    `json:"extra_pnginfo"`
		Method string `json:"preview_method"`
	}
	var out struct {
		PNG engine.ExtraPNGInfo `json:"extra_pnginfo"`
	}
	x.previews = x.w.Previews.of("")
	if len(x.lease.Prompt.Extra) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(x.lease.Prompt.Extra, &e); err != nil {
		return nil, nil // a client may send anything; what is of no use is passed over
	}
	x.previews = x.w.Previews.of(e.Method)
	if _, ok := e.PNG.(map[string]any); ok {
		if err := json.Unmarshal(x.lease.Prompt.Extra, &out); err != nil {
			return nil, fmt.Errorf("read extra_pnginfo: %w", err)
		}
	}
	return out.PNG, nil
}

// fail makes an ending of an error that is no node's.
func (x *execution) fail(err error) {
	x.finished.Err, x.finished.State = err, queue.Failed
	e := &engine.NodeError{Kind: engine.ExecutionFailed, Err: err}
	if x.invalid != nil && len(x.invalid.Errors) > 0 {
		e.Node, e.Class = x.invalid.Errors[0].Node, x.invalid.Errors[0].Class
	}
	x.start(time.Now())
	f := x.failure(e, x.executed(), nil)
	f.Traceback, f.Timestamp = []string{err.Error()}, stamp(time.Now())
	x.ending = &ending{"execution_error", encode(f)}
}

// executed are the nodes that ran to their end.
func (x *execution) executed() (ids []string) {
	for _, n := range x.finished.Nodes {
		if !n.Cached {
			ids = append(ids, n.Node)
		}
	}
	return ids
}

// conclude tells that the prompt is over, when that is recorded.
func (x *execution) conclude(err error) {
	f := &x.finished
	switch {
	case err != nil:
		x.w.log().Error("prompt's end is not recorded", "prompt_id", x.prompt, "err", err)
	case f.State == queue.Queued || f.State == queue.Lost:
		x.w.log().Info("prompt is left to others", "prompt_id", x.prompt, "state", f.State)
	default:
		x.logEnd()
		x.status(Other)
		x.own("executing", encode(over{nil, x.prompt}))
	}
	x.out.flush()
	if x.w.Observe != nil {
		x.w.Observe.Finished(x.observed, *f)
	}
}

func (x *execution) logEnd() {
	f := &x.finished
	if f.State == queue.Failed {
		x.w.log().Warn("prompt failed", "prompt_id", x.prompt, "seconds", f.Took.Seconds(), "err", f.Err)
		if p, ok := errors.AsType[*engine.PanicError](f.Err); ok {
			x.w.log().Error("a node panicked", "prompt_id", x.prompt, "stack", string(p.Stack))
		}
		return
	}
	x.w.log().Info("prompt ended", "prompt_id", x.prompt, "state", f.State, "seconds", f.Took.Seconds())
}
