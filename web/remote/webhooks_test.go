package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// receiver notes what arrives and answers with the statuses that it is given, then 200.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	answers  []int
	messages []Message
	ids      []string
	arrived  chan struct{}
}

func receive(t *testing.T, secret Secret, answers ...int) *receiver {
	t.Helper()
	r := &receiver{answers: answers, arrived: make(chan struct{}, 100)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if err := secret.Verify(req.Header, body, time.Now()); err != nil {
			t.Error(err)
		}
		var m Message
		if err := json.Unmarshal(body, &m); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		status := http.StatusOK
		if len(r.answers) > 0 {
			status, r.answers = r.answers[0], r.answers[1:]
		}
		r.messages, r.ids = append(r.messages, m), append(r.ids, req.Header.Get(HeaderID))
		if status == http.StatusFound {
			w.Header().Set("Location", "/")
		}
		w.WriteHeader(status)
		r.arrived <- struct{}{}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) wait(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-r.arrived:
		case <-time.After(time.Minute):
			t.Fatal("no webhook arrives")
		}
	}
}

func openQueue(t *testing.T) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), queue.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

type words struct {
	mu   sync.Mutex
	list []string
}

func (w *words) add(word string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, word)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.list, " ")
}

func options(t *testing.T, q *queue.Queue, r *receiver, secret Secret) (WebhookOptions, *words) {
	t.Helper()
	said := &words{}
	return WebhookOptions{Queue: q, Allow: allow(t, []string{r.URL}, loopback()), Secret: secret, Journal: filepath.Join(t.TempDir(), "d", "webhooks"),
		Delays: []time.Duration{time.Millisecond, time.Millisecond}, Timeout: time.Minute, Outcome: said.add}, said
}

