package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/nats-io/nats.go/jetstream"
)

// Lease is a worker's hold on a prompt. It is kept alive until one of Done,
// Fail, Finish and GiveBack succeeds.
type Lease struct {
	Prompt  Prompt
	Receipt Receipt // what the client got
	Attempt int     // 1 for the first
	Started time.Time

	q       *Queue
	item    *item
	sub     submission
	run     string
	arrival uint64

	once    sync.Once
	stopped chan struct{}
	cause   error
}

// end stops a lease; the first cause counts.
func (l *Lease) end(cause error) {
	l.once.Do(func() {
		l.cause = cause
		close(l.stopped)
	})
}

// Stopped returns a channel that is closed when the prompt need not be
// executed any further: it is cancelled, or another worker has it.
func (l *Lease) Stopped() <-chan struct{} { return l.stopped }

// Err says why the lease was stopped: ErrCancelled, ErrLost or ErrRecorded;
// nil before.
func (l *Lease) Err() error {
	select {
	case <-l.stopped:
		return l.cause
	default:
		return nil
	}
}

// Take waits for the prompt whose turn it is and takes it. The taking is
// written down before Take returns, so that a prompt that ends its process is
// noticed.
func (q *Queue) Take(ctx context.Context) (*Lease, error) {
	for {
		if q.ctx.Err() != nil {
			return nil, ErrClosed
		}
		changed := q.Changed()
		if it, ok := q.next(); ok {
			l, err := q.take(ctx, it)
			q.release(it)
			if err != nil {
				return nil, fmt.Errorf("take prompt: %w", err)
			}
			if l != nil {
				q.counters.taken.Add(1)
				return l, nil
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-q.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// view is a copy of what the index knows of an active item.
type view struct {
	token   string
	sub     submission
	arrival uint64
	claim   claim // of this run; empty: none
	claimAt uint64
}

func (x *index) view(it *item) (v view, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if it.sub == nil {
		return view{}, false
	}
	v = view{it.token, *it.sub, it.arrival, it.claim, it.claimAt}
	if it.claim.Run != it.sub.Run {
		v.claim = claim{}
	}
	return v, true
}

// take claims an item that nobody else has. A nil lease without an error means
// that there was nothing to take after all.
func (q *Queue) take(ctx context.Context, it *item) (*Lease, error) {
	v, ok := q.view(it)
	if !ok {
		return nil, nil
	}
	if v.claim.Cancel {
		return nil, q.settleFor(ctx, v, outcome{state: Cancelled, err: "cancelled"})
	}
	if v.claim.Owner != "" && v.claim.Attempts >= q.options.MaxAttempts {
		o := outcome{state: Failed, err: fmt.Sprintf("the process that executed it ended before it was done, %d times; the last one on %s",
			v.claim.Attempts, v.claim.Worker)}
		return nil, q.settleFor(ctx, v, o)
	}
	c := claim{Run: v.sub.Run, Owner: q.session, Worker: q.options.Worker, Attempts: v.claim.Attempts + 1, Started: time.Now().UnixMilli()}
	// A claim is made to the end: one that nobody knows of would count as an attempt.
	firm, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*storeWait)
	defer cancel()
	if won, err := q.writeClaim(firm, it, v, c); !won || err != nil {
		return nil, err
	}
	m, err := q.readUnfinished(firm, v)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		q.dropClaimed(it, v)
		return nil, nil
	}
	if err != nil {
		return nil, errors.Join(err, q.hold(it, v, c, body{}).GiveBack(firm))
	}
	b, err := decodeBody(m.Data)
	if err != nil {
		return nil, settledElsewhere(q.record(ctx, v, outcome{state: Failed, err: "read prompt: " + err.Error(), attempts: c.Attempts}))
	}
	return q.hold(it, v, c, b), nil
}

// settledElsewhere forgives that somebody else has recorded a result.
func settledElsewhere(err error) error {
	if errors.Is(err, ErrRecorded) {
		return nil
	}
	return err
}

// settleFor records a result that no worker gives: the last one, if there was any, is gone.
func (q *Queue) settleFor(ctx context.Context, v view, o outcome) error {
	o.attempts, o.started, o.worker = v.claim.Attempts, v.claim.Started, v.claim.Worker
	if o.attempts > 0 {
		m, err := q.readPrompt(ctx, v)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return err
		}
		if err == nil {
			// One that cannot be read is kept without its graph.
			o.body, _ = decodeBody(m.Data)
		}
	}
	return settledElsewhere(q.record(ctx, v, o))
}

// readPrompt reads what was accepted. A cluster's server that has just become the leader may not have it yet, so that
// it is gone is believed only of a prompt that has a result, or after a while.
func (q *Queue) readPrompt(ctx context.Context, v view) (*jetstream.RawStreamMsg, error) {
	for began := time.Now(); ; {
		m, err := q.read(ctx, q.prompts, v.arrival)
		if !errors.Is(err, jetstream.ErrMsgNotFound) || q.embedded != nil {
			return m, err
		}
		there, refreshErr := q.refreshEnd(ctx, v.token)
		if refreshErr != nil {
			return nil, refreshErr
		}
		if there.ending != nil && there.ending.Run == v.sub.Run || time.Since(began) > storeWait || !q.pause(ctx) {
			return nil, err
		}
	}
}

// readUnfinished reads what was accepted, of a prompt without a result. Where there are other workers, one may have
// finished it, and gone before it could remove it.
func (q *Queue) readUnfinished(ctx context.Context, v view) (*jetstream.RawStreamMsg, error) {
	if q.embedded == nil {
		there, err := q.refreshEnd(ctx, v.token)
		if err != nil {
			return nil, err
		}
		if there.ending != nil && there.ending.Run == v.sub.Run {
			return nil, jetstream.ErrMsgNotFound
		}
	}
	return q.readPrompt(ctx, v)
}

// dropClaimed forgets a prompt that was gone when it was claimed.
func (q *Queue) dropClaimed(it *item, v view) {
	q.mu.Lock()
	at := it.claimSeq
	q.mu.Unlock()
	q.drop(it, v.sub.Run)
	q.discard(garbage{q.claims, at, false})
}

// writeClaim replaces the claim that v shows. It reports false when somebody
// else has replaced it, and then knows by what.
func (q *Queue) writeClaim(ctx context.Context, it *item, v view, c claim) (bool, error) {
	c.By = newRun()
	data, err := json.Marshal(c)
	if err != nil {
		return false, err
	}
	seq, _, err := q.store(ctx, write{subject: q.subject(claimSubject, v.token), body: data, after: v.claimAt})
	if errors.Is(err, errConflict) {
		there, err := q.refreshClaim(ctx, it)
		return err == nil && there.By == c.By, err
	}
	if err != nil {
		return false, err
	}
	q.applyClaim(v.token, seq, c)
	return true, nil
}

func (q *Queue) hold(it *item, v view, c claim, b body) *Lease {
	l := &Lease{Prompt: b.prompt(v.sub), Receipt: v.sub.receipt(), Attempt: c.Attempts, Started: time.UnixMilli(c.Started),
		q: q, item: it, sub: v.sub, run: v.sub.Run, arrival: v.arrival, stopped: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case it.sub == nil || it.sub.Run != l.run:
		l.end(ErrRecorded)
	case it.claim.Owner != q.session:
		l.end(ErrLost)
	default:
		it.leased = l
		if it.claim.Cancel {
			l.end(ErrCancelled)
		}
	}
	return l
}

func (q *Queue) openLeases() (list []*Lease) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for it := range q.held {
		if it.leased != nil {
			list = append(list, it.leased)
		}
	}
	return list
}

