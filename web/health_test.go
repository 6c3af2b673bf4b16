package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/metrics"
)

// A server says what it waits for, in order, until it is ready, and not any more when it drains.
func TestReadiness(t *testing.T) {
	var log bytes.Buffer
	ready := &Readiness{Log: slog.New(slog.NewTextHandler(&log, nil))}
	h := Probes(ready, nil)
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	expect := func(status int, want string) {
		t.Helper()
		if code, body := ask("/readyz"); code != status || body != want {
			t.Errorf("%d %q, want %d %q", code, body, status, want)
		}
		if code, _ := ask("/healthz"); code != http.StatusOK {
			t.Errorf("healthz answers %d", code)
		}
	}
	expect(200, "ready\n")
	runtime, models := ready.Expect("runtime"), ready.Expect("models warmed")
	var problem error
	ready.Check("queue reachable", func() error { return problem })
	models.Met()
	expect(503, "waiting for: runtime\n[-] runtime\n[+] models warmed\n[+] queue reachable\n")
	runtime.Met()
	expect(200, "ready\n[+] runtime\n[+] models warmed\n[+] queue reachable\n")
	problem = errors.New("no route")
	expect(503, "waiting for: queue reachable\n[+] runtime\n[+] models warmed\n[-] queue reachable: no route\n")
	problem = nil
	models.Unmet("half of them")
	_, body := ask("/readyz?format=json")
	var got State
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := State{Waiting: "models warmed", Conditions: []ConditionState{{"runtime", true, ""}, {"models warmed", false, "half of them"}, {"queue reachable", true, ""}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	models.Met()
	models.Note("an older one")
	expect(200, "ready\n[+] runtime\n[+] models warmed: an older one\n[+] queue reachable\n")
	models.Note("")
	ready.Drain()
	ready.Drain()
	expect(503, "draining\n[+] runtime\n[+] models warmed\n[+] queue reachable\n")
	if n := strings.Count(log.String(), "\n"); n != 5 || strings.Count(log.String(), "draining") != 1 || !strings.Contains(log.String(), "half of them") {
		t.Errorf("%d lines: %s", n, &log)
	}
	if code, _ := ask("/metrics"); code != http.StatusNotFound {
		t.Errorf("metrics that there are none of answer %d", code)
	}
}

// Requests are counted by their routes, not their paths.
func TestRequestMetrics(t *testing.T) {
	m := metrics.New(metrics.Options{})
	_, url, _ := recorded(t, Options{Metrics: m})
	for _, path := range []string{"/history/a", "/history/b", "/nowhere/1", "/api/queue", "/readyz"} {
		answer, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
	}
	w := httptest.NewRecorder()
	Probes(nil, m.Handler()).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{
		`comfyrun_http_requests_total{code="200",method="GET",route="/history/:id"} 2`,
		`comfyrun_http_requests_total{code="404",method="GET",route="other"} 1`,
		`comfyrun_http_requests_total{code="200",method="GET",route="/api/queue"} 1`,
		`comfyrun_websocket_clients 0`,
	} {
		if !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(w.Body.String(), "nowhere") {
		t.Error("a path is a label")
	}
}
