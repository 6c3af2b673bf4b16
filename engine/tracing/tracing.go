// Package tracing tells an OpenTelemetry collector how prompts run.
//
// # Vocabulary
//
// A trace is a tree of spans, each a piece of work with its times: the prompt, in it its nodes that are executed,
// in these the runs of networks (which engine/ort tells when its context carries a span). A prompt whose client sent a W3C
// traceparent is a part of the client's trace, wherever it runs: Carry makes the text that travels with it through the queue.
//
// Nothing is traced, and nothing costs anything, unless one of OpenTelemetry's own variables names a
// collector: OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. Spans go there by OTLP over HTTP. The other
// OTEL_EXPORTER_OTLP_*, OTEL_TRACES_SAMPLER*, OTEL_BSP_*, OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES count too.
package tracing

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

// scope is who makes the spans.
const scope = "github.com/comfyrun/comfyrun"

// Tracer makes spans of what a worker does. A nil Tracer makes none.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// FromEnvironment makes the Tracer that OpenTelemetry's variables ask for; nil: they ask for none. Shut it down
// in the end, or the last spans are lost.
func FromEnvironment(ctx context.Context, version string) (*Tracer, error) {
	if !wanted() {
		return nil, nil
	}
	if protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return nil, fmt.Errorf("set up tracing: OTEL_EXPORTER_OTLP_PROTOCOL is %q, only http/protobuf is spoken", protocol)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("set up tracing: %w", err)
	}
	t, err := New(ctx, version, sdktrace.WithBatcher(exporter))
	if err != nil {
		return nil, fmt.Errorf("set up tracing: %w", err)
	}
	return t, nil
}

// wanted reports whether the environment names a collector and does not switch tracing off.
func wanted() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != ""
}

func first(names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// New makes a Tracer whose spans go where an option of the SDK says.
func New(ctx context.Context, version string, to sdktrace.TracerProviderOption) (*Tracer, error) {
	r, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("comfyrun"), semconv.ServiceVersion(version)),
		resource.WithHost(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe this process: %w", err)
	}
	p := sdktrace.NewTracerProvider(to, sdktrace.WithResource(r))
	return &Tracer{p, p.Tracer(scope, trace.WithInstrumentationVersion(version))}, nil
}

// Shutdown sends what has not been sent.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}

const longestState = 512 // bytes of tracestate, as W3C asks everybody to carry

// Carry is the trace that a request is a part of as text for queue.Prompt.Trace; "": it is in none, or its headers are wrong.
func Carry(h http.Header) string {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(h))
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	fields := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, fields)
	text := fields["traceparent"]
	if state := fields["tracestate"]; state != "" && len(state) <= longestState {
		text += " " + state
	}
	return text
}

// resume is a context in the trace that Carry made a text of.
func resume(ctx context.Context, carried string) context.Context {
	parent, state, _ := strings.Cut(carried, " ")
	if parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent, "tracestate": state})
}

func promptID(id string) attribute.KeyValue { return attribute.String("comfyrun.prompt.id", id) }
