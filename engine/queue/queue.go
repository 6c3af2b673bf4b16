// Package queue keeps prompts until they have run, and what came of them. It
// lies on NATS JetStream: a server inside the process with its files in a
// folder, or an external cluster that many processes share. The code is the
// same; a Queue is one process's view of it.
//
//	q, err := queue.Open(ctx, queue.Options{Dir: dir})
//	receipt, err := q.Submit(ctx, queue.Prompt{ClientID: sid, Graph: graph})
//
//	lease, err := q.Take(ctx)
//	err = lease.Run(ctx, func(ctx context.Context) (json.RawMessage, error) { … })
//
//	entry, err := q.Wait(ctx, receipt.ID)
//
// # What is promised
//
// When Submit returns, the prompt is on disk (Options.SyncInterval weakens
// that). It stays there until it is in the history, whatever process dies in
// between. A prompt may be executed more than once, after a crash or when its
// worker was cut off; its result is recorded once: the first one counts, any
// later one gets ErrRecorded.
//
// # Vocabulary
//
// A prompt is a workflow that somebody wants executed. Accepting it is a
// submission: the same id may be submitted again when it has finished, and a
// random run token tells the two apart. Prompts run in the order of their
// numbers, equal numbers in order of arrival; a number that the client does
// not give is counted by the queue, and one in front has it negated.
//
// A worker is a process that takes prompts, a lease what it holds on one. The
// lease lives by heartbeats. When they have been missing for Options.Lease, the
// prompt is lost, and any other worker may take it; with the embedded server
// everything that an earlier process held is lost from the start, since there
// can be only one. An attempt is a taking that was not given back. It is
// written down before the execution begins: a prompt that takes its process
// with it Options.MaxAttempts times is recorded as failed.
//
// # What is stored where
//
// Three streams, each with one message per prompt id at most. PROMPTS holds what
// was accepted and has not finished: its length is the depth of the queue, and
// its limit is the queue's bound. CLAIMS says who runs a prompt, for the how
// manieth time, and whether it is to stop; every change of it names the
// revision that it replaces, so of two workers one gets the prompt. HISTORY
// holds results, bounded in number and bytes. A prompt that stands in HISTORY
// under its run token has finished, whatever the other two say; they are
// cleaned behind it.
//
// Every process follows the three streams without the bodies and keeps an index
// in memory, from which it orders, lists and counts. Heartbeats and events are
// messages that nobody stores. The durable consumer "workers" of PROMPTS never
// fetches anything: KEDA's scaler reads the depth from it.
package queue

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Options say where a queue is and how much it holds. Beside Dir or URL the
// zero value is a good choice.
type Options struct {
	// Dir holds the files of the embedded server. One process at a time.
	Dir string
	// URL names an external NATS cluster with JetStream instead, several
	// servers separated by commas.
	URL string
	// Memory keeps everything in this process, and loses it with it.
	Memory bool

	Credentials string      // a .creds file for URL
	TLS         *tls.Config // for URL
	Replicas    int         // servers that keep each message; 0: one
	Name        string      // of the queue on its server, letters and digits; "": comfyrun
	Worker      string      // what others see of this process; "": its host name

	// Bounds. Where processes share a queue they should agree; the last one to open it decides.
	MaxQueued    int           // prompts accepted and not finished; 0: 10,000
	MaxBytes     int64         // of their bodies; 0: 1 GiB
	HistoryMax   int           // finished prompts that are kept; 0: 10,000
	HistoryBytes int64         // of their bodies; 0: 1 GiB
	MaxAttempts  int           // executions that may take their process with them; 0: 3
	Lease        time.Duration // silence after which a worker is taken for dead; 0: 30 s

	// SyncInterval is how often the embedded server writes through to the disk.
	// 0: before anything is acknowledged. A larger one is many times faster
	// and loses what it had not written when the machine (not just the process) dies.
	SyncInterval time.Duration
}

