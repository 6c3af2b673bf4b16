package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// Message is the body of a webhook.
type Message struct {
	PromptID string          `json:"prompt_id"`
	Status   string          `json:"status"`          // success, error or cancelled
	Error    string          `json:"error,omitempty"` // of one that did not end well
	Outputs  json.RawMessage `json:"outputs"`         // as in GET /history: by node
	Created  time.Time       `json:"created"`
	Started  time.Time       `json:"started,omitzero"`
	Finished time.Time       `json:"finished"`
}

// errGone says that there is no use in another attempt.
var errGone = errors.New("the receiver wants no more")

// attempt tries once to deliver.
func (w *Webhooks) attempt(ctx context.Context, d *delivery) {
	defer func() { <-w.slots; w.poke() }()
	info, err := w.o.Queue.Find(ctx, d.ID)
	switch {
	case err != nil:
		w.again(d, false, err) // the queue cannot be reached: not the receiver's fault
	case !info.State.Finished() && info.State != queue.Unknown:
		w.again(d, false, nil)
	case info.State == queue.Unknown && time.Since(d.Added) < submitWait:
		w.again(d, false, nil)
	case info.State == queue.Unknown:
		w.abandon(d, errors.New("the history does not hold the prompt any more"))
	default:
		w.deliver(ctx, d, info)
	}
}

func (w *Webhooks) deliver(ctx context.Context, d *delivery, info queue.Info) {
	message, err := w.message(ctx, info)
	if err != nil {
		w.again(d, false, err)
		return
	}
	err = w.post(ctx, d, info, message)
	switch {
	case err == nil:
		w.end(d, func() { w.tell("delivered") })
	case ctx.Err() != nil:
		w.again(d, false, err) // the next process goes on
	case errors.Is(err, errGone) || errors.Is(err, ErrNotAllowed):
		w.abandon(d, err)
	default:
		w.again(d, true, err)
	}
}

func (w *Webhooks) message(ctx context.Context, info queue.Info) ([]byte, error) {
	m := Message{PromptID: info.ID, Status: status(info.State), Error: info.Error, Outputs: json.RawMessage("{}"),
		Created: info.Created.UTC(), Started: info.Started.UTC(), Finished: info.Finished.UTC()}
	if info.Started.IsZero() {
		m.Started = time.Time{}
	}
	entry, ok, err := w.o.Queue.Entry(ctx, info.ID)
	if err != nil {
		return nil, err
	}
	var result struct {
		Outputs json.RawMessage `json:"outputs"`
	}
	if ok && json.Unmarshal(entry.Result, &result) == nil && len(result.Outputs) > 0 {
		m.Outputs = result.Outputs
	}
	return json.Marshal(m)
}

// status is the word of package web's API for a state.
func status(s queue.State) string {
	switch s {
	case queue.Done:
		return "success"
	case queue.Cancelled:
		return "cancelled"
	}
	return "error"
}

func (w *Webhooks) post(ctx context.Context, d *delivery, info queue.Info, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(body))
	if err != nil {
		return errGone
	}
	if err := w.o.Allow.Check(r.URL); err != nil { // the patterns may have changed since Expect
		return err
	}
	id, now := info.ID+"."+strconv.FormatInt(info.Finished.UnixMilli(), 10), time.Now()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "comfyrun")
	r.Header.Set(HeaderID, id)
	r.Header.Set(HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(HeaderSignature, w.o.Secret.Sign(id, now, body))
	answer, err := w.client.Do(r)
	if err != nil {
		return withoutQuery(err)
	}
	defer answer.Body.Close()
	io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be used again
	switch {
	case answer.StatusCode == http.StatusGone:
		return errGone
	case answer.StatusCode/100 != 2:
		return fmt.Errorf("%s answers %s", r.URL.Host, answer.Status)
	}
	return nil
}

// again plans the next attempt. One that is not counted is repeated soon.
func (w *Webhooks) again(d *delivery, counted bool, err error) {
	if counted {
		d.attempts++
		if d.attempts > len(w.o.Delays) {
			w.abandon(d, err)
			return
		}
		w.tell("failed")
		w.o.Log.Warn("webhook failed", "prompt_id", d.ID, "attempt", d.attempts, "err", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	d.flying, d.next = false, time.Now().Add(time.Second)
	if counted {
		d.next = time.Now().Add(w.o.Delays[d.attempts-1])
	}
}

func (w *Webhooks) abandon(d *delivery, err error) {
	w.o.Log.Error("webhook abandoned", "prompt_id", d.ID, "attempts", d.attempts, "err", err)
	w.end(d, func() { w.tell("abandoned") })
}

func (w *Webhooks) tell(word string) {
	if w.o.Outcome != nil {
		w.o.Outcome(word)
	}
}
