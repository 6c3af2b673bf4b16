package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
)

func busy() *Metrics {
	m := New(Options{
		Version: "v1",
		Queue: func() queue.Stats {
			return queue.Stats{Queued: 3, Running: 1, Lost: 1, OldestQueued: 90 * time.Second, MaxQueued: 100, Accepted: 7}
		},
		Cache:   func() (int, int64) { return 4, 4096 },
		Sockets: func() int { return 2 },
		Ready:   func() bool { return true },
		Classes: func(c string) bool { return c == "KSampler" },
		Devices: []Device{{"cuda:0", func() int64 { return 5 }}, {"cuda:1", func() int64 { return 2 }}, {"cuda:1", func() int64 { return 1 }}, {Name: "cpu"}},
	})
	ctx := m.Taken(context.Background(), worker.Taken{Device: "cuda:0", Wait: 2 * time.Second})
	m.Finished(ctx, worker.Finished{Device: "cuda:0", State: queue.Done, Took: 3 * time.Second})
	m.Taken(ctx, worker.Taken{Device: "cuda:1", Wait: -time.Second})
	m.Finished(ctx, worker.Finished{Device: "cuda:1", State: queue.Failed, Took: time.Second})
	m.Taken(ctx, worker.Taken{Device: "cuda:1"})
	for _, class := range []string{"KSampler", "Unheard", "Of"} {
		m.NodeDone(ctx, worker.NodeDone{Class: class, Duration: time.Second})
	}
	m.NodeDone(ctx, worker.NodeDone{Class: "KSampler", Cached: true})
	m.Request("/view", "GET", 200, time.Millisecond)
	m.Request("", "BREW", 404, time.Millisecond)
	m.Request("/ws", "GET", 101, -1)
	m.AuthFailure("unknown")
	m.Refused()
	m.Webhook("delivered")
	m.RemoteInput("fetched")
	for i := range labelledModels + 5 {
		m.ModelLoaded(fmt.Sprintf("checkpoints/%d.safetensors", i), 2*time.Second)
	}
	m.ModelBytes(77)
	m.ModelsSwapped(nil)
	m.ModelsSwapped(errors.New("no such model"))
	return m
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestValues(t *testing.T) {
	text := scrape(t, busy())
	for _, line := range []string{
		`comfyrun_queue_depth 5`, `comfyrun_queue_oldest_seconds 90`, `comfyrun_queue_prompts{state="lost"} 1`,
		`comfyrun_queue_submissions_total{outcome="accepted"} 7`, `comfyrun_queue_limit 100`,
		`comfyrun_prompts_total{device="cuda:0",status="success"} 1`, `comfyrun_prompts_total{device="cuda:1",status="error"} 1`,
		`comfyrun_prompts_total{device="cpu",status="interrupted"} 0`, `comfyrun_prompts_running{device="cuda:0"} 0`,
		`comfyrun_prompts_running{device="cuda:1"} 1`, `comfyrun_prompt_duration_seconds_sum{device="cuda:0",status="success"} 3`,
		`comfyrun_models_loaded_bytes{device="cuda:0"} 5`, `comfyrun_models_loaded_bytes{device="cuda:1"} 3`, `comfyrun_prompt_wait_seconds_sum 2`,
		`comfyrun_node_duration_seconds_count{class_type="KSampler"} 1`, `comfyrun_node_duration_seconds_count{class_type="other"} 2`,
		`comfyrun_nodes_total{result="cached"} 1`, `comfyrun_http_requests_total{code="200",method="GET",route="/view"} 1`,
		`comfyrun_http_requests_total{code="404",method="other",route="other"} 1`, `comfyrun_websocket_clients 2`,
		`comfyrun_cache_bytes 4096`, `comfyrun_ready 1`, `comfyrun_webhook_deliveries_total{outcome="delivered"} 1`,
		`comfyrun_model_load_seconds_count{model="checkpoints/7.safetensors"} 1`, `comfyrun_model_load_seconds_sum{model="other"} 10`,
		`comfyrun_model_fetch_bytes_total 77`, `comfyrun_model_swaps_total{outcome="done"} 1`, `comfyrun_models_stale 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(text, "request_duration_seconds_count{method=\"GET\",route=\"/ws\"}") {
		t.Error("the time of a websocket is measured")
	}
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(busy().Registry())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// docs/metrics.md lists each metric of ours with its type and labels, and no other.
func TestDocumented(t *testing.T) {
	families, err := busy().Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "comfyrun_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s |", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", ")))
	}
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile("(?m)^\\| `comfyrun_[a-z_]+` \\| [a-z]+ \\| [^|]*\\|").FindAllString(string(doc), -1)
	for _, row := range want {
		if !slices.Contains(got, row) {
			t.Errorf("docs/metrics.md has no row %s", row)
		}
	}
	if len(got) != len(want) {
		t.Errorf("docs/metrics.md has %d rows, wanted are %d", len(got), len(want))
	}
}

var _ worker.Observer = (*Metrics)(nil)

// Nobody has to ask whether figures are wanted.
func TestNil(t *testing.T) {
	var m *Metrics
	m.Finished(m.Taken(t.Context(), worker.Taken{}), worker.Finished{})
	m.NodeDone(t.Context(), worker.NodeDone{})
	m.Request("", "GET", 200, 0)
	m.AuthFailure("")
	m.Refused()
	m.Webhook("")
	m.RemoteInput("")
	m.ModelLoaded("", 0)
	m.ModelBytes(1)
	m.ModelsSwapped(nil)
	m.CountSockets(nil)
}