func (o Options) withDefaults() Options {
	o.Name = orDefault(o.Name, "comfyrun")
	o.Replicas = orDefault(o.Replicas, 1)
	o.MaxQueued = orDefault(o.MaxQueued, 10_000)
	o.MaxBytes = orDefault(o.MaxBytes, 1<<30)
	o.HistoryMax = orDefault(o.HistoryMax, 10_000)
	o.HistoryBytes = orDefault(o.HistoryBytes, 1<<30)
	o.MaxAttempts = orDefault(o.MaxAttempts, 3)
	o.Lease = orDefault(o.Lease, 30*time.Second)
	if o.Worker == "" {
		o.Worker, _ = os.Hostname()
	}
	return o
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

func (o Options) check() error {
	places := 0
	for _, given := range []bool{o.Dir != "", o.URL != "", o.Memory} {
		if given {
			places++
		}
	}
	switch {
	case places != 1:
		return errors.New("one of Dir, URL and Memory is needed")
	case !plainToken.MatchString(o.Name):
		return fmt.Errorf("name %q: letters, digits, - and _ are allowed", o.Name)
	case o.MaxQueued < 1 || o.MaxBytes < 1 || o.HistoryMax < 1 || o.HistoryBytes < 1 || o.MaxAttempts < 1 || o.Lease < 0:
		return errors.New("a bound below 1")
	case o.URL == "" && o.Replicas > 1:
		return errors.New("the embedded server keeps one replica")
	}
	return nil
}

// Queue is a process's view of a queue. Its methods may be called at the same
// time.
type Queue struct {
	options  Options
	session  string // tells this process from all others, also from an earlier one
	embedded *embedded
	conn     *nats.Conn
	js       jetstream.JetStream

	prompts, claims, history jetstream.Stream
	following                []jetstream.ConsumeContext

	*index
	counters counters

	garbage  chan []garbage
	suspects suspects        // the audit's own
	ctx      context.Context // of what runs behind the methods
	stop     context.CancelCauseFunc
	behind   sync.WaitGroup
	closing  sync.Once
}

// counters count since the process began.
type counters struct {
	accepted, duplicates, refused         atomic.Uint64
	taken, givenBack, expired             atomic.Uint64
	done, failed, cancelled, droppedEvent atomic.Uint64
}

// Open opens a queue, and makes it when it is not there yet. It returns when
// everything that the queue holds is known to this process.
func Open(ctx context.Context, o Options) (*Queue, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	q := &Queue{options: o, session: rand.Text(), garbage: make(chan []garbage, 1024)}
	q.index = newIndex(o, q.session)
	q.ctx, q.stop = context.WithCancelCause(context.Background())
	if err := q.open(ctx); err != nil {
		q.Close()
		return nil, fmt.Errorf("open queue: %w", err)
	}
	return q, nil
}

func (q *Queue) open(ctx context.Context) error {
	if q.options.URL == "" {
		// Of a server in this process an answer is sure to come, however busy the machine is; NATS gives up after 2 s.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTime)
		defer cancel()
	}
	if err := q.connect(ctx); err != nil {
		return err
	}
	if err := q.createStreams(ctx); err != nil {
		return err
	}
	if err := q.follow(ctx); err != nil {
		return err
	}
	if q.embedded != nil {
		if err := q.audit(ctx); err != nil {
			return err
		}
	}
	q.behind.Go(q.collectGarbage)
	q.behind.Go(q.watchLeases)
	q.behind.Go(q.auditNowAndThen)
	return nil
}

// connect starts the embedded server or finds the external one.
func (q *Queue) connect(ctx context.Context) (err error) {
	options := []nats.Option{
		nats.Name("comfyrun " + q.options.Worker), nats.MaxReconnects(-1), nats.ReconnectWait(200 * time.Millisecond),
		nats.ReconnectHandler(func(*nats.Conn) { q.heardAll() }),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // the default prints; drops are counted
	}
	url := q.options.URL
	if url == "" {
		if q.embedded, err = startServer(q.options); err != nil {
			return err
		}
		options = append(options, nats.InProcessServer(q.embedded.server))
	}
	if q.options.Credentials != "" {
		options = append(options, nats.UserCredentials(q.options.Credentials))
	}
	if q.options.TLS != nil {
		options = append(options, nats.Secure(q.options.TLS))
	}
	if deadline, ok := ctx.Deadline(); ok {
		options = append(options, nats.Timeout(max(time.Until(deadline), time.Millisecond)))
	}
	if q.conn, err = nats.Connect(url, options...); err != nil {
		return fmt.Errorf("connect to %s: %w", orDefault(url, "the embedded server"), err)
	}
	q.js, err = jetstream.New(q.conn)
	return err
}

// Close gives back what this process has taken and ends the queue's share of
// it. What was submitted stays.
func (q *Queue) Close() error {
	var err error
	q.closing.Do(func() { err = q.close() })
	return err
}

func (q *Queue) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	q.stop(ErrClosed)
	q.behind.Wait()
	var errs []error
	for _, lease := range q.openLeases() {
		if err := lease.GiveBack(ctx); err != nil && !errors.Is(err, ErrRecorded) && !errors.Is(err, ErrLost) {
			errs = append(errs, err)
		}
	}
	q.removeGarbage(ctx)
	for _, f := range q.following {
		f.Stop()
	}
	if q.conn != nil {
		q.conn.Close()
	}
	if q.embedded != nil {
		errs = append(errs, q.embedded.close())
	}
	return errors.Join(errs...)
}
