package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/library"
	"github.com/comfyrun/comfyrun/workflows"
)

// callState is what the routes of named workflows and results keep between requests.
type callState struct {
	library      *library.Library // nil: no workflows are named
	stopWatching func()
	outputs      outputIndex
	offered      *Condition // of readiness; nil: nobody asks
}

// namedRoutes registers the named workflows, and what one call can wait for.
func (s *Server) namedRoutes() {
	api := s.api()
	api.get("/workflows", read, s.listNamed)
	api.get("/workflows/:name", read, s.describeNamed)
	api.get("/workflows/:name/schema", read, s.namedSchema)
	api.post("/workflows/:name", submit, s.callNamed)
	api.get("/prompts", read, s.listPrompts)
	api.get("/prompt/:id", read, s.promptByID)
	api.get("/prompt/:id/workflow", read, s.promptWorkflow)
	api.get("/outputs/sha256/:digest", read, s.outputByDigest)
}

// openLibrary reads the named workflows and watches them until the server is closed.
func (s *Server) openLibrary() error {
	if s.Workflows == "" {
		s.stopWatching = func() {}
		return nil
	}
	s.library = library.New(s.Workflows, s.Catalog)
	changes, err := s.library.Scan()
	if err != nil {
		return fmt.Errorf("open named workflows: %w", err)
	}
	if s.Ready != nil {
		s.offered = s.Ready.Expect("named workflows read")
	}
	s.logChanges(changes, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.library.Watch(ctx, 0, s.logChanges)
	}()
	s.stopWatching = func() {
		cancel()
		<-done
	}
	return nil
}

func (s *Server) logChanges(changes []library.Change, err error) {
	if err != nil {
		s.Log.Error("named workflows cannot be read; those known stay", "err", err)
	}
	for _, c := range changes {
		switch {
		case c.Removed:
			s.Log.Info("named workflow removed", "name", c.Name)
		case c.Err != nil:
			s.Log.Error("named workflow refused", "name", c.Name, "digest", c.Newest, "still_offered", c.Workflow != nil, "err", c.Err)
		default:
			s.Log.Info("named workflow offered", "name", c.Name, "digest", c.Newest, "parameters", len(c.Workflow.Params))
		}
	}
	if s.offered != nil {
		s.offered.set(true, s.workflowNote())
	}
}

// workflowNote is what readiness says of workflows that do not check. They make nothing unready: a mistake in one file must
// not take a service down that goes on with the version before it.
func (s *Server) workflowNote() string {
	n := len(s.workflowProblems())
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d do not check; GET /workflows says why", n)
}

// workflowProblems lists what keeps named workflows from being offered as their files are; each is one line.
func (s *Server) workflowProblems() []string {
	if s.library == nil {
		return nil
	}
	return s.library.Problems()
}

// namedEntry is a named workflow as lists show it. With an error the newest version does not check: digest and parameters
// are those of the version that is still offered, or absent.
type namedEntry struct {
	Name        string          `json:"name"`
	Title       string          `json:"title"`
	Description string          `json:"description"`
	Digest      string          `json:"digest,omitempty"`
	URL         string          `json:"url"`
	Parameters  []string        `json:"parameters"`
	Schema      *engine.Members `json:"schema,omitempty"`
	Newest      string          `json:"newest,omitempty"` // digest of the version that does not check
	Error       string          `json:"error,omitempty"`
}

func newNamedEntry(e library.Entry, schema bool) namedEntry {
	n := namedEntry{Name: e.Name, Title: e.Name, URL: "/workflows/" + url.PathEscape(e.Name), Parameters: []string{}}
	if e.Err != nil {
		n.Error, n.Newest = e.Err.Error(), e.Newest
	}
	w := e.Workflow
	if w == nil {
		return n
	}
	n.Title, n.Description, n.Digest = w.Title, w.Description, w.Digest
	for _, p := range w.Params {
		n.Parameters = append(n.Parameters, p.Name)
	}
	if schema {
		m := w.Schema()
		n.Schema = &m
	}
	return n
}

func (s *Server) listNamed(c *gin.Context) {
	list := []namedEntry{}
	if s.library != nil {
		for _, e := range s.library.List() {
			list = append(list, newNamedEntry(e, false))
		}
	}
	s.answerJSON(c, http.StatusOK, gin.H{"workflows": list})
}

// namedFor finds the workflow that a request names, or answers that it cannot be had.
func (s *Server) namedFor(c *gin.Context) (library.Entry, bool) {
	name := c.Param("name")
	if s.library != nil {
		if e, ok := s.library.Get(name); ok {
			return e, true
		}
	}
	s.deny(c, http.StatusNotFound, "workflow_not_found", fmt.Sprintf("there is no workflow %q; GET /workflows lists them", name))
	return library.Entry{}, false
}

func (s *Server) describeNamed(c *gin.Context) {
	if e, ok := s.namedFor(c); ok {
		c.Header("Cache-Control", noCache)
		if e.Workflow != nil {
			c.Header("ETag", `"`+e.Workflow.Digest+`"`)
		}
		s.answerJSON(c, http.StatusOK, newNamedEntry(e, true))
	}
}

func (s *Server) namedSchema(c *gin.Context) {
	e, ok := s.namedFor(c)
	switch {
	case !ok:
	case e.Workflow == nil:
		s.deny(c, http.StatusServiceUnavailable, "workflow_refused", e.Err.Error())
	default:
		data, err := asciiJSON(e.Workflow.Schema())
		if err != nil {
			s.answerTrouble(c, err)
			return
		}
		answerBytes(c, http.StatusOK, "application/schema+json", data)
	}
}

