package web

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/workflows"
)

// promptResult is what a caller gets that waits for a prompt, or asks for it by its id: where it stands, and when it has
// ended, what came of it.
type promptResult struct {
	PromptID   string                     `json:"prompt_id"`
	Status     string                     `json:"status"` // queued, running, lost; success, error, cancelled
	Ahead      *int                       `json:"ahead,omitempty"`
	Workflow   *calledWorkflow            `json:"workflow,omitempty"`
	Parameters json.RawMessage            `json:"parameters,omitempty"` // of a named workflow: given, default and picked
	Seed       json.RawMessage            `json:"seed,omitempty"`       // the first of Seeds in the workflow
	Seeds      map[string]json.RawMessage `json:"seeds,omitempty"`      // by NODE.INPUT
	Outputs    []resultOutput             `json:"outputs"`
	Error      *resultError               `json:"error,omitempty"`
	NodeErrors json.RawMessage            `json:"node_errors,omitempty"` // what kept outputs from running
	Timings    resultTimings              `json:"timings"`
}

// calledWorkflow is the version of a named workflow that ran.
type calledWorkflow struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// resultOutput is one thing that a node showed: a file, with the addresses it has, or any other value.
type resultOutput struct {
	Node        string          `json:"node"`
	Kind        string          `json:"kind"` // images, text, …: the node's word
	Filename    string          `json:"filename,omitempty"`
	Subfolder   string          `json:"subfolder,omitempty"`
	Type        string          `json:"type,omitempty"`
	URL         string          `json:"url,omitempty"`
	ContentType string          `json:"content_type,omitempty"`
	Size        int64           `json:"size,omitempty"`
	SHA256      string          `json:"sha256,omitempty"`
	ContentURL  string          `json:"content_url,omitempty"` // never shows anything else
	Value       json.RawMessage `json:"value,omitempty"`
}

// resultError says why a prompt gave nothing, or not everything.
type resultError struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Node    string `json:"node,omitempty"`
	Class   string `json:"class_type,omitempty"`
}

// resultTimings are in milliseconds; what has not happened yet is null.
type resultTimings struct {
	Created int64           `json:"created"` // Unix time
	Queued  *int64          `json:"queued_ms"`
	Run     *int64          `json:"run_ms"`
	Nodes   json.RawMessage `json:"nodes,omitempty"` // as the worker recorded them
}

// calledExtra is the member of extra_data that ties a prompt to the named workflow that it was made of.
type calledExtra struct {
	calledWorkflow
	Parameters json.RawMessage `json:"parameters"`
}

// storedResult is what a worker records of a prompt, as far as it is read here.
type storedResult struct {
	Outputs map[string]map[string]json.RawMessage `json:"outputs"`
	Status  struct {
		Messages []json.RawMessage `json:"messages"`
	} `json:"status"`
	Run struct {
		NodeErrors json.RawMessage `json:"node_errors"`
		Nodes      json.RawMessage `json:"nodes"`
	} `json:"comfyrun"`
}

// standing is the result of a prompt that has not ended.
func (s *Server) standing(info queue.Info) promptResult {
	r := promptResult{PromptID: info.ID, Status: statusWord(info.State), Outputs: []resultOutput{}, Timings: timings(info)}
	if info.State == queue.Queued {
		r.Ahead = s.ahead(info.ID)
	}
	return r
}

// ahead counts the prompts that run before a queued one.
func (s *Server) ahead(id string) *int {
	list := s.Queue.List()
	if i := slices.IndexFunc(list, func(x queue.Info) bool { return x.ID == id }); i >= 0 {
		return &list[i].Ahead
	}
	return nil
}

func statusWord(state queue.State) string {
	switch state {
	case queue.Done:
		return "success"
	case queue.Failed:
		return "error"
	}
	return string(state)
}

func timings(info queue.Info) resultTimings {
	t := resultTimings{Created: info.Created.UnixMilli()}
	if !info.Started.IsZero() {
		t.Queued = milliseconds(info.Started.Sub(info.Created))
		if !info.Finished.IsZero() {
			t.Run = milliseconds(info.Finished.Sub(info.Started))
		}
	}
	return t
}

func milliseconds(d time.Duration) *int64 {
	ms := max(d.Milliseconds(), 0)
	return &ms
}

