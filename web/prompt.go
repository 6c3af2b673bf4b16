package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/workflows"
)

// promptRoutes registers what prompts come in by and what shows where they are.
func (s *Server) promptRoutes() {
	api := s.api()
	api.get("/prompt", read, s.getPrompt)
	api.post("/prompt", submit, s.postPrompt)
	api.get("/queue", read, s.getQueue)
	api.post("/queue", submit, s.postQueue)
	api.post("/interrupt", submit, s.interrupt)
	api.post("/free", admin, s.free)
	api.get("/history", read, s.getHistory)
	api.get("/history/:id", read, s.getHistoryEntry)
	api.post("/history", submit, s.postHistory)
	api.get("/object_info", read, s.objectInfo)
	api.get("/object_info/:class", read, s.objectInfoOf)
	s.jobRoutes()
}

// getPrompt says how much is to be done.
func (s *Server) getPrompt(c *gin.Context) {
	s.answerJSON(c, http.StatusOK, gin.H{"exec_info": gin.H{"queue_remaining": s.Queue.Depth()}})
}

// accepted is the answer to a prompt that will run. NodeErrors tells of outputs that cannot, although others can.
type accepted struct {
	ID         string          `json:"prompt_id"`
	Number     json.RawMessage `json:"number"`
	NodeErrors engine.Members  `json:"node_errors"`
}

// postPrompt checks a prompt and puts it on the queue.
func (s *Server) postPrompt(c *gin.Context) {
	data, err := io.ReadAll(c.Request.Body)
	if err != nil {
		answerEmpty(c, http.StatusBadRequest)
		return
	}
	fields, err := readBody(data)
	if err == nil {
		err = s.checkSize(data)
	}
	if err != nil {
		s.refuse(c, err)
		return
	}
	p, plan, err := s.readPrompt(c.Request.Context(), fields)
	p.IdempotencyKey = c.GetHeader("Idempotency-Key")
	if err != nil {
		if p.Number == nil && !errors.Is(err, errNumber) {
			s.Queue.NextNumber() // ComfyUI counts refused prompts too
		}
		s.refuse(c, err)
		return
	}
	s.enqueue(c, p, plan)
}

// enqueue submits a checked prompt and answers with its receipt, or what became of it if the client waits.
func (s *Server) enqueue(c *gin.Context, p queue.Prompt, plan *engine.Plan) {
	wait, err := readWaiting(c.Request)
	if err != nil {
		s.deny(c, http.StatusBadRequest, "invalid_query", err.Error())
		return
	}
	if wait.For == 0 {
		defer s.hub.pause(p.ClientID)()
	}
	receipt, err := s.submitPrompt(c, p)
	if err != nil {
		s.refuse(c, err)
		return
	}
	s.tellStatus(receipt.ID)
	if wait.For > 0 {
		s.answerPrompt(c, receipt.ID, wait)
		return
	}
	s.answerJSON(c, http.StatusOK, accepted{receipt.ID, numberText(receipt.Number, receipt.Assigned), nodeErrors(plan.Invalid)})
}

// body is the members of a JSON object that a client sent.
type bodyFields map[string]json.RawMessage

// readBody reads the body of a request as ComfyUI does: a list or a text counts as an object without members, and what
// is no JSON at all, null, a number or a truth value makes it stumble.
func readBody(data []byte) (bodyFields, error) {
	switch kindOf(data) {
	case workflows.KindObject:
		var fields bodyFields
		if json.Unmarshal(data, &fields) != nil && json.Unmarshal(quoteBare(data), &fields) != nil {
			return nil, errTrouble
		}
		return fields, nil
	case workflows.KindList, workflows.KindString:
		if json.Valid(data) || json.Valid(quoteBare(data)) {
			return bodyFields{}, nil
		}
	}
	return nil, errTrouble
}

// given reports whether a member is there and not null.
func (f bodyFields) given(key string) bool {
	raw, ok := f[key]
	return ok && kindOf(raw) != workflows.KindNull
}

// true reports whether a member is true in Python's sense.
func (f bodyFields) true(key string) bool {
	raw, ok := f[key]
	return ok && truthy(raw)
}

// readPrompt makes a prompt for the queue of a request's fields. The plan says what was found in checking it. With an
// error the prompt's Number says whether the client gave one.
func (s *Server) readPrompt(ctx context.Context, fields bodyFields) (p queue.Prompt, plan *engine.Plan, err error) {
	if p.Number, err = fields.number(); err != nil {
		return p, nil, err
	}
	p.Front = fields.true("front")
	raw, ok := fields["prompt"]
	if !ok {
		return p, nil, noPrompt(fields)
	}
	if p.ID, err = fields.id(); err != nil {
		return p, nil, err
	}
	targets, err := fields.targets()
	if err != nil {
		return p, nil, err
	}
	graph, exact, err := s.readGraph(raw, s.Catalog())
	if err != nil {
		return p, nil, err
	}
	fetched, err := s.Inputs.Replace(ctx, graph)
	if err != nil {
		return p, nil, err
	}
	if plan, err = s.plan(graph, engine.PlanOptions{Targets: targets}); err != nil {
		return p, nil, err
	}
	if err := s.checkPlan(plan); err != nil {
		return p, nil, err
	}
	for _, step := range plan.Targets {
		p.Targets = append(p.Targets, step.ID)
	}
	p.Graph = raw
	if !exact || fetched || !plan.Graph.Equal(graph) {
		p.Graph = encodeGraph(plan.Graph, graph)
	}
	return p, plan, fields.extra(&p)
}

