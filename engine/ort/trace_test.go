package ort_test

import (
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Runs of a session are spans of the trace that the context carries, failed ones too; without a trace there are none.
func TestSpans(t *testing.T) {
	memory := tracetest.NewInMemoryExporter()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(memory)).Tracer("test")
	s := addGraph().session(t, ort.Options{})
	x := random(1, 2, 3)
	ctx, parent := tracer.Start(t.Context(), "node")
	for _, y := range []*tensor.Tensor{x, random(1, 5, 4)} {
		_, err := s.Run(ctx, map[string]*tensor.Tensor{"x": x, "y": y})
		if (err == nil) != (y == x) {
			t.Errorf("run: %v", err)
		}
	}
	if _, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": x, "y": x}); err != nil {
		t.Fatal(err)
	}
	spans := memory.GetSpans()
	if len(spans) != 2 {
		t.Fatalf("%d spans", len(spans))
	}
	for i, want := range []codes.Code{codes.Unset, codes.Error} {
		got := spans[i]
		if got.Name != "session run" || got.Parent.SpanID() != parent.SpanContext().SpanID() || got.Status.Code != want || got.Attributes[0].Value.AsString() != "add" {
			t.Errorf("span %d: %+v", i, got)
		}
	}
}
