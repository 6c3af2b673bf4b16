package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/metrics"
	"github.com/comfyrun/comfyrun/engine/policy"
	"github.com/comfyrun/comfyrun/web/auth"
	"github.com/comfyrun/comfyrun/web/remote"
)

func bounded(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// postTo sends a prompt, with headers in pairs.
func postTo(t *testing.T, url, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", url+"/prompt", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(data)
}

// A refused prompt answers as ComfyUI's validation does, with the node, the input and what was allowed.
func TestPolicyAnswer(t *testing.T) {
	s, url, _ := recorded(t, Options{Policy: bounded(t, "[nodes]\ndeny = [\"FxSleep\"]\n[limits]\nprompt_bytes = 2000"), Metrics: metrics.New(metrics.Options{})})
	status, answer := postTo(t, url, smallPrompt(""))
	var got struct {
		Error      struct{ Type, Message, Details string }
		NodeErrors map[string]struct {
			Errors     []struct{ Type, Message, Details string }
			Dependents []string `json:"dependent_outputs"`
			Class      string   `json:"class_type"`
		} `json:"node_errors"`
	}
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err, answer)
	}
	node := got.NodeErrors["1"]
	if status != 400 || got.Error.Type != "policy_violation" || node.Class != "FxSleep" || len(node.Errors) != 1 || node.Errors[0].Type != "policy_violation" ||
		!strings.Contains(node.Errors[0].Details, "denied (by FxSleep)") || len(node.Dependents) != 1 {
		t.Errorf("%d %s", status, answer)
	}
	if status, answer := postTo(t, url, smallPrompt(`"x":"`+strings.Repeat("x", 2000)+`"`)); status != 413 || !strings.Contains(answer, "allowed are 2000") {
		t.Errorf("%d %s", status, answer)
	}
	if s.Queue.Depth() != 0 {
		t.Error("a refused prompt is queued")
	}
}

// A token may have so many prompts in the queue, however many ask at once.
func TestQuota(t *testing.T) {
	l := newLocked(t, Options{Policy: bounded(t, "[tokens.submit]\nqueued = 3")})
	statuses := make(chan int)
	for range 12 {
		go func() {
			r, _ := http.NewRequest("POST", l.url+"/prompt", strings.NewReader(smallPrompt("")))
			r.Header.Set("Authorization", "Bearer "+l.tokens[auth.Submit])
			answer, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				statuses <- 0
				return
			}
			answer.Body.Close()
			statuses <- answer.StatusCode
		}()
	}
	count := map[int]int{}
	for range 12 {
		count[<-statuses]++
	}
	if count[200] != 3 || count[429] != 9 {
		t.Errorf("statuses %v", count)
	}
	if status, answer := postTo(t, l.url, smallPrompt(""), "Authorization", "Bearer "+l.tokens[auth.Admin]); status != 200 {
		t.Errorf("another token: %d %s", status, answer)
	}
	if o := l.Queue.List()[0].Owner; o != "submit" {
		t.Errorf("owner %q", o)
	}
}

// The client's trace travels with the prompt.
func TestTraceCarried(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	s, url, _ := recorded(t, Options{})
	if status, answer := postTo(t, url, smallPrompt(""), "traceparent", parent, "tracestate", "a=1"); status != 200 {
		t.Fatal(status, answer)
	}
	lease, err := s.Queue.Take(t.Context())
	if err != nil || lease.Prompt.Trace != parent+" a=1" {
		t.Errorf("%+v, %v", lease, err)
	}
}

func local() netip.Prefix { return netip.MustParsePrefix("127.0.0.0/8") }