// callNamed answers POST /workflows/NAME: it fills the workflow, submits it, and waits if the client does.
func (s *Server) callNamed(c *gin.Context) {
	e, ok := s.namedFor(c)
	if !ok {
		return
	}
	w := e.Workflow
	switch match := c.GetHeader("If-Match"); {
	case w == nil:
		s.deny(c, http.StatusServiceUnavailable, "workflow_refused", e.Err.Error())
		return
	case match != "" && match != "*" && !strings.Contains(match, `"`+w.Digest+`"`):
		s.deny(c, http.StatusPreconditionFailed, "workflow_changed", fmt.Sprintf("the workflow offered now has the digest %s", w.Digest))
		return
	}
	wait, err := readWaiting(c.Request)
	if err != nil {
		s.deny(c, http.StatusBadRequest, "invalid_query", err.Error())
		return
	}
	values, pictures, err := readValues(c.Request, w)
	if err != nil {
		s.refuseCall(c, err)
		return
	}
	filled, err := w.Fill(values)
	if err == nil {
		err = s.storePictures(pictures)
	}
	if err != nil {
		s.refuseCall(c, err)
		return
	}
	s.submitNamed(c, newCall(w, filled, wait))
}

// refuseCall answers for values that cannot be taken.
func (s *Server) refuseCall(c *gin.Context, err error) {
	var values *library.ValuesError
	var call callError
	switch {
	case errors.As(err, &values):
		s.answerJSON(c, http.StatusBadRequest, valuesAnswer(values))
	case errors.As(err, &call):
		s.deny(c, call.status, call.kind, call.Error())
	default:
		s.answerTrouble(c, err)
	}
}

// callError is a call whose body cannot be read.
type callError struct {
	status int
	kind   string
	err    error
}

// Error is what is wrong.
func (e callError) Error() string { return e.err.Error() }

func valuesAnswer(e *library.ValuesError) any {
	parameters := engine.Members{}
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Param + ": " + p.Message
		about := engine.Members{{Key: "type", Value: p.Kind}, {Key: "message", Value: p.Message}}
		if p.Allowed != nil {
			about = append(about, engine.Member{Key: "allowed", Value: p.Allowed})
		}
		parameters = append(parameters, engine.Member{Key: p.Param, Value: about})
	}
	return engine.Members{
		{Key: "error", Value: engine.Members{
			{Key: "type", Value: "invalid_parameters"},
			{Key: "message", Value: "The parameters of workflow " + e.Workflow + " do not fit"},
			{Key: "details", Value: strings.Join(lines, "\n")}, {Key: "extra_info", Value: gin.H{}},
		}},
		{Key: "node_errors", Value: gin.H{}}, {Key: "parameters", Value: parameters},
	}
}

// calledAnswer is the answer to a call that does not wait: the one of POST /prompt, and what was called with what.
type calledAnswer struct {
	accepted
	Workflow   *calledWorkflow `json:"workflow,omitempty"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
}

// submitNamed puts a filled workflow on the queue as POST /prompt does. A repeated call (by its Idempotency-Key) is told
// where the first one stands, whose seed may be another.
func (s *Server) submitNamed(c *gin.Context, call namedCall) {
	extra, err := json.Marshal(call.extra)
	if err != nil {
		s.answerTrouble(c, fmt.Errorf("encode call: %w", err))
		return
	}
	graph := workflows.Encode(call.graph)
	if err := s.checkSize(graph); err != nil {
		s.refuse(c, err)
		return
	}
	fields := bodyFields{"prompt": graph, "extra_data": extra}
	for query, member := range map[string]string{"client_id": "client_id", "prompt_id": "prompt_id", "number": "number"} {
		if text, ok := c.GetQuery(query); ok {
			fields[member], _ = json.Marshal(text) // a string
		}
	}
	if front := c.Query("front"); front == "true" || front == "1" {
		fields["front"] = json.RawMessage("true")
	}
	p, plan, err := s.readPrompt(c.Request.Context(), fields)
	p.IdempotencyKey = c.GetHeader("Idempotency-Key")
	if err != nil {
		s.refuse(c, err)
		return
	}
	receipt, err := s.submitPrompt(c, p)
	if err != nil {
		s.refuse(c, err)
		return
	}
	s.tellStatus(receipt.ID)
	if call.wait.For > 0 || receipt.Duplicate {
		s.answerPrompt(c, receipt.ID, call.wait)
		return
	}
	c.Header("Location", promptURL(receipt.ID))
	answer := accepted{receipt.ID, numberText(receipt.Number, receipt.Assigned), nodeErrors(plan.Invalid)}
	s.answerJSON(c, http.StatusOK, calledAnswer{answer, &call.extra.Called.calledWorkflow, call.extra.Called.Parameters})
}

// namedCall is a call whose parameters fit.
type namedCall struct {
	graph *workflows.Graph
	extra namedExtra
	wait  waiting
}

// namedExtra is the extra_data of a prompt that a named workflow became.
type namedExtra struct {
	Called calledExtra `json:"comfyrun"`
}

func newCall(w *library.Workflow, f *library.Filled, wait waiting) namedCall {
	called := calledExtra{calledWorkflow{w.Name, w.Digest}, json.RawMessage(workflows.ObjectValue(f.Values).Raw())}
	return namedCall{f.Graph, namedExtra{called}, wait}
}
