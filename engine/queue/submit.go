package queue

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const longestName = 1024 // bytes of an id or key

func (p Prompt) check() error {
	switch {
	case max(len(p.ID), len(p.ClientID), len(p.IdempotencyKey), len(p.Owner), len(p.Trace)) > longestName:
		return fmt.Errorf("%w: an id, client id, idempotency key, owner or trace is longer than %d bytes", ErrInvalid, longestName)
	case p.Number != nil && !finite(*p.Number):
		return fmt.Errorf("%w: number %v is not finite", ErrInvalid, *p.Number)
	}
	return nil
}

// Submit accepts a prompt: when it returns, the prompt is stored and will run.
// An id that is queued or running already, or a known idempotency key, gives
// the receipt of the prompt that is there. An id that has finished is
// submitted anew. A full queue is a FullError.
//
// When Submit fails for a lost connection or an ended context the prompt may have been
// accepted all the same; repeating it with its ID or key is safe.
func (q *Queue) Submit(ctx context.Context, p Prompt) (Receipt, error) {
	r, err := q.submit(ctx, p)
	switch {
	case errors.Is(err, ErrFull):
		q.counters.refused.Add(1)
		err = &FullError{q.options.MaxQueued, q.retryAfter()}
	case err == nil && r.Duplicate:
		q.counters.duplicates.Add(1)
	case err == nil:
		q.counters.accepted.Add(1)
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("submit prompt: %w", err)
	}
	return r, nil
}

func (q *Queue) submit(ctx context.Context, p Prompt) (Receipt, error) {
	if err := p.check(); err != nil {
		return Receipt{}, err
	}
	if q.ctx.Err() != nil {
		return Receipt{}, ErrClosed
	}
	if p.ID == "" {
		p.ID = NewID(p.IdempotencyKey)
	}
	if r, ok := q.known(p); ok {
		return r, nil
	}
	data, err := q.encode(body{Graph: p.Graph, Extra: p.Extra, Targets: p.Targets, Secret: p.Secret})
	if err != nil {
		return Receipt{}, badJSON(err)
	}
	return q.accept(ctx, q.submission(p), data)
}

// NewID makes the id that Submit gives a prompt without one: from its idempotency key, so that every
// replica makes the same, or a random UUID.
func NewID(key string) string {
	if key == "" {
		return newID()
	}
	sum := sha256.Sum256([]byte(key))
	return uuid([16]byte(sum[:16]))
}

func badJSON(err error) error {
	var syntax *json.SyntaxError
	var marshal *json.MarshalerError
	if errors.As(err, &syntax) || errors.As(err, &marshal) {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return err
}

func (q *Queue) submission(p Prompt) submission {
	s := submission{ID: p.ID, Run: newRun(), Client: p.ClientID, Owner: p.Owner, Trace: p.Trace, Key: p.IdempotencyKey, Secret: len(p.Secret) > 0,
		Created: time.Now().UnixMilli()}
	switch {
	case p.Number != nil:
		s.Number = *p.Number
	default:
		s.Number, s.Assigned = q.NextNumber(), true
		if p.Front && s.Number != 0 {
			s.Number = -s.Number
		}
	}
	return s
}

// known returns the receipt of a prompt that need not be stored again.
func (x *index) known(p Prompt) (Receipt, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	it := x.items[token(p.ID)]
	if it != nil && it.sub != nil && it.sub.ID == p.ID {
		return again(it.sub), true
	}
	if it = x.keys[p.IdempotencyKey]; p.IdempotencyKey == "" || it == nil {
		return Receipt{}, false
	}
	if it.sub != nil && it.sub.Key == p.IdempotencyKey {
		return again(it.sub), true
	}
	if it.end != nil && it.end.Key == p.IdempotencyKey {
		return again(&it.end.submission), true
	}
	return Receipt{}, false
}

func again(s *submission) Receipt {
	r := s.receipt()
	r.Duplicate = true
	return r
}

// accept stores a submission.
func (q *Queue) accept(ctx context.Context, s submission, data []byte) (Receipt, error) {
	w := write{subject: q.subject(promptSubject, token(s.ID)), meta: s, body: data, id: s.Run}
	if s.Key != "" {
		w.id = "key " + token(s.Key)
	}
	for {
		seq, duplicate, err := q.store(ctx, w)
		switch {
		case errors.Is(err, errConflict):
			r, settled, err := q.meet(ctx, s)
			if settled || err != nil {
				return r, err
			}
			continue
		case err != nil:
			return Receipt{}, err
		case duplicate:
			return q.first(ctx, s, seq)
		}
		q.applyPrompt(token(s.ID), seq, s)
		return s.receipt(), nil
	}
}

// meet finds out why the prompt's subject is taken: by the same id in the
// queue, or by what is left of a run that has finished.
func (q *Queue) meet(ctx context.Context, s submission) (r Receipt, settled bool, err error) {
	there, seq, err := q.lastPrompt(ctx, token(s.ID))
	if err != nil || there == nil {
		return Receipt{}, false, err
	}
	if there.Run == s.Run {
		return s.receipt(), true, nil
	}
	if _, err := q.refreshEnd(ctx, token(s.ID)); err != nil {
		return Receipt{}, false, err
	}
	if q.applyPrompt(token(s.ID), seq, *there) {
		return Receipt{}, false, q.remove(ctx, garbage{q.prompts, seq, there.Secret})
	}
	return again(there), true, nil
}

// first returns the receipt of the submission at seq, of which s is a
// repetition.
func (q *Queue) first(ctx context.Context, s submission, seq uint64) (Receipt, error) {
	m, err := q.read(ctx, q.prompts, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		// It has finished in the meantime.
		if r, ok := q.known(Prompt{IdempotencyKey: s.Key}); ok {
			return r, nil
		}
		return again(&s), nil
	}
	if err != nil {
		return Receipt{}, err
	}
	var there submission
	if err := readMeta(m.Header, &there); err != nil {
		return Receipt{}, err
	}
	q.applyPrompt(token(there.ID), seq, there)
	if there.Run == s.Run {
		return s.receipt(), nil
	}
	return again(&there), nil
}

// retryAfter guesses when there will be room: after the usual time between two results.
func (x *index) retryAfter() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.ends) < 2 {
		return 5 * time.Second
	}
	between := time.Since(x.ends[0]) / time.Duration(len(x.ends)-1)
	return min(max(between.Round(time.Second), time.Second), time.Minute)
}
