package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// outcome is what is to be recorded of a prompt.
type outcome struct {
	state    State
	err      string
	worker   string
	attempts int
	started  int64
	body     body
}

const longestError = 4096 // bytes of a message that the index keeps

func (q *Queue) ending(v view, o outcome) ending {
	return ending{submission: v.sub, State: o.state, Error: strings.ToValidUTF8(o.err[:min(len(o.err), longestError)], ""),
		Worker: o.worker, Attempts: o.attempts, Started: o.started, Finished: time.Now().UnixMilli(), By: newRun()}
}

// record writes a prompt's result into the history, unless there is one, and
// then removes the rest of the prompt.
func (q *Queue) record(ctx context.Context, v view, o outcome) error {
	o.body.Secret = nil
	data, err := q.encode(o.body)
	if err != nil {
		return badJSON(err)
	}
	e := q.ending(v, o)
	if err := q.writeEnd(ctx, v.token, e, data); err != nil {
		return err
	}
	switch o.state {
	case Done:
		q.counters.done.Add(1)
	case Failed:
		q.counters.failed.Add(1)
	case Cancelled:
		q.counters.cancelled.Add(1)
	}
	return nil
}

// writeEnd stores a result where none of the same run stands.
func (q *Queue) writeEnd(ctx context.Context, token string, e ending, data []byte) error {
	remains := q.remains(token, e.Run)
	after, place, recorded := q.lastEnd(token, e.Run)
	if recorded {
		return ErrRecorded
	}
	for {
		e.Place = place
		seq, _, err := q.store(ctx, write{subject: q.subject(historySubject, token), meta: e, body: data, after: after})
		if err == nil {
			q.applyEnd(token, seq, e, int64(len(data)))
			q.discard(remains...)
			return nil
		}
		if !errors.Is(err, errConflict) {
			return err
		}
		there, err := q.refreshEnd(ctx, token)
		if err != nil {
			return err
		}
		after, place = 0, 0
		if there.ending != nil {
			switch {
			case there.ending.By == e.By:
				q.discard(remains...)
				return nil
			case there.ending.Run == e.Run:
				q.discard(remains...)
				return ErrRecorded
			}
			after, place = there.seq, there.place()
		}
	}
}

// remains are the messages that a finished prompt leaves in the other streams.
func (q *Queue) remains(token, run string) (list []garbage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[token]
	if it == nil || it.sub == nil || it.sub.Run != run {
		return nil
	}
	list = append(list, garbage{q.prompts, it.arrival, it.sub.Secret})
	if it.claim.Run == run {
		list = append(list, garbage{q.claims, it.claimAt, false})
	}
	return list
}

// lastEnd returns what a new result of an id replaces, and its place in the
// history, 0 for a new one; or that this run has a result.
func (x *index) lastEnd(token, run string) (seq, place uint64, recorded bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	it := x.items[token]
	if x.over.has(run) {
		return 0, 0, true
	}
	if it == nil || it.end == nil {
		return 0, 0, false
	}
	return it.endSeq, it.end.Place, it.end.Run == run
}

// stored is a message of the history.
type stored struct {
	ending *ending // nil: there is none
	seq    uint64
	data   []byte
}

func (s stored) place() uint64 {
	if s.ending.Deleted {
		return 0
	}
	return orDefault(s.ending.Place, s.seq)
}

// refreshEnd reads what the history has of an id.
func (q *Queue) refreshEnd(ctx context.Context, token string) (stored, error) {
	m, err := q.readLast(ctx, q.history, q.subject(historySubject, token))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return stored{}, nil
	}
	if err != nil {
		return stored{}, err
	}
	e := &ending{}
	if err := readMeta(m.Header, e); err != nil {
		return stored{}, err
	}
	q.applyEnd(token, m.Sequence, *e, int64(len(m.Data)))
	return stored{e, m.Sequence, m.Data}, nil
}

// lastPrompt reads what is accepted of an id; nil: nothing.
func (q *Queue) lastPrompt(ctx context.Context, token string) (*submission, uint64, error) {
	m, err := q.readLast(ctx, q.prompts, q.subject(promptSubject, token))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	s := &submission{}
	return s, m.Sequence, readMeta(m.Header, s)
}