// start opens and runs webhooks; stop ends them.
func start(t *testing.T, o WebhookOptions) (w *Webhooks, stop func()) {
	t.Helper()
	w, err := OpenWebhooks(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return w, stop
}

func submit(t *testing.T, q *queue.Queue, id string) {
	t.Helper()
	if _, err := q.Submit(t.Context(), queue.Prompt{ID: id, Graph: json.RawMessage("{}")}); err != nil {
		t.Fatal(err)
	}
}

func finish(t *testing.T, q *queue.Queue, failure error) {
	t.Helper()
	l, err := q.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	result := json.RawMessage(`{"outputs":{"9":{"images":[]}}}`)
	if failure != nil {
		err = l.Fail(t.Context(), failure, result)
	} else {
		err = l.Done(t.Context(), result)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 6000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func secret(t *testing.T) Secret {
	t.Helper()
	s, err := ParseSecret(NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A webhook is repeated until it is delivered, with the same id; failures are told too, and cancelled prompts.
func TestDelivered(t *testing.T) {
	q, key := openQueue(t), secret(t)
	r := receive(t, key, 500, 302)
	o, said := options(t, q, r, key)
	w, _ := start(t, o)
	for _, id := range []string{"a", "b", "c"} {
		if _, err := w.Expect(id, r.URL+"/hook"); err != nil {
			t.Fatal(err)
		}
	}
	submit(t, q, "a")
	finish(t, q, nil)
	r.wait(t, 3)
	eventually(t, "a is delivered", func() bool { return said.String() == "failed failed delivered" })
	r.mu.Lock()
	m := r.messages[2]
	if r.ids[0] != r.ids[2] || !strings.HasPrefix(r.ids[0], "a.") {
		t.Errorf("ids %v", r.ids)
	}
	r.mu.Unlock()
	if m.PromptID != "a" || m.Status != "success" || string(m.Outputs) != `{"9":{"images":[]}}` || m.Finished.Before(m.Started) || m.Started.IsZero() {
		t.Errorf("%+v", m)
	}
	submit(t, q, "b")
	finish(t, q, errors.New("no luck"))
	r.wait(t, 1)
	submit(t, q, "c")
	if _, err := q.Cancel(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	r.wait(t, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.messages[3]; m.Status != "error" || m.Error != "no luck" {
		t.Errorf("%+v", m)
	}
	if m := r.messages[4]; m.Status != "cancelled" || string(m.Outputs) != "{}" || !m.Started.IsZero() {
		t.Errorf("%+v", m)
	}
}

// What is due outlives the process: another one with the same journal delivers it, and does not repeat what was delivered.
func TestRestart(t *testing.T) {
	q, key := openQueue(t), secret(t)
	r := receive(t, key, 500)
	o, said := options(t, q, r, key)
	o.Delays = []time.Duration{time.Hour}
	w, stop := start(t, o)
	for _, id := range []string{"done", "later", "refused"} {
		forget, err := w.Expect(id, r.URL)
		if err != nil {
			t.Fatal(err)
		}
		if id == "refused" {
			forget()
			continue
		}
		submit(t, q, id)
	}
	finish(t, q, nil)
	r.wait(t, 1)
	eventually(t, "the attempt fails", func() bool { return said.String() == "failed" })
	stop()
	if info, err := os.Stat(o.Journal); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("journal: %v, %v", info, err)
	}
	w, stop = start(t, o)
	r.wait(t, 1) // done, by the second process
	finish(t, q, nil)
	r.wait(t, 1)
	eventually(t, "nothing is due", func() bool { return w.Pending() == 0 })
	stop()
	w, _ = start(t, o)
	if w.Pending() != 0 {
		t.Errorf("%d are due", w.Pending())
	}
	if len(r.messages) != 3 || r.messages[2].PromptID != "later" {
		t.Errorf("messages %+v", r.messages)
	}
}

func TestAbandoned(t *testing.T) {
	for name, answers := range map[string][]int{"used up": {500, 500, 500}, "gone": {410}} {
		q, key := openQueue(t), secret(t)
		r := receive(t, key, answers...)
		o, said := options(t, q, r, key)
		w, _ := start(t, o)
		if _, err := w.Expect("a", r.URL); err != nil {
			t.Fatal(err)
		}
		submit(t, q, "a")
		finish(t, q, nil)
		eventually(t, name, func() bool { return strings.HasSuffix(said.String(), "abandoned") })
		if w.Pending() != 0 || len(r.messages) != len(answers) {
			t.Errorf("%s: %d due, %d attempts", name, w.Pending(), len(r.messages))
		}
	}
}

func TestTarget(t *testing.T) {
	var none *Webhooks
	if to, err := none.Target(""); to != "" || err != nil {
		t.Errorf("none: %q, %v", to, err)
	}
	if _, err := none.Target("https://example.com"); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("none: %v", err)
	}
	q, key := openQueue(t), secret(t)
	o, _ := options(t, q, receive(t, key), key)
	o.Allow, o.Default = allow(t, []string{"https://example.com/hooks/*"}), "https://example.com/hooks/all"
	w, err := OpenWebhooks(o)
	if err != nil {
		t.Fatal(err)
	}
	for named, want := range map[string]string{"": o.Default, "https://example.com/hooks/mine": "https://example.com/hooks/mine", "https://example.com/x": "", "http://169.254.169.254/": "", "::": ""} {
		if to, err := w.Target(named); to != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", named, to, err)
		}
	}
	o.Default = "https://other.com"
	if _, err := OpenWebhooks(o); err == nil {
		t.Error("a default that is not allowed")
	}
	o.Secret = nil
	if _, err := OpenWebhooks(o); err == nil {
		t.Error("no secret")
	}
}

// The example of the Standard Webhooks specification's libraries.
func TestSignature(t *testing.T) {
	s, err := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	body, at := []byte(`{"test": 2432232314}`), time.Unix(1614265330, 0)
	got := s.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	h := http.Header{}
	h.Set(HeaderID, "msg_p5jXN8AQM9LWM0D4loKWxJek")
	h.Set(HeaderTimestamp, "1614265330")
	h.Set(HeaderSignature, "v1,bad "+got)
	if err := s.Verify(h, body, at.Add(4*time.Minute)); err != nil {
		t.Error(err)
	}
	if s.Verify(h, body, at.Add(6*time.Minute)) == nil || s.Verify(h, append(body, ' '), at) == nil {
		t.Error("an old or changed message is right")
	}
	for _, bad := range []string{"", "whsec_", "whsec_short", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} {
		if _, err := ParseSecret(bad); err == nil {
			t.Errorf("secret %q is accepted", bad)
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"id":"a","url":"https://x","added":"2026-01-01T00:00:00Z"}` + "\n" + `{"id":"a","ended":true}` + "\n" + `{"id":"b","url":"https://y"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for id, d := range readJournal(data) {
			if id == "" || d.ID != id || d.URL == "" || d.Ended {
				t.Errorf("%q: %+v", id, d)
			}
		}
		again := readJournal(append(bytes.Clone(data), "\n{\"id\":\"z\",\"ended\":true}\n"...))
		if _, ok := again["z"]; ok {
			t.Error("what has ended is due")
		}
	})
}
