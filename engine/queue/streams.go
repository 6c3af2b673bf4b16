package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Of each queue: NAME_PROMPTS with NAME.prompt.ID, NAME_CLAIMS with NAME.claim.ID,
// NAME_HISTORY with NAME.history.ID and NAME.cleared; and, not stored,
// NAME.beat and NAME.event.CLIENT.PROMPT.
const (
	promptSubject  = "prompt"
	claimSubject   = "claim"
	historySubject = "history"
	clearedSubject = "cleared"
	beatSubject    = "beat"
	eventSubject   = "event"

	workers     = "workers"       // the consumer that is there to be counted
	metaHeader  = "Comfyrun-Meta" // a submission or ending as JSON
	sizeHeader  = "Nats-Msg-Size" // of a body that is not sent along
	storeWait   = 2 * time.Second // for one acknowledgement; then the write is repeated
	dedupWindow = 2 * time.Minute // in which a repeated write is recognised
)

// plainToken is what may stand in a subject as it is.
var plainToken = regexp.MustCompile(`^[A-Za-z0-9-][A-Za-z0-9_-]{0,63}$`)

// token makes a word of a subject from any string.
func token(s string) string {
	if plainToken.MatchString(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "_" + hex.EncodeToString(sum[:16])
}

func (q *Queue) subject(kind string, tokens ...string) string {
	return strings.Join(append([]string{q.options.Name, kind}, tokens...), ".")
}

// lastToken returns the prompt's token of a subject.
func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// claimBytes is more than the claims of a full queue need.
func claimBytes(o Options) int64 { return int64(o.MaxQueued+1024) * 4096 }

func (q *Queue) createStreams(ctx context.Context) (err error) {
	o := q.options
	stream := func(kind string, c jetstream.StreamConfig) (jetstream.Stream, error) {
		c.Name = strings.ToUpper(o.Name) + "_" + kind
		c.Replicas, c.MaxMsgsPerSubject, c.Duplicates = o.Replicas, 1, dedupWindow
		c.Storage = jetstream.FileStorage
		if o.Memory {
			c.Storage = jetstream.MemoryStorage
		}
		s, err := q.js.CreateOrUpdateStream(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", c.Name, err)
		}
		return s, nil
	}
	q.prompts, err = stream("PROMPTS", jetstream.StreamConfig{
		Subjects: []string{q.subject(promptSubject, "*")}, Discard: jetstream.DiscardNew,
		MaxMsgs: int64(o.MaxQueued), MaxBytes: o.MaxBytes})
	if err != nil {
		return err
	}
	if err := q.createCount(ctx); err != nil {
		return err
	}
	q.claims, err = stream("CLAIMS", jetstream.StreamConfig{
		Subjects: []string{q.subject(claimSubject, "*")}, Discard: jetstream.DiscardNew, MaxBytes: claimBytes(o)})
	if err != nil {
		return err
	}
	// The index keeps the bounds exactly; the server lets go a little later.
	q.history, err = stream("HISTORY", jetstream.StreamConfig{
		Subjects: []string{q.subject(historySubject, "*"), q.subject(clearedSubject)}, Discard: jetstream.DiscardOld,
		MaxMsgs: int64(o.HistoryMax + o.HistoryMax/16 + 16), MaxBytes: grow(o.HistoryBytes), Compression: compression(o)})
	return err
}

// createCount makes the consumer that is there to be counted.
func (q *Queue) createCount(ctx context.Context) error {
	_, err := q.prompts.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: workers, AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		return fmt.Errorf("consumer %s: %w", workers, err)
	}
	return nil
}

func grow(n int64) int64 { return min(n, math.MaxInt64/4) + min(n, math.MaxInt64/4)/16 + 1<<20 }

func compression(o Options) jetstream.StoreCompression {
	if o.Memory {
		return jetstream.NoCompression
	}
	return jetstream.S2Compression
}

// write is one message to be stored.
type write struct {
	subject string
	meta    any    // becomes the header that the index reads; nil: none
	body    []byte // at most the server's payload
	after   uint64 // the revision of the subject that it replaces; 0: there must be none
	always  bool   // replaces any revision
	id      string // what a repetition is recognised by; "": random
}

var errConflict = errors.New("somebody else wrote first")

// store writes a message and returns its sequence number. It repeats the write until ctx ends,
// for a connection that comes back; a repetition that is stored already is a duplicate.
func (q *Queue) store(ctx context.Context, w write) (seq uint64, duplicate bool, err error) {
	m := &nats.Msg{Subject: w.subject, Data: w.body, Header: nats.Header{}}
	if w.meta != nil {
		meta, err := json.Marshal(w.meta)
		if err != nil {
			return 0, false, err
		}
		m.Header.Set(metaHeader, string(meta))
	}
	m.Header.Set(jetstream.MsgIDHeader, w.id)
	if w.id == "" {
		m.Header.Set(jetstream.MsgIDHeader, newRun())
	}
	if !w.always {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(w.after, 10))
	}
	for {
		try, cancel := context.WithTimeout(ctx, storeWait)
		ack, err := q.js.PublishMsg(try, m)
		cancel()
		switch {
		case err == nil:
			return ack.Sequence, ack.Duplicate, nil
		case q.ctx.Err() != nil:
			return 0, false, ErrClosed
		case !passing(err) || !q.pause(ctx):
			return 0, false, storeError(err)
		}
	}
}

// passing reports whether an error may go away by itself.
func passing(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrDisconnected)
}

// pause waits a little before a request is repeated; false: it is not to be.
func (q *Queue) pause(ctx context.Context) bool {
	select {
	case <-time.After(50 * time.Millisecond):
		return true
	case <-ctx.Done():
	case <-q.ctx.Done():
	}
	return false
}

const storeFailed jetstream.ErrorCode = 10077 // a stream's own reason is in the description

// storeError brings the server's refusals to this package's errors.
func storeError(err error) error {
	var refusal *jetstream.APIError
	if !errors.As(err, &refusal) {
		return err
	}
	switch refusal.ErrorCode {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
		return errConflict
	case storeFailed:
		if strings.HasPrefix(refusal.Description, "maximum ") {
			return ErrFull
		}
	}
	return err
}

// read fetches a message by its sequence number, from the stream's leader.
func (q *Queue) read(ctx context.Context, s jetstream.Stream, seq uint64) (*jetstream.RawStreamMsg, error) {
	return q.again(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return s.GetMsg(ctx, seq) })
}

// readLast fetches what stands under a subject.
func (q *Queue) readLast(ctx context.Context, s jetstream.Stream, subject string) (*jetstream.RawStreamMsg, error) {
	return q.again(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return s.GetLastMsgForSubject(ctx, subject)
	})
}

// again repeats a request until ctx ends, for a connection that comes back.
func (q *Queue) again(ctx context.Context, ask func(context.Context) (*jetstream.RawStreamMsg, error)) (*jetstream.RawStreamMsg, error) {
	for {
		try, cancel := context.WithTimeout(ctx, storeWait)
		m, err := ask(try)
		cancel()
		switch {
		case err == nil || errors.Is(err, jetstream.ErrMsgNotFound):
			return m, err
		case q.ctx.Err() != nil:
			return nil, ErrClosed
		case !passing(err) || !q.pause(ctx):
			return nil, err
		}
	}
}