// Done records that the prompt ended well, with its result. ErrRecorded says
// that it had a result already, which stays.
func (l *Lease) Done(ctx context.Context, result json.RawMessage) error {
	return l.finish(ctx, outcome{state: Done, body: body{Result: result}})
}

// Fail records that the prompt ended with an error, or that it was cancelled
// when that is why. The result may say more.
func (l *Lease) Fail(ctx context.Context, reason error, result json.RawMessage) error {
	state := Failed
	if errors.Is(reason, ErrCancelled) || errors.Is(reason, engine.ErrInterrupted) ||
		errors.Is(l.Err(), ErrCancelled) && errors.Is(reason, context.Canceled) {
		state = Cancelled
	}
	return l.finish(ctx, outcome{state: state, err: reason.Error(), body: body{Result: result}})
}

func (l *Lease) finish(ctx context.Context, o outcome) error {
	o.attempts, o.started, o.worker = l.Attempt, l.Started.UnixMilli(), l.q.options.Worker
	o.body.Graph, o.body.Extra, o.body.Targets = l.Prompt.Graph, l.Prompt.Extra, l.Prompt.Targets
	if err := l.q.record(ctx, view{token: l.item.token, sub: l.sub, arrival: l.arrival}, o); err != nil {
		return fmt.Errorf("record result of prompt %s: %w", l.Prompt.ID, err)
	}
	return nil
}