// plan checks a workflow.
func (s *Server) plan(graph *workflows.Graph, o engine.PlanOptions) (*engine.Plan, error) {
	plan, err := engine.NewPlan(graph, s.Catalog(), o)
	invalid, _ := errors.AsType[*engine.InvalidError](err)
	if err == nil {
		invalid = plan.Invalid
	}
	if invalid != nil && s.Explain != nil {
		s.Explain(invalid)
	}
	return plan, err
}

// noPrompt refuses a body without a prompt; one that is a workflow itself gets a hint.
func noPrompt(fields bodyFields) error {
	const text = "No prompt provided"
	details := text
	if fields.given("nodes") && fields.given("links") {
		details = uiFormat
	}
	return refused(string(engine.NoPrompt), text, details)
}

// targets is what partial_execution_targets names; nil stands for all outputs.
func (f bodyFields) targets() ([]string, error) {
	const key = "partial_execution_targets"
	if !f.given(key) {
		return nil, nil
	}
	var items []any
	if err := json.Unmarshal(f[key], &items); err != nil {
		return nil, refused("invalid_prompt", key+" is no list of node ids.", "")
	}
	targets := []string{}
	for _, item := range items {
		if id, ok := item.(string); ok {
			targets = append(targets, id)
		}
	}
	return targets, nil
}

// id is the prompt's id as text: a number or null becomes what Python makes of it.
func (f bodyFields) id() (string, error) {
	raw, ok := f["prompt_id"]
	if !ok {
		return "", nil
	}
	text, ok := pythonText(raw)
	if !ok {
		return "", refused("invalid_prompt_id", "prompt_id is no text.", "")
	}
	return text, nil
}

// errNumber is a number that none can be made of.
var errNumber = errors.New("number cannot be converted")

// number is the priority that the client asks for, or nil.
func (f bodyFields) number() (*float64, error) {
	raw, ok := f["number"]
	if !ok {
		return nil, nil
	}
	n, ok := pythonFloat(raw)
	if !ok {
		return nil, errors.Join(errNumber, errTrouble)
	}
	return &n, nil
}

// secrets are the members of extra_data that nobody but the worker gets to see.
var secrets = []string{"auth_token_comfy_org", "api_key_comfy_org"}

// extra fills what extra_data holds into the prompt, with the client's id in it.
func (f bodyFields) extra(p *queue.Prompt) error {
	raw := json.RawMessage("{}")
	if f.given("extra_data") {
		raw = bytes.TrimSpace(f["extra_data"])
	}
	if kindOf(raw) != workflows.KindObject {
		return refused("invalid_prompt", "extra_data is no object.", "")
	}
	id, named := f["client_id"]
	switch {
	case holdsOwn(raw):
		return splitExtra(p, raw, id)
	case !named:
		p.Extra = raw
		return nil
	case f.given("client_id"):
		p.ClientID, _ = pythonText(id)
	}
	// The usual case, without taking a workflow apart that may be long.
	p.Extra = slices.Concat(bytes.TrimRight(raw[:len(raw)-1], " \t\r\n"), []byte(`,"client_id":`), id, []byte("}"))
	if empty := raw[1 : len(raw)-1]; len(bytes.TrimSpace(empty)) == 0 {
		p.Extra = slices.Concat([]byte(`{"client_id":`), id, []byte("}"))
	}
	return nil
}

// holdsOwn reports whether extra_data may have members that need care. A key may be written with escapes.
func holdsOwn(raw json.RawMessage) bool {
	for _, key := range append(secrets, "client_id", `\u`) {
		if bytes.Contains(raw, []byte(key)) {
			return true
		}
	}
	return false
}

// splitExtra takes the secrets out of extra_data and sets the client's id, if there is one.
func splitExtra(p *queue.Prompt, raw, id json.RawMessage) error {
	var extra, secret object
	if err := json.Unmarshal(raw, &extra); err != nil {
		return refused("invalid_prompt", "extra_data cannot be read.", err.Error())
	}
	if id != nil {
		extra.set("client_id", id)
	}
	if id = extra.get("client_id"); kindOf(id) != workflows.KindNull {
		p.ClientID, _ = pythonText(id)
	}
	kept := make(object, 0, len(extra))
	for _, m := range extra {
		if slices.Contains(secrets, m.Key) {
			secret = append(secret, m)
		} else {
			kept = append(kept, m)
		}
	}
	if len(secret) > 0 {
		p.Secret, _ = secret.MarshalJSON() // of values that were read
	}
	p.Extra, _ = kept.MarshalJSON()
	return nil
}
