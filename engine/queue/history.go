package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// Info is what a list says of a prompt.
type Info struct {
	ID       string
	ClientID string
	Owner    string
	State    State
	Number   float64
	Assigned bool // the queue counted the number
	Created  time.Time

	Worker   string    // that has or had it last
	Attempts int       // executions begun
	Started  time.Time // of the last one
	Finished time.Time
	Error    string // of a failed or cancelled one
	Ahead    int    // queued prompts before this one; only in List

	token    string
	revision uint64 // of the message with its body
}

// Entry is a prompt of the history.
type Entry struct {
	Info
	Prompt Prompt
	Result json.RawMessage
}

// Page selects from the history, oldest entry first, as ComfyUI's GET /history does: an absent or negative
// offset counts from the end when there is a MaxItems, and MaxItems below 1 gives nothing.
type Page struct{ MaxItems, Offset *int }

func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// info describes an item.
func (x *index) info(it *item) Info {
	if it == nil || it.sub == nil && it.end == nil {
		return Info{State: Unknown}
	}
	if it.sub == nil {
		e := it.end
		i := e.info(it.endSeq)
		i.token = it.token
		return i
	}
	s := it.sub
	i := Info{ID: s.ID, ClientID: s.Client, Owner: s.Owner, State: x.state(it), Number: s.Number, Assigned: s.Assigned, Created: instant(s.Created),
		token: it.token, revision: it.arrival}
	if it.claim.Run == s.Run {
		i.Worker, i.Attempts, i.Started = it.claim.Worker, it.claim.Attempts, instant(it.claim.Started)
	}
	return i
}

func (e *ending) info(seq uint64) Info {
	return Info{ID: e.ID, ClientID: e.Client, Owner: e.Owner, State: e.State, Number: e.Number, Assigned: e.Assigned, Created: instant(e.Created),
		Worker: e.Worker, Attempts: e.Attempts, Started: instant(e.Started), Finished: instant(e.Finished), Error: e.Error, revision: seq}
}

// look returns the item of an id that is in queue or history, or nil, and its state.
func (x *index) look(id string) (*item, State) {
	x.mu.Lock()
	defer x.mu.Unlock()
	it := x.items[token(id)]
	if state := x.state(it); state != Unknown {
		return it, state
	}
	return nil, Unknown
}

// find returns the item of an id, or nil. Unless it has finished it asks the server too: what one process has
// recorded is there for all others at once, and their indexes may lag a moment behind.
func (q *Queue) find(ctx context.Context, id string) (*item, error) {
	it, state := q.look(id)
	if q.embedded != nil || state.Finished() {
		return it, nil
	}
	if _, err := q.refreshEnd(ctx, token(id)); err != nil {
		return nil, err
	}
	if it == nil {
		if err := q.auditPrompt(ctx, token(id)); err != nil {
			return nil, err
		}
	}
	it, _ = q.look(id)
	return it, nil
}

