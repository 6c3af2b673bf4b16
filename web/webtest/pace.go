package webtest

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/comfyrun/comfyrun/engine"
)

// Pace keeps the nodes of a conversation in step with it. A fixture node that
// takes time, FxSteps with a delay or FxSleep, takes its next step when the
// player waits for the message about it. So what was recorded while a node ran
// happens while it runs, however slow the machine is.
type Pace struct {
	mu      sync.Mutex
	reached map[stepOf]int
	changed chan struct{} // closed when reached changes; nil: nobody waits
}

// stepOf is a node of a prompt, whose steps are counted.
type stepOf struct{ prompt, node string }

type paceKey struct{}

// paced is a Pace as a prompt's nodes find it in their context.
type paced struct {
	*Pace
	prompt string
}

// Of is a context for the nodes of a prompt. In others they go by the clock.
func (p *Pace) Of(ctx context.Context, prompt string) context.Context {
	return context.WithValue(ctx, paceKey{}, paced{p, prompt})
}

// wait returns when the conversation has come to a step of the running node, or
// ctx ends.
func (p paced) wait(ctx context.Context, step int) error {
	at := stepOf{p.prompt, engine.NodeID(ctx)}
	for {
		p.mu.Lock()
		there := p.reached[at] >= step
		if !there && p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// comesTo lets nodes go on as far as a message says that they are.
func (p *Pace) comesTo(message json.RawMessage) {
	var m struct {
		Type string
		Data struct {
			Prompt string `json:"prompt_id"`
			Nodes  map[string]struct{ Value float64 }
		}
	}
	if p == nil || json.Unmarshal(message, &m) != nil || m.Type != "progress_state" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reached == nil {
		p.reached = map[stepOf]int{}
	}
	for node, state := range m.Data.Nodes {
		p.reached[stepOf{m.Data.Prompt, node}] = int(state.Value)
	}
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}