// ended is the result of a prompt that has.
func (s *Server) ended(ctx context.Context, e queue.Entry) promptResult {
	r := s.standing(e.Info)
	r.addGraph(e.Prompt.Graph)
	var extra namedExtra
	if json.Unmarshal(e.Prompt.Extra, &extra) == nil && extra.Called.Name != "" { // else it is a client's own
		r.Workflow, r.Parameters = &extra.Called.calledWorkflow, extra.Called.Parameters
	}
	var stored storedResult
	if json.Unmarshal(e.Result, &stored) == nil { // a prompt that was cancelled in the queue has none
		r.Outputs = s.resultOutputs(ctx, stored)
		r.Error = stored.problem()
		r.NodeErrors, r.Timings.Nodes = stored.Run.NodeErrors, stored.Run.Nodes
	}
	if r.Error == nil && e.State != queue.Done {
		r.Error = &resultError{Type: string(e.State), Message: e.Error}
	}
	return r
}

// addGraph finds the seeds of a prompt.
func (r *promptResult) addGraph(graph json.RawMessage) {
	g, err := workflows.Parse(graph)
	if err != nil {
		return
	}
	for _, n := range g.Nodes() {
		for _, name := range []string{"seed", "noise_seed"} {
			v, ok := n.Inputs.Get(name)
			if !ok || v.Kind() != workflows.KindNumber {
				continue
			}
			if r.Seeds == nil {
				r.Seed, r.Seeds = json.RawMessage(v.Raw()), map[string]json.RawMessage{}
			}
			r.Seeds[n.ID+"."+name] = json.RawMessage(v.Raw())
		}
	}
}

// each calls f for everything that the nodes showed, in the order of their ids and words.
func (r storedResult) each(f func(node, kind string, item json.RawMessage)) {
	for _, node := range sortedIDs(r.Outputs) {
		for _, kind := range sortedIDs(r.Outputs[node]) {
			var items []json.RawMessage
			if json.Unmarshal(r.Outputs[node][kind], &items) != nil {
				continue
			}
			for _, item := range items {
				f(node, kind, item)
			}
		}
	}
}

func (s *Server) resultOutputs(ctx context.Context, stored storedResult) []resultOutput {
	list := []resultOutput{}
	stored.each(func(node, kind string, item json.RawMessage) {
		o, ref := newResultOutput(resultOutput{Node: node, Kind: kind}, item)
		if o.Filename != "" {
			s.describe(ctx, &o, ref)
		}
		list = append(list, o)
	})
	return list
}

// newResultOutput reads one thing that a node showed: a file, or a value.
func newResultOutput(o resultOutput, item json.RawMessage) (resultOutput, reference) {
	var ref reference
	if json.Unmarshal(item, &ref) != nil || ref.Filename == "" {
		o.Value = item
		return o, ref
	}
	o.Filename, o.Subfolder, o.Type = ref.Filename, ref.Subfolder, ref.Type
	o.ContentType = harmless(contentType(ref.Filename))
	query := url.Values{"filename": {ref.Filename}, "subfolder": {ref.Subfolder}, "type": {ref.Type}}
	o.URL = "/view?" + query.Encode()
	return o, ref
}

// describe adds what only the file itself tells. If that is gone its name is still told.
func (s *Server) describe(ctx context.Context, o *resultOutput, ref reference) {
	stored, err := s.outputs.identify(s, ref)
	if err != nil && s.fetchCopy(ctx, ref) {
		stored, err = s.outputs.identify(s, ref)
	}
	if err == nil {
		o.Size, o.SHA256 = stored.size, stored.digest
		o.ContentURL = "/outputs/sha256/" + stored.digest
	}
}

// sortedIDs sorts keys as numbers where they are numbers: node 10 comes after node 9.
func sortedIDs[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if len(a) != len(b) && digits(a) && digits(b) {
			return len(a) - len(b)
		}
		if a < b {
			return -1
		}
		return 1
	})
	return keys
}

func digits(s string) bool {
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return s != ""
}

// problem is the error among the messages of a result; nil: there is none.
func (r storedResult) problem() *resultError {
	for _, m := range r.Status.Messages {
		var pair [2]json.RawMessage
		var kind string
		var data struct {
			Node    string `json:"node_id"`
			Class   string `json:"node_type"`
			Message string `json:"exception_message"`
		}
		if json.Unmarshal(m, &pair) != nil || json.Unmarshal(pair[0], &kind) != nil || json.Unmarshal(pair[1], &data) != nil {
			continue
		}
		switch kind {
		case "execution_error":
			return &resultError{kind, data.Message, data.Node, data.Class}
		case "execution_interrupted":
			return &resultError{kind, "the prompt was interrupted", data.Node, data.Class}
		}
	}
	return nil
}