// refreshClaim reads who has a prompt.
func (q *Queue) refreshClaim(ctx context.Context, it *item) (c claim, err error) {
	m, err := q.readLast(ctx, q.claims, q.subject(claimSubject, it.token))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		q.setClaim(it, 0, claim{})
		return claim{}, nil
	}
	if err != nil {
		return claim{}, err
	}
	if err := json.Unmarshal(m.Data, &c); err != nil {
		return claim{}, fmt.Errorf("claim at %d: %w", m.Sequence, err)
	}
	q.setClaim(it, m.Sequence, c)
	return c, nil
}

func readMeta(h nats.Header, into any) error {
	if err := json.Unmarshal([]byte(h.Get(metaHeader)), into); err != nil {
		return fmt.Errorf("header %s: %w", metaHeader, err)
	}
	return nil
}

// garbage is a message that has had its time.
type garbage struct {
	stream jetstream.Stream
	seq    uint64
	secret bool // overwrite it on disk
}

// discard removes messages soon, one after the other: a claim must not go before
// its prompt. What is not removed the next audit finds.
func (q *Queue) discard(list ...garbage) {
	if len(list) == 0 {
		return
	}
	select {
	case q.garbage <- list:
		return
	default:
	}
	select {
	case q.garbage <- list:
	case <-q.ctx.Done():
	}
}

func (q *Queue) collectGarbage() {
	for {
		select {
		case list := <-q.garbage:
			_ = q.remove(q.ctx, list...)
		case <-q.ctx.Done():
			return
		}
	}
}

// removeGarbage removes what there is.
func (q *Queue) removeGarbage(ctx context.Context) {
	for {
		select {
		case list := <-q.garbage:
			_ = q.remove(ctx, list...)
		default:
			return
		}
	}
}

// remove removes messages, up to the first that is not to be removed now. One
// that is gone already is no error.
func (q *Queue) remove(ctx context.Context, list ...garbage) error {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	for _, g := range list {
		remove := g.stream.DeleteMsg
		if g.secret {
			remove = g.stream.SecureDeleteMsg
		}
		err := remove(ctx, g.seq)
		if err == nil {
			continue
		}
		if _, readErr := g.stream.GetMsg(ctx, g.seq); !errors.Is(readErr, jetstream.ErrMsgNotFound) {
			return err
		}
	}
	return nil
}

// Cancel ends a prompt that is not wanted any more, and says in which state
// it was: Queued and Lost ones are cancelled at once, the worker of a Running
// one is told to stop. Nothing happens to others.
func (q *Queue) Cancel(ctx context.Context, id string) (State, error) {
	it, err := q.find(ctx, id)
	if err != nil {
		return Unknown, fmt.Errorf("cancel prompt %s: %w", id, err)
	}
	for {
		q.mu.Lock()
		state := q.state(it)
		q.mu.Unlock()
		if state == Unknown || state.Finished() {
			return state, nil
		}
		done, err := q.cancel(ctx, it, state)
		if err != nil {
			return state, fmt.Errorf("cancel prompt %s: %w", id, err)
		}
		if done {
			return state, nil
		}
	}
}

// cancel tries once. The claim decides between it and a worker.
func (q *Queue) cancel(ctx context.Context, it *item, state State) (bool, error) {
	v, ok := q.view(it)
	if !ok {
		return false, nil
	}
	c := v.claim
	if state != Running {
		c = claim{Run: v.sub.Run, Owner: q.session, Worker: q.options.Worker, Attempts: c.Attempts}
	}
	c.Cancel = true
	won, err := q.writeClaim(ctx, it, v, c)
	if !won || err != nil || state == Running {
		return won, err
	}
	return true, q.settleFor(ctx, v, outcome{state: Cancelled, err: "cancelled while " + string(state)})
}

// Clear cancels everything that is queued or lost, and returns how many.
func (q *Queue) Clear(ctx context.Context) (int, error) {
	count := 0
	for _, info := range q.List() {
		if info.State == Running {
			continue
		}
		state, err := q.Cancel(ctx, info.ID)
		if err != nil {
			return count, err
		}
		if state == Queued || state == Lost {
			count++
		}
	}
	return count, nil
}
