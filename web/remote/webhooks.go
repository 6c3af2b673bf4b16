package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// WebhookOptions say what a server tells to whom. Queue, Allow, Secret and Journal are needed.
type WebhookOptions struct {
	Queue   *queue.Queue
	Allow   *Allow
	Secret  Secret
	Journal string          // file that remembers what is due
	Default string          // URL for prompts that name none; "": nobody is told of them
	Delays  []time.Duration // before the second, third … attempt; nil: 5 s to 2 h, nine attempts in all
	Timeout time.Duration   // of one attempt; 0: 15 s

	Log     *slog.Logger      // nil: nothing is logged
	Outcome func(word string) // told "delivered", "failed" or "abandoned" of each attempt; may be nil
}

// Webhooks tells others that prompts have ended.
//
// What is promised: a webhook that Expect took is attempted until it is delivered, its attempts are used up, or the queue's history
// does not hold the prompt any more, also by a later process with the same journal. It may arrive more than once, with the same
// Webhook-Id, when the process dies between the delivery and the note of it; attempts are counted anew by a new process.
// Deliveries of different prompts come in no order. A nil Webhooks refuses every URL.
type Webhooks struct {
	o      WebhookOptions
	client *http.Client

	mu      sync.Mutex
	journal *journal
	pending map[string]*delivery
	wake    chan struct{}
	slots   chan struct{}
	running sync.WaitGroup
}

// delivery is a webhook on its way.
type delivery struct {
	due
	attempts int
	next     time.Time
	flying   bool
}

const (
	mostPending = 100_000
	atATime     = 8
	// A prompt that the queue does not know this long after it was expected was never accepted, or its history is gone.
	submitWait = time.Minute
)

func delays() []time.Duration {
	return []time.Duration{5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour}
}

// OpenWebhooks reads the journal. Run delivers.
func OpenWebhooks(o WebhookOptions) (*Webhooks, error) {
	if o.Queue == nil || o.Allow == nil || len(o.Secret) == 0 || o.Journal == "" {
		return nil, errors.New("open webhooks: a queue, allowed URLs, a secret and a journal are needed")
	}
	if o.Delays == nil {
		o.Delays = delays()
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Webhooks{o: o, client: o.Allow.Client(o.Timeout), pending: map[string]*delivery{}, wake: make(chan struct{}, 1), slots: make(chan struct{}, atATime)}
	if _, err := w.Target(""); err != nil {
		return nil, fmt.Errorf("open webhooks: the default: %w", err)
	}
	j, pending, err := openJournal(o.Journal)
	if err != nil {
		return nil, fmt.Errorf("open webhooks: %w", err)
	}
	w.journal = j
	for id, d := range pending {
		w.pending[id] = &delivery{due: d}
	}
	return w, nil
}

// Target is the URL that is called for a prompt that names one, or "" for none: its own if that is allowed, or the default.
func (w *Webhooks) Target(named string) (string, error) {
	if w == nil {
		if named != "" {
			return "", fmt.Errorf("webhook: %w; this server calls none", ErrNotAllowed)
		}
		return "", nil
	}
	if named == "" {
		named = w.o.Default
	}
	if named == "" {
		return "", nil
	}
	u, err := url.Parse(named)
	if err != nil {
		return "", errors.New("webhook: not a URL")
	}
	if err := w.o.Allow.Check(u); err != nil {
		return "", fmt.Errorf("webhook: %w", err)
	}
	return named, nil
}

// Expect notes that the prompt of an id is about to be submitted, and that a URL of Target wants to know how it ends. When it
// returns, that is on disk. forget takes it back, for a prompt that is not accepted after all.
func (w *Webhooks) Expect(id, target string) (forget func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) >= mostPending {
		return nil, fmt.Errorf("webhook: %d are due already", mostPending)
	}
	before := w.pending[id]
	d := &delivery{due: due{ID: id, URL: target, Added: time.Now()}}
	if err := w.journal.add(d.due); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	w.pending[id] = d
	w.poke()
	return func() {
		if before == nil {
			w.end(d, nil)
		}
	}, nil
}

func (w *Webhooks) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// end takes a webhook out of the journal.
func (w *Webhooks) end(d *delivery, then func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending[d.ID] != d {
		return
	}
	delete(w.pending, d.ID)
	err := w.journal.add(due{ID: d.ID, Ended: true})
	if err == nil && w.journal.lines > 1000+4*len(w.pending) {
		err = w.journal.rewrite(w.dues())
	}
	if err != nil {
		w.o.Log.Error("webhook may be delivered again", "prompt_id", d.ID, "err", err)
	}
	if then != nil {
		then()
	}
}

func (w *Webhooks) dues() map[string]due {
	out := make(map[string]due, len(w.pending))
	for id, d := range w.pending {
		out[id] = d.due
	}
	return out
}

// Pending is the number of webhooks that are due or wait for their prompts.
func (w *Webhooks) Pending() int {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pending)
}

// Run delivers until ctx ends, and returns when no attempt is under way any more. It is called once.
func (w *Webhooks) Run(ctx context.Context) {
	if w == nil {
		return
	}
	const settle = 50 * time.Millisecond // many prompts may end at once
	for ctx.Err() == nil {
		changed := w.o.Queue.Changed()
		wait := w.look(ctx)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-w.wake:
		case <-time.After(wait):
		}
		select {
		case <-ctx.Done():
		case <-time.After(settle):
		}
	}
	w.running.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.journal.file.Close()
	w.client.CloseIdleConnections()
}

// look starts what is to be attempted now, and says when to look again.
func (w *Webhooks) look(ctx context.Context) time.Duration {
	unfinished := map[string]bool{}
	for _, i := range w.o.Queue.List() {
		unfinished[i.ID] = true
	}
	now, wait := time.Now(), submitWait
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, d := range w.pending {
		switch {
		case d.flying || unfinished[id]:
		case d.next.After(now):
			wait = min(wait, d.next.Sub(now))
		default:
			select {
			case w.slots <- struct{}{}:
			default:
				return wait // the end of an attempt wakes
			}
			d.flying = true
			w.running.Go(func() { w.attempt(ctx, d) })
		}
	}
	return wait
}
