package ort

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// span begins a span of a run, below the one that ctx carries, and returns what ends it. Where ctx carries none, that costs nothing.
func (s *Session) span(ctx context.Context) (end func(error)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return func(error) {}
	}
	tracer := parent.TracerProvider().Tracer("github.com/comfyrun/comfyrun/engine/ort")
	_, span := tracer.Start(ctx, "session run", trace.WithAttributes(
		attribute.String("comfyrun.session.name", s.name), attribute.String("comfyrun.session.provider", s.provider)))
	return func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}
