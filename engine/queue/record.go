package queue

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Prompt is what a client submits.
type Prompt struct {
	ID       string // "": the queue makes a UUID
	ClientID string // whose events they are; "": nobody's in particular
	Owner    string // who submitted it, as Info tells it; "": not known
	Trace    string // what its execution is a part of, in W3C words: traceparent, blank, tracestate; for the worker only
	// Number orders prompts, lower ones first; nil: counted by the queue, and
	// negated for a prompt in Front.
	Number *float64
	Front  bool

	Graph   json.RawMessage // the workflow in API format
	Extra   json.RawMessage // extra_data
	Targets []string        // outputs to execute; empty: all
	Secret  json.RawMessage // for the worker only: neither listed nor kept in the history

	// IdempotencyKey makes a repeated submission return the first one's
	// receipt, for as long as the prompt is in queue or history, and at least two minutes.
	IdempotencyKey string
}

// Receipt says what became of a submission.
type Receipt struct {
	ID        string
	Number    float64
	Assigned  bool // the queue counted the number
	Created   time.Time
	Duplicate bool // the prompt was there already; nothing has been added
}

// State says where a prompt is.
type State string

// Where a prompt can be. A cancelled prompt may have been queued or running.
const (
	Unknown   State = "unknown"   // never heard of it, or not any more
	Queued    State = "queued"    // waits for a worker
	Running   State = "running"   // a worker has it
	Lost      State = "lost"      // a worker had it and fell silent; another one will take it
	Done      State = "done"      // ended well
	Failed    State = "failed"    // ended with an error, or ended its process too often
	Cancelled State = "cancelled" // somebody did not want it any more
)

// Finished reports whether a prompt in this state is over.
func (s State) Finished() bool { return s == Done || s == Failed || s == Cancelled }

var (
	// ErrFull says that the queue holds as much as it may; see FullError.
	ErrFull = errors.New("queue is full")
	// ErrInvalid says that a prompt cannot be accepted at all.
	ErrInvalid = errors.New("invalid prompt")
	// ErrTooLarge says that a prompt or result is beyond what the server takes.
	ErrTooLarge = errors.New("too large")
	// ErrClosed says that the queue has been closed.
	ErrClosed = errors.New("queue is closed")
	// ErrCancelled stops a lease whose prompt somebody cancelled.
	ErrCancelled = errors.New("prompt is cancelled")
	// ErrLost stops a lease that another worker has taken over.
	ErrLost = errors.New("prompt has been taken by another worker")
	// ErrRecorded says that a prompt has a result already: this one does not count.
	ErrRecorded = errors.New("prompt has a result already")
)

// FullError is ErrFull with the bound and when to ask again.
type FullError struct {
	Max        int
	RetryAfter time.Duration
}

// Error names the bound.
func (e *FullError) Error() string {
	return fmt.Sprintf("queue is full: %d prompts are waiting or running; again in %v", e.Max, e.RetryAfter)
}

// Is reports whether target is ErrFull.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// submission is what the index knows of an accepted prompt.
type submission struct {
	ID       string  `json:"id"`
	Run      string  `json:"run"`
	Client   string  `json:"client,omitempty"`
	Owner    string  `json:"owner,omitempty"`
	Trace    string  `json:"trace,omitempty"`
	Key      string  `json:"key,omitempty"`
	Number   float64 `json:"number"`
	Assigned bool    `json:"assigned,omitempty"`
	Secret   bool    `json:"secret,omitempty"` // to be overwritten on disk afterwards
	Created  int64   `json:"created"`          // ms
}

func (s *submission) receipt() Receipt {
	return Receipt{ID: s.ID, Number: s.Number, Assigned: s.Assigned, Created: time.UnixMilli(s.Created)}
}

// claim says who has a prompt. It replaces the claim before it.
type claim struct {
	Run      string `json:"run"`
	Owner    string `json:"owner,omitempty"` // a session; "": given back
	Worker   string `json:"worker,omitempty"`
	Attempts int    `json:"attempts,omitempty"` // this one included
	Started  int64  `json:"started,omitempty"`  // ms; 0: taken only to be cancelled
	Cancel   bool   `json:"cancel,omitempty"`
	By       string `json:"by,omitempty"` // this write, so that its repetition is known for one
}

// ending is what the index knows of a finished prompt.
type ending struct {
	submission
	State    State  `json:"state,omitempty"`
	Error    string `json:"error,omitempty"`
	Worker   string `json:"worker,omitempty"`
	Attempts int    `json:"attempts,omitempty"`
	Started  int64  `json:"started,omitempty"`
	Finished int64  `json:"finished,omitempty"`
	Place    uint64 `json:"place,omitempty"`   // in the history, of an id that was there before; 0: its own
	By       string `json:"by,omitempty"`      // this write, so that its repetition is known for one
	Deleted  bool   `json:"deleted,omitempty"` // was here, so that no later result comes back
}

// body is the rest of a prompt, and in the history its result.
type body struct {
	Graph   json.RawMessage `json:"graph,omitempty"`
	Extra   json.RawMessage `json:"extra,omitempty"`
	Targets []string        `json:"targets,omitempty"`
	Secret  json.RawMessage `json:"secret,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

func (b body) prompt(s submission) Prompt {
	return Prompt{ID: s.ID, ClientID: s.Client, Owner: s.Owner, Trace: s.Trace, Number: &s.Number, Graph: b.Graph, Extra: b.Extra, Targets: b.Targets,
		Secret: b.Secret, IdempotencyKey: s.Key}
}

const (
	squeezeFrom = 64 << 10 // bytes; smaller bodies are stored as they are
	headerRoom  = 16 << 10 // of a payload, kept for headers
)

// encode returns a body as it is stored: JSON, or deflated JSON, which does
// not begin with a brace.
func (b body) encode() ([]byte, error) {
	plain, err := json.Marshal(b)
	if err != nil || len(plain) < squeezeFrom {
		return plain, err
	}
	var out bytes.Buffer
	out.WriteByte(0)
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

func decodeBody(data []byte) (b body, err error) {
	if len(data) == 0 {
		return body{}, nil
	}
	if data[0] == 0 {
		if data, err = io.ReadAll(flate.NewReader(bytes.NewReader(data[1:]))); err != nil {
			return body{}, fmt.Errorf("inflate body: %w", err)
		}
	}
	err = json.Unmarshal(data, &b)
	return b, err
}

// encode encodes a body that must fit the server.
func (q *Queue) encode(b body) ([]byte, error) {
	data, err := b.encode()
	if err != nil {
		return nil, err
	}
	if most := q.conn.MaxPayload() - headerRoom; int64(len(data)) > most {
		return nil, fmt.Errorf("%w: %d bytes, the server takes %d", ErrTooLarge, len(data), most)
	}
	return data, nil
}

func newRun() string { return rand.Text() }

// newID returns a random UUID, version 4.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return uuid(b)
}

func uuid(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
