package worker

import (
	"encoding/json"
	"errors"

	"github.com/comfyrun/comfyrun/engine"
)

// Result is what the history holds of a prompt, as ComfyUI shows it but for the
// prompt itself, and a member of our own.
type Result struct {
	Outputs json.RawMessage `json:"outputs"` // by node: what it shows
	Status  ResultStatus    `json:"status"`
	Meta    json.RawMessage `json:"meta"` // by node: whose results these are
	Run     Run             `json:"comfyrun"`
}

// ResultStatus is how a prompt ended.
type ResultStatus struct {
	Status    string            `json:"status_str"` // "success" or "error"
	Completed bool              `json:"completed"`
	Messages  []json.RawMessage `json:"messages"` // [type, data]
}

// Run tells more about an execution than ComfyUI does.
type Run struct {
	Worker     string          `json:"worker,omitempty"`
	Device     string          `json:"device,omitempty"`
	Attempts   int             `json:"attempts"`
	Queued     float64         `json:"queued_seconds"`
	Seconds    float64         `json:"seconds"`
	Error      string          `json:"error,omitempty"`
	NodeErrors json.RawMessage `json:"node_errors,omitempty"` // of a workflow that cannot run any more
	Nodes      []NodeTime      `json:"nodes"`                 // that finished, in order
	Warnings   []Warning       `json:"warnings,omitempty"`
}

// Warning is what a node had to say though it did its work.
type Warning struct {
	Node  string `json:"node"`
	Class string `json:"class"`
	Text  string `json:"text"`
}

// NodeTime is how long a node took.
type NodeTime struct {
	Node    string  `json:"node"`
	Class   string  `json:"class"`
	Seconds float64 `json:"seconds"`
	Cached  bool    `json:"cached,omitempty"`
}

type meta struct {
	Node    string  `json:"node_id"`
	Display string  `json:"display_node"`
	Parent  *string `json:"parent_node"`
	Real    string  `json:"real_node_id"`
}

// result is what to record.
func (x *execution) result() json.RawMessage {
	f := &x.finished
	r := Result{Status: ResultStatus{Status: "success", Completed: true, Messages: x.history},
		Run: Run{Device: x.runner.Device, Attempts: f.Attempt, Queued: f.Wait.Seconds(), Seconds: f.Took.Seconds(), Nodes: []NodeTime{}, Warnings: x.warnings}}
	if info, err := x.w.Queue.Find(x.observed, x.prompt); err == nil {
		r.Run.Worker = info.Worker
	}
	if f.Err != nil {
		r.Status.Status, r.Status.Completed, r.Run.Error = "error", false, f.Err.Error()
	}
	if x.invalid != nil && errors.Is(f.Err, x.invalid) {
		r.Run.NodeErrors = encode(nodeErrors(x.invalid))
	}
	for _, n := range f.Nodes {
		r.Run.Nodes = append(r.Run.Nodes, NodeTime{n.Node, n.Class, n.Duration.Seconds(), n.Cached})
	}
	r.Outputs, r.Meta = outputs(f.UI)
	return encode(r)
}

// outputs are what nodes show, and whose results these are.
func outputs(list []engine.NodeUI) (shows, metas json.RawMessage) {
	var out, origins engine.Members
	for _, ui := range list {
		out = append(out, engine.Member{Key: ui.Node, Value: shown(ui.UI)})
		m := meta{ui.Meta.Node, ui.Meta.Display, nil, ui.Meta.Real}
		if ui.Meta.Parent != "" {
			m.Parent = &ui.Meta.Parent
		}
		origins = append(origins, engine.Member{Key: ui.Node, Value: m})
	}
	return encode(out), encode(origins)
}
