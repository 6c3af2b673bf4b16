package engine

import (
	"context"
	"time"
)

// begin starts a task: takes over the results of an equal one, waits for
// one, ends an expansion, or executes the node.
func (r *run) begin(ctx context.Context, t *task) {
	if err := ctx.Err(); err != nil {
		r.fail(ctx, t.step, err, nil)
		return
	}
	if t.parked != nil {
		r.resolve(ctx, t)
		return
	}
	if out, ok := r.lookup(t.step.Key); ok {
		r.finish(t, out, true)
		return
	}
	if first := r.flying[t.step.Key]; first != nil && first != t {
		first.twins = append(first.twins, t)
		return
	}
	r.flying[t.step.Key] = t
	r.execute(ctx, t)
}

func (r *run) execute(ctx context.Context, t *task) {
	j := r.job(t)
	r.tell(t.step, Event{Kind: EventExecuting})
	r.running++
	r.busy = r.busy || t.step.Type.Device
	if r.running == 1 && len(r.ready[0]) == 0 && len(r.ready[1]) == 0 {
		r.take(ctx, r.perform(ctx, t, j))
		return
	}
	go func() { r.done <- r.perform(ctx, t, j) }()
}

// report is what came of an execution.
type report struct {
	task  *task
	job   *job
	need  []string // lazy inputs that have to be evaluated first
	calls []returned
	out   *outcome // unless there is an expansion
	err   error
	took  time.Duration
}

// perform runs in a goroutine of its own; it reads nothing of the run but
// what does not change.
func (r *run) perform(ctx context.Context, t *task, j *job) (rep report) {
	rep = report{task: t, job: j}
	if t.step.Type.Device {
		select {
		case r.runner.device <- struct{}{}:
			defer func() { <-r.runner.device }()
		case <-ctx.Done():
			rep.err = ctx.Err()
			return rep
		}
	}
	start := time.Now()
	rep.err = catch(func() error { return r.work(ctx, &rep) })
	rep.took = time.Since(start)
	return rep
}

func (r *run) work(ctx context.Context, rep *report) (err error) {
	if rep.job.step.Type.NeedLazy != nil {
		if rep.need, err = rep.job.missing(ctx); err != nil || len(rep.need) > 0 {
			return err
		}
	}
	rep.calls, err = rep.job.calls(ctx)
	if err != nil || expands(rep.calls) {
		return err
	}
	rep.out, err = merge(rep.job.step.Type, rep.calls, nil)
	if err == nil && r.options.Digests {
		rep.out.digest()
	}
	return err
}

// take brings the report of an execution into the schedule.
func (r *run) take(ctx context.Context, rep report) {
	t := rep.task
	t.took += rep.took
	r.running--
	if t.step.Type.Device {
		r.busy = false
	}
	switch {
	case rep.err != nil:
		r.fail(ctx, t.step, rep.err, &rep.job.args)
	case len(rep.need) > 0:
		if err := r.needLazy(t, rep.need); err != nil {
			r.fail(ctx, t.step, err, &rep.job.args)
		}
	case rep.out == nil:
		if err := r.expand(t, rep.calls); err != nil {
			r.fail(ctx, t.step, err, &rep.job.args)
		}
	default:
		r.finish(t, rep.out, false)
	}
}
