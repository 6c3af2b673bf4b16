package queue

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// audit compares the index with the streams. Every write reaches the index by
// itself; removals do not, and a process can die between a result and the
// removal of what came before it.
func (q *Queue) audit(ctx context.Context) error {
	began := time.Now()
	prompts, err := subjects(ctx, q.prompts)
	if err != nil {
		return err
	}
	claims, err := subjects(ctx, q.claims)
	if err != nil {
		return err
	}
	for token := range prompts {
		if !q.isActive(token) {
			if err := q.auditPrompt(ctx, token); err != nil {
				return err
			}
		}
	}
	before := q.suspects
	q.suspects = suspects{}
	for token := range claims {
		if !q.isActive(token) {
			if err := q.auditClaim(ctx, token, before); err != nil {
				return err
			}
		}
	}
	for _, v := range q.missing(prompts, began) {
		if err := q.auditMissing(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// auditNowAndThen audits every two leases.
func (q *Queue) auditNowAndThen() {
	tick := time.NewTicker(2 * q.options.Lease)
	defer tick.Stop()
	for {
		select {
		case <-q.ctx.Done():
			return
		case <-tick.C:
			// One that fails is made up for by the next.
			ctx, cancel := context.WithTimeout(q.ctx, 4*storeWait)
			_ = q.audit(ctx)
			_ = q.auditCount(ctx)
			cancel()
		}
	}
}

// auditCount makes the consumer anew whose pending messages scalers count, when they are not as many as there are
// prompts. NATS (2.15) subtracts a message twice when it is asked for the count while it removes the message.
func (q *Queue) auditCount(ctx context.Context) error {
	if q.embedded != nil {
		return nil // nobody else can ask
	}
	for range 5 { // both change all the time; once equal is well
		stream, err := q.prompts.Info(ctx)
		if err != nil {
			return err
		}
		c, err := q.prompts.Consumer(ctx, workers)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return q.createCount(ctx)
		}
		if err != nil || c.CachedInfo().NumPending == stream.State.Msgs {
			return err
		}
		if !q.pause(ctx) {
			return ctx.Err()
		}
	}
	if err := q.prompts.DeleteConsumer(ctx, workers); err != nil {
		return err
	}
	return q.createCount(ctx)
}

// suspects are messages that looked superfluous in the last audit.
type suspects map[uint64]bool

// subjects returns the prompt tokens of a stream's messages.
func subjects(ctx context.Context, s jetstream.Stream) (map[string]bool, error) {
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return nil, err
	}
	tokens := make(map[string]bool, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		tokens[lastToken(subject)] = true
	}
	return tokens, nil
}

func (x *index) isActive(token string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	it := x.items[token]
	return it != nil && it.sub != nil
}

// auditPrompt removes a prompt that has a result. A prompt that the index does
// not know yet it makes known.
func (q *Queue) auditPrompt(ctx context.Context, token string) error {
	s, seq, err := q.lastPrompt(ctx, token)
	if err != nil || s == nil {
		return err
	}
	if _, err := q.refreshEnd(ctx, token); err != nil {
		return err
	}
	if q.applyPrompt(token, seq, *s) {
		return q.remove(ctx, garbage{q.prompts, seq, s.Secret})
	}
	return nil
}

// auditClaim removes a claim whose prompt is gone. In a cluster it must have
// been so the last time too: a new leader may not have all there is yet.
func (q *Queue) auditClaim(ctx context.Context, token string, before suspects) error {
	m, err := q.readLast(ctx, q.claims, q.subject(claimSubject, token))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var c claim
	if err := json.Unmarshal(m.Data, &c); err != nil {
		return q.remove(ctx, garbage{q.claims, m.Sequence, false})
	}
	s, _, err := q.lastPrompt(ctx, token)
	if err != nil || s != nil && s.Run == c.Run {
		return err
	}
	if q.embedded == nil && !before[m.Sequence] {
		q.suspects[m.Sequence] = true
		return nil
	}
	return q.remove(ctx, garbage{q.claims, m.Sequence, false})
}

// missing returns active prompts, older than the audit, that are not among
// the stream's; and forgets items that nothing is known of any more.
func (q *Queue) missing(stream map[string]bool, began time.Time) (list []view) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for token, it := range q.items {
		switch {
		case it.sub == nil && it.end == nil && time.Since(it.heard) > q.options.Lease:
			delete(q.items, token)
		case it.sub != nil && !stream[token] && time.UnixMilli(it.sub.Created).Before(began.Add(-storeWait)):
			list = append(list, view{token: token, sub: *it.sub, arrival: it.arrival})
		}
	}
	return list
}

// auditMissing makes sure that a prompt is gone, and finds its result if it
// has one.
func (q *Queue) auditMissing(ctx context.Context, v view) error {
	if _, err := q.readPrompt(ctx, v); !errors.Is(err, jetstream.ErrMsgNotFound) {
		return err
	}
	if _, err := q.refreshEnd(ctx, v.token); err != nil {
		return err
	}
	q.mu.Lock()
	it := q.items[v.token]
	q.mu.Unlock()
	if it != nil {
		q.drop(it, v.sub.Run)
	}
	return nil
}