// A prompt names who is to be told of its end, in extra_data or a header, if the server allows it.
func TestWebhook(t *testing.T) {
	secret, _ := remote.ParseSecret(remote.NewSecret())
	arrived := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := secret.Verify(r.Header, body, time.Now()); err != nil {
			t.Error(err)
		}
		var m remote.Message
		if err := json.Unmarshal(body, &m); err != nil {
			t.Error(err)
		}
		arrived <- r.URL.Path + " " + m.PromptID + " " + m.Status
	}))
	defer receiver.Close()
	s, url, _ := recorded(t, Options{})
	allow, err := remote.NewAllow([]string{receiver.URL + "/hooks/*"}, local())
	if err != nil {
		t.Fatal(err)
	}
	if s.Webhooks, err = remote.OpenWebhooks(remote.WebhookOptions{Queue: s.Queue, Allow: allow, Secret: secret, Journal: filepath.Join(t.TempDir(), "j")}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Webhooks.Run(ctx) }()
	defer func() { stop(); <-done }()

	if status, answer := postTo(t, url, smallPrompt(`"extra_data":{"webhook_url":"http://169.254.169.254/"}`)); status != 400 || !strings.Contains(answer, "webhook_not_allowed") {
		t.Errorf("%d %s", status, answer)
	}
	_, first := postTo(t, url, smallPrompt(fmt.Sprintf(`"extra_data":{"webhook_url":"%s/hooks/body"}`, receiver.URL)))
	_, again := postTo(t, url, smallPrompt(""), "X-Webhook-Url", receiver.URL+"/hooks/header", "Idempotency-Key", "k")
	_, same := postTo(t, url, smallPrompt(""), "X-Webhook-Url", receiver.URL+"/hooks/header", "Idempotency-Key", "k")
	if again != same || s.Webhooks.Pending() != 2 {
		t.Errorf("%s, %s; %d are due", again, same, s.Webhooks.Pending())
	}
	for _, answer := range []string{first, again} {
		var receipt struct {
			ID string `json:"prompt_id"`
		}
		if err := json.Unmarshal([]byte(answer), &receipt); err != nil {
			t.Fatal(err, answer)
		}
		lease, err := s.Queue.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := lease.Done(t.Context(), json.RawMessage(`{"outputs":{}}`)); err != nil {
			t.Fatal(err)
		}
		path := map[string]string{first: "/hooks/body", again: "/hooks/header"}[answer]
		if got := <-arrived; got != path+" "+receipt.ID+" success" {
			t.Errorf("%q, want %s %s", got, path, receipt.ID)
		}
	}
}

// A loader may name its picture by URL where the server allows it; by default it is told that it may not.
func TestRemoteInput(t *testing.T) {
	var file bytes.Buffer
	if err := png.Encode(&file, image.NewGray(image.Rect(0, 0, 4, 4))); err != nil {
		t.Fatal(err)
	}
	pictures := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(file.Bytes()) }))
	defer pictures.Close()
	prompt := fmt.Sprintf(`{"prompt":{"1":{"class_type":"LoadImage","inputs":{"image":"%s/a.png?s=1"}},"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}}}}`, pictures.URL)
	s, url, base := recorded(t, Options{})
	status, answer := postTo(t, url, prompt)
	if status != 400 || !strings.Contains(answer, "--input-urls") || !strings.Contains(answer, `"class_type":"LoadImage"`) && !strings.Contains(answer, `"class_type": "LoadImage"`) {
		t.Errorf("%d %s", status, answer)
	}
	allow, err := remote.NewAllow([]string{pictures.URL}, local())
	if err != nil {
		t.Fatal(err)
	}
	s.Inputs = &remote.Inputs{Allow: allow, Dir: filepath.Join(base, "input")}
	if status, answer := postTo(t, url, prompt); status != 200 {
		t.Fatal(status, answer)
	}
	lease, err := s.Queue.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var graph map[string]struct{ Inputs map[string]any }
	if err := json.Unmarshal(lease.Prompt.Graph, &graph); err != nil {
		t.Fatal(err)
	}
	name, _ := graph["1"].Inputs["image"].(string)
	if data, err := os.ReadFile(filepath.Join(base, "input", name)); err != nil || !bytes.Equal(data, file.Bytes()) || !strings.HasPrefix(name, "remote/") {
		t.Errorf("%s: %v", name, err)
	}
}
