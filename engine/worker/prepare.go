package worker

import (
	"context"
	"errors"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// Preparation is a prompt that is about to be planned.
type Preparation struct {
	Graph *workflows.Graph

	x    *execution
	node string // that was told to run
}

// Progress tells the prompt's client that a node is occupied, and how far that
// is: value of total, such as bytes that were fetched for it. The client sees
// the node run, as it will once more when the node is executed. It is called
// from one goroutine at a time.
func (p *Preparation) Progress(node string, value, total int64) {
	at := engine.Meta{Node: node, Display: node, Real: node}
	p.x.start(time.Now())
	if p.node != node {
		p.node = node
		p.x.event(engine.Event{Kind: engine.EventExecuting, Time: time.Now(), Meta: at})
	}
	p.x.event(engine.Event{Kind: engine.EventProgress, Time: time.Now(), Meta: at, Value: int(value), Total: int(total)})
}

// prepare calls the hook. An error that it gives has its ending, as one of a
// node that ran has.
func (x *execution) prepare(ctx context.Context, g *workflows.Graph) error {
	if x.w.Prepare == nil {
		return nil
	}
	p := &Preparation{Graph: g, x: x}
	err := x.w.Prepare(ctx, p)
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*engine.NodeError](err)
	if !ok {
		e = &engine.NodeError{Node: p.node, Kind: engine.ExecutionFailed, Err: err}
	}
	kind := engine.EventError
	if ctx.Err() != nil {
		kind = engine.EventInterrupted
		stopped := *e
		stopped.Kind, stopped.Err = engine.Interrupted, context.Cause(ctx)
		e = &stopped
	}
	if n := g.Node(e.Node); n != nil && e.Class == "" {
		e.Class = n.Class
	}
	x.start(time.Now())
	x.event(engine.Event{Kind: kind, Time: time.Now(), Class: e.Class, Err: e, All: ids(g),
		Meta: engine.Meta{Node: e.Node, Display: e.Node, Real: e.Node}})
	return e
}

func ids(g *workflows.Graph) (list []string) {
	for _, n := range g.Nodes() {
		list = append(list, n.ID)
	}
	return list
}

// start tells that the prompt begins, once.
func (x *execution) start(at time.Time) {
	if !x.started {
		x.started = true
		x.record("execution_start", encode(stamped{x.prompt, stamp(at)}))
	}
}
