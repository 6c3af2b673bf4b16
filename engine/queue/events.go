package queue

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Event is something that happened to a prompt, on its way from the worker to
// the client. Nobody keeps it: who does not listen misses it.
type Event struct {
	Client string // whose it is; "": everybody's
	Prompt string // "": of no prompt in particular
	Kind   string // what Data is
	Data   []byte
	// Passing events, previews and progress, are left out when the receiver
	// is slow.
	Passing bool
}

const (
	everybody     = "_" // in place of a client or prompt; no token of an id
	promptHeader  = "Comfyrun-Prompt"
	clientHeader  = "Comfyrun-Client"
	kindHeader    = "Comfyrun-Kind"
	passingHeader = "Comfyrun-Passing"

	eventRoom = 256 // events that wait for a subscriber, passing ones half of it
)

func tokenOr(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return token(s)
}

// Publish sends an event to all processes whose clients want it. Events of one
// process arrive in order.
func (q *Queue) Publish(e Event) error {
	m := nats.NewMsg(q.subject(eventSubject, tokenOr(e.Client, everybody), tokenOr(e.Prompt, everybody)))
	m.Data = e.Data
	m.Header = nats.Header{kindHeader: {e.Kind}, clientHeader: {e.Client}, promptHeader: {e.Prompt}}
	if e.Passing {
		m.Header[passingHeader] = []string{"1"}
	}
	if err := q.conn.PublishMsg(m); err != nil {
		return fmt.Errorf("publish event %s: %w", e.Kind, err)
	}
	return nil
}

// Filter says which events are wanted. The zero Filter wants all.
type Filter struct {
	Client string // this client's, and everybody's
	Prompt string // this prompt's
}

// Subscription delivers events.
type Subscription struct {
	// C is closed by Close, and with the queue.
	C <-chan Event

	subs    []*nats.Subscription
	in      chan *nats.Msg
	stop    chan struct{}
	stopped atomic.Bool
	dropped *atomic.Uint64
	lost    atomic.Uint64
}

// Subscribe delivers events from now on. When it has returned, no later event
// is missed.
func (q *Queue) Subscribe(f Filter) (*Subscription, error) {
	out := make(chan Event, eventRoom)
	s := &Subscription{C: out, in: make(chan *nats.Msg, eventRoom), stop: make(chan struct{}), dropped: &q.counters.droppedEvent}
	subjects := []string{q.subject(eventSubject, "*", tokenOr(f.Prompt, "*"))}
	if f.Client != "" {
		subjects[0] = q.subject(eventSubject, token(f.Client), tokenOr(f.Prompt, "*"))
		subjects = append(subjects, q.subject(eventSubject, everybody, tokenOr(f.Prompt, "*")))
	}
	for _, subject := range subjects {
		sub, err := q.conn.Subscribe(subject, func(m *nats.Msg) { s.receive(m) })
		if err != nil {
			s.unsubscribe()
			return nil, fmt.Errorf("subscribe to events: %w", err)
		}
		s.subs = append(s.subs, sub)
	}
	if err := q.conn.FlushTimeout(q.answerTime()); err != nil {
		s.unsubscribe()
		return nil, fmt.Errorf("subscribe to events: %w", err)
	}
	go s.deliver(out, q.ctx.Done())
	return s, nil
}

// receive hands a message over, or waits: then the rest waits in the
// connection, up to its limits.
func (s *Subscription) receive(m *nats.Msg) {
	if m.Header.Get(passingHeader) != "" && len(s.in) >= eventRoom/2 {
		s.drop()
		return
	}
	select {
	case s.in <- m:
	case <-s.stop:
	}
}

// answerTime is how long an answer of the server is waited for.
func (q *Queue) answerTime() time.Duration {
	if q.embedded != nil {
		return startTime
	}
	return storeWait
}

func (s *Subscription) drop() {
	s.lost.Add(1)
	s.dropped.Add(1)
}

// deliver makes events of messages until the subscription or the queue ends.
func (s *Subscription) deliver(out chan<- Event, closed <-chan struct{}) {
	defer close(out)
	defer s.unsubscribe()
	for {
		select {
		case m := <-s.in:
			e := Event{m.Header.Get(clientHeader), m.Header.Get(promptHeader), m.Header.Get(kindHeader), m.Data, m.Header.Get(passingHeader) != ""}
			select {
			case out <- e:
			case <-s.stop:
				return
			case <-closed:
				return
			}
		case <-s.stop:
			return
		case <-closed:
			return
		}
	}
}

// Dropped counts the passing events that were left out.
func (s *Subscription) Dropped() uint64 { return s.lost.Load() }

// Close ends the subscription.
func (s *Subscription) Close() {
	s.unsubscribe()
}

func (s *Subscription) unsubscribe() {
	if s.stopped.Swap(true) {
		return
	}
	close(s.stop)
	for _, sub := range s.subs {
		// It fails when the connection is closed, and with it the subscription.
		_ = sub.Unsubscribe()
	}
}

// Stats are a queue's figures. Those above Accepted are the queue's, the others
// this process's since it began.
type Stats struct {
	Queued, Running, Lost int
	OldestQueued          time.Duration // age of the prompt that has waited longest
	MaxQueued             int           // bound of Queued + Running + Lost
	History               int
	HistoryBytes          int64

	Accepted, Duplicates, Refused    uint64
	Taken, GivenBack, Expired        uint64 // Expired: leases seen to run out
	Done, Failed, Cancelled, Dropped uint64 // Dropped: events
}

// Reachable says whether the queue's server can be reached at the moment; the error says how things stand. It asks nobody and
// answers at once.
func (q *Queue) Reachable() error {
	if status := q.conn.Status(); status != nats.CONNECTED {
		return fmt.Errorf("connection to NATS: %s", strings.ToLower(status.String()))
	}
	return nil
}

// Depth counts what is queued, running or lost.
func (q *Queue) Depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.active)
}

// Stats returns the figures of this moment.
func (q *Queue) Stats() Stats {
	c := &q.counters
	s := Stats{MaxQueued: q.options.MaxQueued,
		Accepted: c.accepted.Load(), Duplicates: c.duplicates.Load(), Refused: c.refused.Load(),
		Taken: c.taken.Load(), GivenBack: c.givenBack.Load(), Expired: c.expired.Load(),
		Done: c.done.Load(), Failed: c.failed.Load(), Cancelled: c.cancelled.Load(), Dropped: c.droppedEvent.Load()}
	q.mu.Lock()
	defer q.mu.Unlock()
	s.History, s.HistoryBytes = len(q.ended), q.size
	oldest := time.Now().UnixMilli()
	for it := range q.active {
		switch q.state(it) {
		case Running:
			s.Running++
		case Lost:
			s.Lost++
		default:
			s.Queued++
			oldest = min(oldest, it.sub.Created)
		}
	}
	s.OldestQueued = time.Since(time.UnixMilli(oldest)).Truncate(time.Millisecond)
	if s.Queued == 0 {
		s.OldestQueued = 0
	}
	return s
}
