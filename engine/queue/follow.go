package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// follow keeps the index up with the three streams and hears heartbeats. It
// returns when the index holds what the streams held.
func (q *Queue) follow(ctx context.Context) error {
	if _, err := q.conn.Subscribe(q.subject(beatSubject), q.heardBeat); err != nil {
		return fmt.Errorf("subscribe to heartbeats: %w", err)
	}
	for _, f := range []struct {
		stream      jetstream.Stream
		headersOnly bool
		apply       func(jetstream.Msg, uint64) error
	}{
		// The history first, so that no finished prompt looks queued.
		{q.history, true, q.followHistory},
		{q.claims, false, q.followClaims},
		{q.prompts, true, q.followPrompts},
	} {
		if err := q.followStream(ctx, f.stream, f.headersOnly, f.apply); err != nil {
			return fmt.Errorf("follow %s: %w", f.stream.CachedInfo().Config.Name, err)
		}
	}
	return nil
}

// followStream applies a stream's messages, those that are there before it returns.
// A message that cannot be read is left out.
func (q *Queue) followStream(ctx context.Context, s jetstream.Stream, headersOnly bool, apply func(jetstream.Msg, uint64) error) error {
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{HeadersOnly: headersOnly})
	if err != nil {
		return err
	}
	var once sync.Once
	ready := make(chan struct{})
	var applied atomic.Uint64
	following, err := consumer.Consume(func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err != nil {
			return
		}
		_ = apply(m, meta.Sequence.Stream)
		applied.Store(meta.Sequence.Consumer)
		if meta.NumPending == 0 {
			once.Do(func() { close(ready) })
		}
	})
	if err != nil {
		return err
	}
	q.following = append(q.following, following)
	return waitReady(ctx, ready, func(ctx context.Context) bool {
		info, err := consumer.Info(ctx)
		return err == nil && info.NumPending == 0 && info.Delivered.Consumer <= applied.Load()
	})
}

// waitReady waits until a consumer has delivered all there is. The last
// message says so, unless there is none, or others removed it.
func waitReady(ctx context.Context, ready chan struct{}, caughtUp func(context.Context) bool) error {
	for pause := time.Millisecond; ; pause = min(4*pause, time.Second) {
		if caughtUp(ctx) {
			return nil
		}
		select {
		case <-ready:
			return nil
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (q *Queue) followPrompts(m jetstream.Msg, seq uint64) error {
	var s submission
	if err := readMeta(m.Headers(), &s); err != nil {
		return err
	}
	q.applyPrompt(lastToken(m.Subject()), seq, s)
	return nil
}

func (q *Queue) followClaims(m jetstream.Msg, seq uint64) error {
	var c claim
	if err := json.Unmarshal(m.Data(), &c); err != nil {
		return err
	}
	q.applyClaim(lastToken(m.Subject()), seq, c)
	return nil
}

func (q *Queue) followHistory(m jetstream.Msg, seq uint64) error {
	if m.Subject() == q.subject(clearedSubject) {
		q.cleared(seq)
		return nil
	}
	var e ending
	if err := readMeta(m.Headers(), &e); err != nil {
		return err
	}
	size, err := strconv.ParseInt(m.Headers().Get(sizeHeader), 10, 64)
	if err != nil {
		return fmt.Errorf("header %s: %w", sizeHeader, err)
	}
	q.applyEnd(lastToken(m.Subject()), seq, e, size)
	return nil
}

// beat says which prompts a process is executing.
type beat struct {
	Session string            `json:"session"`
	Runs    map[string]string `json:"runs"` // run token by prompt token
}

func (q *Queue) heardBeat(m *nats.Msg) {
	var b beat
	if err := json.Unmarshal(m.Data, &b); err != nil || b.Session == q.session {
		return
	}
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for token, run := range b.Runs {
		if it := q.items[token]; it != nil && it.claim.Run == run && it.claim.Owner == b.Session {
			it.heard = now
		}
	}
}

// heardAll takes every worker for alive as of now: after a time in which no
// heartbeat could have been heard.
func (x *index) heardAll() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for it := range x.held {
		it.heard = time.Now()
	}
}

// watchLeases sends heartbeats and notices those that are missing.
func (q *Queue) watchLeases() {
	step := max(q.options.Lease/30, 10*time.Millisecond)
	tick := time.NewTicker(step)
	defer tick.Stop()
	last := time.Now()
	for n := 1; ; n++ {
		select {
		case <-q.ctx.Done():
			return
		case <-tick.C:
		}
		// A process that stood still, or was cut off, has heard nobody.
		if time.Since(last) > q.options.Lease/3 || !q.conn.IsConnected() {
			q.heardAll()
		}
		last = time.Now()
		if n%10 == 0 {
			q.sendBeat()
		}
		q.expire()
	}
}

func (q *Queue) sendBeat() {
	b := beat{Session: q.session, Runs: map[string]string{}}
	for _, l := range q.openLeases() {
		b.Runs[l.item.token] = l.run
	}
	if len(b.Runs) == 0 {
		return
	}
	if data, err := json.Marshal(b); err == nil {
		// A beat that is not sent counts as missing, which is right.
		_ = q.conn.Publish(q.subject(beatSubject), data)
	}
}

// expire puts prompts whose worker fell silent back into the order.
func (q *Queue) expire() {
	q.mu.Lock()
	defer q.mu.Unlock()
	var lost []*item
	for it := range q.held {
		if it.heapAt < 0 && q.takeable(it) {
			lost = append(lost, it)
		}
	}
	for _, it := range lost {
		q.counters.expired.Add(1)
		q.settle(it)
	}
}
