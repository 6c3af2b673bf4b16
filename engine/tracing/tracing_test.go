package tracing

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
	"github.com/comfyrun/comfyrun/workflows"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

var _ worker.Observer = (*Tracer)(nil)

type saveIn struct {
	Value int `in:"value"`
}

// run executes one prompt as a worker does: a node that makes a number and one that shows it, with a session in it, as
// engine/ort traces them.
func run(t *testing.T, tracer *Tracer, carried string) {
	t.Helper()
	c := engine.NewCatalog()
	engine.Add(c, "Number", "x", saveIn{}, func(_ context.Context, in saveIn) (int, error) { return in.Value, nil })
	engine.Add(c, "Show", "x", saveIn{}, func(ctx context.Context, in saveIn) (engine.UI, error) {
		_, span := trace.SpanFromContext(ctx).TracerProvider().Tracer("session").Start(ctx, "session run")
		span.End()
		if in.Value == 13 {
			return nil, errors.New("unlucky")
		}
		return nil, nil
	}).Output()
	tracer.Nodes(c)
	g, err := workflows.Parse([]byte(`{"1": {"class_type": "Number", "inputs": {"value": 13}},
		"2": {"class_type": "Show", "inputs": {"value": ["1", 0]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := engine.NewPlan(g, c, engine.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := queue.Prompt{ID: "p1", Trace: carried}
	ctx := tracer.Taken(t.Context(), worker.Taken{Prompt: p, Attempt: 2, Wait: time.Second})
	_, err = (&engine.Runner{}).Run(ctx, plan, engine.RunOptions{})
	tracer.NodeDone(ctx, worker.NodeDone{Class: "Number", Cached: true})
	tracer.Finished(ctx, worker.Finished{Prompt: p, State: queue.Failed, Err: err})
}

// The spans form a tree below the client's span.
func TestTree(t *testing.T) {
	memory := tracetest.NewInMemoryExporter()
	tracer, err := New(t.Context(), "v1", sdktrace.WithSyncer(memory))
	if err != nil {
		t.Fatal(err)
	}
	run(t, tracer, Carry(http.Header{"Traceparent": {parent}, "Tracestate": {"vendor=1"}}))
	spans := memory.GetSpans()
	names := map[string]string{"b7ad6b7169203331": "client"}
	for _, s := range spans {
		names[s.SpanContext.SpanID().String()] = s.Name
		if s.SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || s.SpanContext.TraceState().String() != "vendor=1" {
			t.Errorf("%s is in another trace: %v", s.Name, s.SpanContext)
		}
	}
	got := map[string]string{}
	for _, s := range spans {
		got[s.Name] = names[s.Parent.SpanID().String()] + " " + s.Status.Code.String()
	}
	want := map[string]string{"prompt": "client Error", "Number": "prompt Unset", "Show": "prompt Error", "session run": "Show Unset"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, s := range spans {
		if s.Name == "prompt" && (len(s.Events) != 1 || s.Status.Description != "node 2 (Show): unlucky") {
			t.Errorf("prompt: %+v %+v", s.Events, s.Status)
		}
	}
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// A collector gets the spans over HTTP, with the headers that the environment asks for.
func TestCollector(t *testing.T) {
	var mu sync.Mutex
	got := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &request); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range request.ResourceSpans {
			for _, a := range rs.Resource.Attributes {
				got[a.Key] = a.Value.GetStringValue()
			}
			for _, s := range rs.ScopeSpans {
				for _, span := range s.Spans {
					got["span "+span.Name] = r.URL.Path + " " + r.Header.Get("X-Key")
				}
			}
		}
	}))
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
	t.Setenv("OTEL_SERVICE_NAME", "pictures")
	tracer, err := FromEnvironment(t.Context(), "v9")
	if err != nil || tracer == nil {
		t.Fatal(tracer, err)
	}
	run(t, tracer, "")
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for key, want := range map[string]string{"span prompt": "/v1/traces abc", "span Number": "/v1/traces abc",
		"span session run": "/v1/traces abc", "service.name": "pictures", "service.version": "v9"} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		t.Setenv(name, "")
	}
	none, err := FromEnvironment(t.Context(), "")
	if none != nil || err != nil {
		t.Error("traces without being asked", err)
	}
	run(t, none, parent)
	if err := none.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	if _, err := FromEnvironment(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "http/protobuf") {
		t.Errorf("grpc: %v", err)
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	if off, err := FromEnvironment(t.Context(), ""); off != nil || err != nil {
		t.Error("traces although disabled", err)
	}
}

func TestCarry(t *testing.T) {
	for _, tt := range []struct{ parent, state, want string }{
		{"", "", ""},
		{parent, "", parent},
		{parent, "a=1", parent + " a=1"},
		{parent, "a=" + strings.Repeat("x", 250) + ",b=" + strings.Repeat("x", 250) + ",c=" + strings.Repeat("x", 250), parent},
		{strings.ToUpper(parent), "", ""},
		{"00-00000000000000000000000000000000-b7ad6b7169203331-01", "", ""},
		{parent + "x", "", ""},
	} {
		h := http.Header{}
		h.Set("traceparent", tt.parent)
		h.Set("tracestate", tt.state)
		if got := Carry(h); got != tt.want {
			t.Errorf("Carry(%q, %q) = %q", tt.parent, tt.state, got)
		}
	}
}
