package web

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/metrics"
	"github.com/comfyrun/comfyrun/engine/policy"
	"github.com/comfyrun/comfyrun/engine/tracing"
	"github.com/comfyrun/comfyrun/engine/worker"
)

// From the request to the worker: figures count the prompt, its spans lie in the client's trace, and the policy holds for
// what the plan did not show.
func TestObserved(t *testing.T) {
	m := metrics.New(metrics.Options{Classes: func(c string) bool { return c == "FxSleep" }})
	s, url, _ := recorded(t, Options{Metrics: m})
	memory := tracetest.NewInMemoryExporter()
	tracer, err := tracing.New(t.Context(), "v1", sdktrace.WithSyncer(memory))
	if err != nil {
		t.Fatal(err)
	}
	strict, err := policy.Parse([]byte("[nodes]\ndeny = [\"FxEcho\"]"))
	if err != nil {
		t.Fatal(err)
	}
	strict.Guard(s.Catalog(), nil)
	tracer.Nodes(s.Catalog())
	w := &worker.Worker{Queue: s.Queue, Runners: []*worker.Runner{{Device: "cpu", Catalog: s.Catalog, Engine: &engine.Runner{}}}, Observe: worker.Observers{m, tracer}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	for id, body := range map[string]string{"good": smallPrompt(`"prompt_id":"good"`),
		"denied": `{"prompt_id":"denied","prompt":{"1":{"class_type":"FxEcho","inputs":{"i":1,"f":0,"s":"","b":true,"c":"a"}}}}`} {
		if status, answer := postTo(t, url, body, "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"); status != 200 {
			t.Fatal(status, answer)
		}
		wait, cancel := context.WithTimeout(t.Context(), time.Minute)
		entry, err := s.Queue.Wait(wait, id)
		cancel()
		if err != nil || strings.Contains(string(entry.Result), "server's policy: node type FxEcho is denied") != (id == "denied") {
			t.Errorf("%s: %v, %s", id, err, entry.Result)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{`comfyrun_prompts_total{device="cpu",status="success"} 1`, `comfyrun_prompts_total{device="cpu",status="error"} 1`, `comfyrun_prompts_running{device="cpu"} 0`,
		`comfyrun_node_duration_seconds_count{class_type="FxSleep"} 1`, `comfyrun_node_duration_seconds_count{class_type="other"} 1`} {
		if !strings.Contains(answer.Body.String(), line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	count := map[string]int{}
	for _, span := range memory.GetSpans() {
		if span.SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("%s is in another trace", span.Name)
		}
		count[span.Name]++
	}
	if count["prompt"] != 2 || count["FxSleep"] != 1 || count["FxEcho"] != 1 {
		t.Errorf("spans %v", count)
	}
}
