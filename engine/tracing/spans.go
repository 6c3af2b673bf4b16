package tracing

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
)

// Taken is of worker.Observer: it begins the span of a prompt.
func (t *Tracer) Taken(ctx context.Context, p worker.Taken) context.Context {
	if t == nil {
		return ctx
	}
	ctx, _ = t.tracer.Start(resume(ctx, p.Prompt.Trace), "prompt", trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(promptID(p.Prompt.ID), attribute.Int("comfyrun.prompt.attempt", p.Attempt),
			attribute.Float64("comfyrun.prompt.wait_seconds", p.Wait.Seconds())))
	return ctx
}

// NodeDone is of worker.Observer: nodes whose results were there are noted on the prompt's span. The others have spans of
// their own, see Nodes.
func (t *Tracer) NodeDone(ctx context.Context, n worker.NodeDone) {
	if t == nil || !n.Cached {
		return
	}
	trace.SpanFromContext(ctx).AddEvent("node was cached", trace.WithAttributes(nodeAttributes(n.Node, n.Class)...))
}

// Finished is of worker.Observer: it ends the span of a prompt.
func (t *Tracer) Finished(ctx context.Context, f worker.Finished) {
	if t == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("comfyrun.prompt.state", string(f.State)))
	if f.State == queue.Failed {
		text := "failed"
		if f.Err != nil {
			text = f.Err.Error()
		}
		span.SetStatus(codes.Error, text)
	}
	span.End()
}

func nodeAttributes(id, class string) []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("comfyrun.node.id", id), attribute.String("comfyrun.node.class", class)}
}

// Nodes gives every call of a node of the catalogue a span. It changes the types, so it is done once, before the catalogue
// is used; not at all when t is nil.
func (t *Tracer) Nodes(c *engine.Catalog) {
	if t == nil {
		return
	}
	for _, typ := range c.Types() {
		typ.Call = t.traced(typ.Class, typ.Call)
	}
}

type call = func(context.Context, *engine.Args) (engine.Returned, error)

func (t *Tracer) traced(class string, run call) call {
	return func(ctx context.Context, a *engine.Args) (engine.Returned, error) {
		ctx, span := t.tracer.Start(ctx, class, trace.WithAttributes(nodeAttributes(engine.NodeID(ctx), class)...))
		defer span.End() // also when the node panics
		out, err := run(ctx, a)
		var blocked engine.Blocker
		if err != nil && !errors.As(err, &blocked) {
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		return out, err
	}
}