// GiveBack returns the prompt to its place in the queue, as if it had not been
// taken; a worker that must stop does so.
func (l *Lease) GiveBack(ctx context.Context) error {
	for {
		v, ok := l.q.view(l.item)
		if !ok || v.sub.Run != l.run {
			return fmt.Errorf("give back prompt %s: %w", l.Prompt.ID, ErrRecorded)
		}
		if v.claim.Owner != l.q.session {
			return fmt.Errorf("give back prompt %s: %w", l.Prompt.ID, ErrLost)
		}
		c := v.claim
		c.Owner, c.Worker, c.Started, c.Attempts = "", "", 0, c.Attempts-1
		l.q.letGo(l)
		won, err := l.q.writeClaim(ctx, l.item, v, c)
		l.q.release(l.item)
		if err != nil {
			return fmt.Errorf("give back prompt %s: %w", l.Prompt.ID, err)
		}
		if won {
			l.q.counters.givenBack.Add(1)
			return nil
		}
	}
}

// letGo parts a lease from its item, which nobody else in this process gets
// before it is released.
func (x *index) letGo(l *Lease) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if l.item.leased == l {
		l.item.leased = nil
	}
	l.item.claiming = true
	l.end(ErrLost)
}

// Run executes the prompt with f and records what comes of it. The context of
// f ends when the lease is stopped; its cause says why. When ctx itself ends and
// f with it, the prompt is given back. Run returns what recording gave, nil also for
// a prompt that failed, or was taken over by another worker.
func (l *Lease) Run(ctx context.Context, f func(context.Context) (json.RawMessage, error)) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-l.stopped:
			cancel(l.cause)
		case <-inner.Done():
		}
	}()
	result, err := f(inner)
	after, done := context.WithTimeout(context.WithoutCancel(ctx), l.q.options.Lease)
	defer done()
	if err = l.conclude(after, ctx.Err() != nil, result, err); err == nil || errors.Is(err, ErrRecorded) {
		return nil
	}
	l.q.letGo(l)
	l.q.release(l.item)
	return err
}

// conclude records what an execution gave.
func (l *Lease) conclude(ctx context.Context, ending bool, result json.RawMessage, err error) error {
	if err == nil {
		err = l.Done(ctx, result)
		if !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrInvalid) {
			return err
		}
		result = nil
	}
	switch cause := l.Err(); {
	case errors.Is(cause, ErrLost) || errors.Is(cause, ErrRecorded):
		return nil
	case ending && !errors.Is(cause, ErrCancelled):
		return l.GiveBack(ctx)
	}
	return l.Fail(ctx, err, result)
}
