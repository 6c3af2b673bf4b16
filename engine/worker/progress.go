package worker

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/comfyrun/comfyrun/engine"
)

// Bounds of the progress_state messages of one prompt, each of which repeats all
// nodes so far: what goes beyond is left out, but for the last one. Small
// workflows never get there.
const (
	progressBurst = 256 << 10 // bytes at once
	progressRate  = 4 << 20   // bytes per second from then on
)

// progressState is what ComfyUI's progress_state messages tell: how far the
// nodes are that have begun.
type progressState struct {
	prompt string
	order  []string
	nodes  map[string]*progressNode
	size   int // bytes of the nodes' texts

	level float64 // bytes that may be sent now
	at    time.Time
	stale bool // the last change was not sent
}

type progressNode struct {
	Value   json.RawMessage `json:"value"`
	Max     json.RawMessage `json:"max"`
	State   string          `json:"state"`
	Node    string          `json:"node_id"`
	Prompt  string          `json:"prompt_id"`
	Display string          `json:"display_node_id"`
	Parent  *string         `json:"parent_node_id"`
	Real    string          `json:"real_node_id"`

	text []byte // "id":{…}
}

func newProgressState(prompt string) *progressState {
	return &progressState{prompt: prompt, nodes: map[string]*progressNode{}, level: progressBurst}
}

// begin takes note that a node starts, perhaps once more.
func (p *progressState) begin(at engine.Meta) {
	n := p.node(at)
	n.Value, n.Max, n.State = float(0), float(1), "running"
	p.write(n)
}

// step takes note of what a running node reports.
func (p *progressState) step(at engine.Meta, value, total int) {
	n := p.node(at)
	n.Value, n.Max, n.State = encode(value), encode(total), "running"
	p.write(n)
}

// finish takes note that a node is done. One that never began has its results
// from an earlier run.
func (p *progressState) finish(at engine.Meta) {
	n := p.node(at)
	if n.State == "" {
		n.Max = encode(1)
	}
	n.Value, n.State = n.Max, "finished"
	p.write(n)
}

func float(f float64) json.RawMessage { return encode(engine.Float(f)) }

func (p *progressState) node(at engine.Meta) *progressNode {
	n := p.nodes[at.Node]
	if n == nil {
		n = &progressNode{Node: at.Node, Prompt: p.prompt, Display: at.Display, Real: at.Real}
		if at.Parent != "" {
			n.Parent = &at.Parent
		}
		p.nodes[at.Node] = n
		p.order = append(p.order, at.Node)
	}
	return n
}

func (p *progressState) write(n *progressNode) {
	p.size -= len(n.text)
	n.text = append(append(encode(n.Node), ':'), encode(n)...)
	p.size += len(n.text)
}

// message returns the text to send now; nil: it has to wait.
func (p *progressState) message(now time.Time) []byte {
	if !p.at.IsZero() {
		p.level = min(p.level+now.Sub(p.at).Seconds()*progressRate, progressBurst)
	}
	p.at = now
	if p.stale = p.level < float64(min(p.size, progressBurst)); p.stale {
		return nil
	}
	p.level -= float64(p.size)
	return p.text()
}

// last returns the text that still has to be sent when the prompt ends; nil: none.
func (p *progressState) last() []byte {
	if !p.stale {
		return nil
	}
	p.stale = false
	return p.text()
}

func (p *progressState) text() []byte {
	var b bytes.Buffer
	b.Grow(p.size + len(p.order) + len(p.prompt) + 64)
	b.WriteString(`{"type":"progress_state","data":{"prompt_id":`)
	b.Write(encode(p.prompt))
	b.WriteString(`,"nodes":{`)
	for i, id := range p.order {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(p.nodes[id].text)
	}
	b.WriteString("}}}")
	return b.Bytes()
}