// Find says where a prompt is; Unknown is no error.
func (q *Queue) Find(ctx context.Context, id string) (Info, error) {
	it, err := q.find(ctx, id)
	if err != nil {
		return Info{State: Unknown}, fmt.Errorf("find prompt %s: %w", id, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.info(it), nil
}

// List returns what has not finished: running prompts first, then lost and queued ones in the order in which they run.
func (q *Queue) List() []Info {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := make([]*item, 0, len(q.active))
	for it := range q.active {
		items = append(items, it)
	}
	sort.Slice(items, func(i, j int) bool { return items[i].before(items[j]) })
	var running, waiting []Info
	for _, it := range items {
		i := q.info(it)
		if i.State == Running {
			running = append(running, i)
			continue
		}
		i.Ahead = len(waiting)
		waiting = append(waiting, i)
	}
	return append(running, waiting...)
}

// Read returns the prompts of a list, in its order. One that has finished or
// gone since has no Graph.
func (q *Queue) Read(ctx context.Context, list []Info) ([]Prompt, error) {
	prompts := make([]Prompt, len(list))
	err := q.each(ctx, len(list), func(ctx context.Context, i int) error {
		e, _, err := q.readEntry(ctx, q.prompts, list[i])
		e.Prompt.Secret = nil
		prompts[i] = e.Prompt
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read prompts: %w", err)
	}
	return prompts, nil
}

const readsAtATime = 8

func (q *Queue) each(ctx context.Context, n int, f func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtATime)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}

// readEntry adds the body to an info; false: the message is gone.
func (q *Queue) readEntry(ctx context.Context, s jetstream.Stream, i Info) (Entry, bool, error) {
	e := Entry{Info: i, Prompt: Prompt{ID: i.ID, ClientID: i.ClientID, Owner: i.Owner, Number: &i.Number}}
	m, err := q.read(ctx, s, i.revision)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return e, false, nil
	}
	if err != nil {
		return Entry{}, false, err
	}
	return e, true, e.fill(m.Data)
}

func (e *Entry) fill(data []byte) error {
	b, err := decodeBody(data)
	if err != nil {
		return fmt.Errorf("prompt %s: %w", e.ID, err)
	}
	e.Prompt = b.prompt(submission{ID: e.ID, Client: e.ClientID, Owner: e.Owner, Number: e.Number})
	e.Result = b.Result
	return nil
}

// History returns a page of the finished prompts. Those that were cancelled
// before they ran are not among them.
func (q *Queue) History(ctx context.Context, p Page) ([]Entry, error) {
	list := p.pick(q.shown())
	entries, there := make([]Entry, len(list)), make([]bool, len(list))
	err := q.each(ctx, len(list), func(ctx context.Context, i int) (err error) {
		entries[i], there[i], err = q.readEntry(ctx, q.history, list[i])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	kept := entries[:0]
	for i, e := range entries {
		if there[i] {
			kept = append(kept, e)
		}
	}
	return kept, nil
}

func (q *Queue) shown() []Info {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]Info, 0, len(q.ended))
	for _, it := range q.ended {
		if it.end.Attempts > 0 {
			i := it.end.info(it.endSeq)
			i.token = it.token
			list = append(list, i)
		}
	}
	return list
}

func (p Page) pick(list []Info) []Info {
	from, most := -1, len(list)
	if p.Offset != nil {
		from = *p.Offset
	}
	if p.MaxItems != nil {
		most = max(*p.MaxItems, 0)
		if from < 0 {
			from = len(list) - *p.MaxItems
		}
	}
	list = list[min(max(from, 0), len(list)):]
	return list[:min(most, len(list))]
}

// Entry returns a finished prompt with its result; false: there is none of
// that id, or it has not finished.
func (q *Queue) Entry(ctx context.Context, id string) (Entry, bool, error) {
	i, err := q.Find(ctx, id)
	if err != nil || !i.State.Finished() {
		return Entry{}, false, err
	}
	there, err := q.refreshEnd(ctx, i.token)
	for began := time.Now(); err == nil && there.ending == nil && q.embedded == nil && time.Since(began) < storeWait && q.pause(ctx); {
		// A server that has just become the leader may not have it yet.
		there, err = q.refreshEnd(ctx, i.token)
	}
	if err != nil {
		return Entry{}, false, fmt.Errorf("read result of prompt %s: %w", id, err)
	}
	if there.ending == nil || there.ending.Deleted {
		return Entry{}, false, nil
	}
	e := Entry{Info: there.ending.info(there.seq)}
	return e, true, e.fill(there.data)
}

// Wait returns a prompt's entry as soon as it has finished. A prompt that is
// not known is ErrUnknown.
func (q *Queue) Wait(ctx context.Context, id string) (Entry, error) {
	if _, err := q.find(ctx, id); err != nil {
		return Entry{}, fmt.Errorf("wait for prompt %s: %w", id, err)
	}
	for {
		changed := q.Changed()
		if _, state := q.look(id); state == Unknown || state.Finished() {
			e, ok, err := q.Entry(ctx, id)
			if !ok && err == nil {
				err = fmt.Errorf("wait for prompt %s: %w", id, ErrUnknown)
			}
			return e, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Entry{}, ctx.Err()
		case <-q.ctx.Done():
			return Entry{}, ErrClosed
		}
	}
}

// ErrUnknown says that there is no prompt of an id.
var ErrUnknown = errors.New("unknown prompt")

// DeleteHistory removes finished prompts by id. Other ids are passed over.
func (q *Queue) DeleteHistory(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		if err := q.deleteEntry(ctx, id); err != nil {
			return fmt.Errorf("delete prompt %s from history: %w", id, err)
		}
	}
	return nil
}

func (q *Queue) deleteEntry(ctx context.Context, id string) error {
	at := token(id)
	for {
		there, err := q.refreshEnd(ctx, at)
		if err != nil || there.ending == nil || there.ending.Deleted {
			return err
		}
		e := ending{submission: submission{ID: there.ending.ID, Run: there.ending.Run}, Deleted: true}
		seq, _, err := q.store(ctx, write{subject: q.subject(historySubject, at), meta: e, after: there.seq})
		if err == nil {
			q.applyEnd(at, seq, e, 0)
			return nil
		}
		if !errors.Is(err, errConflict) {
			return err
		}
	}
}

// ClearHistory removes all finished prompts.
func (q *Queue) ClearHistory(ctx context.Context) error {
	seq, _, err := q.store(ctx, write{subject: q.subject(clearedSubject), always: true})
	if err == nil {
		err = q.history.Purge(ctx, jetstream.WithPurgeSequence(seq))
	}
	if err != nil {
		return fmt.Errorf("clear history: %w", err)
	}
	q.cleared(seq)
	return nil
}
