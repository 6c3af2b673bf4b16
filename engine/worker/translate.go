package worker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
)

// event translates what happens in a run. It is called one event at a time.
func (x *execution) event(e engine.Event) {
	switch e.Kind {
	case engine.EventStart:
		x.start(e.Time)
	case engine.EventCached:
		x.record("execution_cached", encode(cached{list(e.Nodes), stamped{x.prompt, stamp(e.Time)}}))
	case engine.EventExecuting:
		x.progress.begin(e.Meta)
		x.tellProgress(e, false)
		x.own("executing", encode(executing{e.Node, e.Display, x.prompt}))
	case engine.EventProgress:
		x.step(e)
	case engine.EventExecuted:
		if e.Cached {
			x.again = e.Node
		}
		x.own("executed", encode(executed{e.Node, e.Display, shown(e.UI), x.prompt}))
	case engine.EventWarning:
		x.warn(e)
	case engine.EventNodeDone:
		x.nodeDone(e)
	case engine.EventBlocked:
		x.all("execution_error", encode(blocked(x.prompt, e.Err, e.Nodes)), false)
	case engine.EventSuccess:
		x.ending = &ending{"execution_success", encode(stamped{x.prompt, stamp(e.Time)})}
	case engine.EventError:
		x.failNode(e)
	case engine.EventInterrupted:
		x.interrupt(e)
	}
}

// step tells of a running node's progress: its state, its picture, its number.
// Sockets without metadata get the picture last.
func (x *execution) step(e engine.Event) {
	x.progress.step(e.Meta, e.Value, e.Total)
	x.tellProgress(e, true)
	if p, ok := e.Preview.(Preview); ok {
		_, lasts := p.(LastingPreview)
		x.out.add(letter{Event: queue.Event{Client: x.client, Prompt: x.prompt, Kind: KindPreview, Passing: !lasts},
			make: func() []byte { return x.picture(e.Meta, p) }})
	}
	x.all("progress", encode(step{e.Value, e.Total, x.prompt, e.Node}), true)
}

// warn shows what a node has to say on the node itself, to the prompt's owner alone: ComfyUI would tell everybody.
func (x *execution) warn(e engine.Event) {
	x.warnings = append(x.warnings, Warning{e.Node, e.Class, e.Text})
	x.w.log().Warn("a node warns", "prompt_id", x.prompt, "node", e.Node, "class", e.Class, "text", e.Text)
	if x.client == "" {
		return
	}
	body := binary.BigEndian.AppendUint32(nil, uint32(len(e.Display)))
	body = append(append(body, e.Display...), e.Text...)
	x.out.add(letter{Event: queue.Event{Client: x.client, Prompt: x.prompt, Kind: KindText, Data: body}})
}

// picture encodes a preview; nil: there is none.
func (x *execution) picture(at engine.Meta, p Preview) []byte {
	mime, data, err := x.previews.encode(p)
	if err != nil {
		x.w.log().Warn("no preview", "prompt_id", x.prompt, "node", at.Node, "err", err)
		return nil
	}
	if len(data) == 0 {
		return nil
	}
	return frame(x.prompt, at, mime, data)
}

// nodeDone tells of a node that ran, or of an output node whose results were there.
func (x *execution) nodeDone(e engine.Event) {
	if !e.Cached || x.again == e.Node {
		x.progress.finish(e.Meta)
		x.tellProgress(e, false)
	}
	x.again = ""
	if x.w.Observe != nil {
		x.w.Observe.NodeDone(x.observed, NodeDone{e.Meta, x.prompt, e.Class, e.Cached, e.Time, e.Duration})
	}
}

func (x *execution) tellProgress(e engine.Event, passing bool) {
	if text := x.progress.message(e.Time); text != nil {
		x.out.add(letter{Event: x.letterTo(x.client, text, passing)})
	}
}

func (x *execution) failNode(e engine.Event) {
	f := x.failure(e.Err, e.Nodes, e.All)
	f.Timestamp = stamp(e.Time)
	x.ending = &ending{"execution_error", encode(f)}
}

// interrupt ends a run that was stopped: by a client, or as it took too long.
func (x *execution) interrupt(e engine.Event) {
	if _, late := errors.AsType[*TimeLimitError](e.Err); late {
		x.failNode(e)
		return
	}
	x.ending = &ending{"execution_interrupted", encode(interrupted{x.prompt, orElse(e.Err.Real, e.Err.Node),
		orElse(e.Err.RealClass, e.Err.Class), list(e.Nodes), stamp(e.Time)})}
}

// tellEnding sends and records the last message of the run.
func (x *execution) tellEnding() {
	if text := x.progress.last(); text != nil {
		x.out.add(letter{Event: x.letterTo(x.client, text, false)})
	}
	if x.ending.kind == "execution_interrupted" && x.client == "" {
		x.all(x.ending.kind, x.ending.data, false)
	}
	x.record(x.ending.kind, x.ending.data)
}

// record sends a message to its owner and keeps it for the history.
func (x *execution) record(kind string, data json.RawMessage) {
	x.history = append(x.history, fmt.Appendf(nil, `["%s",%s]`, kind, data))
	x.own(kind, data)
}

// own sends a message to the prompt's owner, if it has one.
func (x *execution) own(kind string, data json.RawMessage) {
	if x.client != "" {
		x.out.add(letter{Event: x.letterTo(x.client, message(kind, data), false)})
	}
}

// all sends a message to the prompt's owner, or to everybody if it has none.
func (x *execution) all(kind string, data json.RawMessage, passing bool) {
	x.out.add(letter{Event: x.letterTo(x.client, message(kind, data), passing)})
}

// status tells everybody how many prompts are left.
func (x *execution) status(change Change) {
	data := encode(Status{x.w.Queue.Depth(), change})
	x.out.add(letter{Event: queue.Event{Prompt: x.prompt, Kind: KindStatus, Data: data}})
}

func (x *execution) letterTo(client string, text []byte, passing bool) queue.Event {
	return queue.Event{Client: client, Prompt: x.prompt, Kind: KindMessage, Data: text, Passing: passing}
}
