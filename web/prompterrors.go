package web

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/workflows"
)

// errTrouble stands for what ComfyUI answers status 500 to, having stumbled over it.
var errTrouble = errors.New("request is of no use")

// apiError is what is wrong with a prompt as a whole, in ComfyUI's words where it has some.
type apiError struct {
	Type    string         `json:"type"`
	Message string         `json:"message"`
	Details string         `json:"details"`
	Extra   engine.Members `json:"extra_info"`
}

// rejection is the answer to a prompt that is not accepted.
type rejection struct {
	Err        apiError       `json:"error"`
	NodeErrors engine.Members `json:"node_errors"`
	status     int
	retry      int // seconds; 0: there is no use
}

// Error is the message.
func (r *rejection) Error() string { return r.Err.Message }

// refused is a rejection of the prompt as a whole.
func refused(kind, message, details string) *rejection {
	return &rejection{Err: apiError{kind, message, details, engine.Members{}}, NodeErrors: engine.Members{}, status: http.StatusBadRequest}
}

// with changes the status, and says when to ask again.
func (r *rejection) with(status, retry int) *rejection {
	r.status, r.retry = status, retry
	return r
}

// refuse answers a prompt that is not accepted.
func (s *Server) refuse(c *gin.Context, err error) {
	if errors.Is(err, errTrouble) {
		answerText(c, http.StatusInternalServerError, trouble)
		return
	}
	r := rejectionOf(err)
	if r.status >= http.StatusInternalServerError {
		s.Log.Error("prompt refused", "request", requestID(c), "err", err)
	}
	if r.retry > 0 {
		c.Header("Retry-After", strconv.Itoa(r.retry))
	}
	s.answerJSON(c, r.status, r)
}

// rejectionOf is the one place where errors become answers to a prompt.
func rejectionOf(err error) *rejection {
	if r, ok := errors.AsType[*rejection](err); ok {
		return r
	}
	if invalid, ok := errors.AsType[*engine.InvalidError](err); ok {
		return invalidPrompt(invalid)
	}
	if full, ok := errors.AsType[*queue.FullError](err); ok {
		return refused("queue_full", "The queue is full", full.Error()).
			with(http.StatusTooManyRequests, int(math.Ceil(max(full.RetryAfter.Seconds(), 1))))
	}
	const soon = 5
	switch {
	case errors.Is(err, queue.ErrInvalid):
		return refused("invalid_prompt", "The queue does not take the prompt", err.Error())
	case errors.Is(err, queue.ErrTooLarge):
		return refused("prompt_too_large", "The prompt is too large for the queue", err.Error()).with(http.StatusRequestEntityTooLarge, 0)
	case errors.Is(err, queue.ErrClosed):
		return refused("shutting_down", "The server is shutting down", "").with(http.StatusServiceUnavailable, soon)
	}
	return refused("queue_unavailable", "The queue cannot be reached", "").with(http.StatusServiceUnavailable, soon)
}

// messages are ComfyUI's words for the kinds of mistakes: type, message and how the message is completed.
var messages = map[engine.ErrorKind]struct {
	text string
	fill func(e *engine.NodeError) []any
}{
	engine.NoPrompt:        {text: "No prompt provided"},
	engine.NoOutputs:       {text: "Prompt has no outputs"},
	engine.OutputsFailed:   {text: "Prompt outputs failed validation"},
	engine.MissingNodeType: {"Cannot execute because node %s does not exist.", func(e *engine.NodeError) []any { return []any{e.Class} }},
	engine.InputMissing:    {text: "Required input is missing"},
	engine.BadLink:         {text: "Bad linked input, must be a length-2 list of [node_id, slot_index]"},
	engine.TypeMismatch:    {text: "Return type mismatch between linked nodes"},
	engine.InvalidType:     {"Failed to convert an input value to a %s value", inputType},
	engine.TooSmall:        {"Value %s smaller than min of %s", func(e *engine.NodeError) []any { return bound(e, "min") }},
	engine.TooBig:          {"Value %s bigger than max of %s", func(e *engine.NodeError) []any { return bound(e, "max") }},
	engine.NotInList:       {text: "Value not in list"},
	engine.CustomFailed:    {text: "Custom validation failed for node"},
	engine.ValidationBroke: {text: "Exception when validating node"},
	engine.InnerBroke:      {text: "Exception when validating inner node"},
	engine.DependencyCycle: {text: "Dependency cycle detected"},
}

// message is what ComfyUI says about a mistake.
func message(e *engine.NodeError) string {
	m := messages[e.Kind]
	switch {
	case m.fill != nil:
		return fmt.Sprintf(m.text, m.fill(e)...)
	case m.text == "":
		return e.Err.Error()
	}
	return m.text
}

// inputType is the type in the declaration of the input.
func inputType(e *engine.NodeError) []any {
	if config, ok := e.Extra.Get("input_config").([]any); ok && len(config) > 0 {
		return []any{config[0]}
	}
	return []any{"?"}
}

// bound is the value and the limit that it breaks.
func bound(e *engine.NodeError, limit string) []any {
	value, of := "?", "?"
	if v, ok := e.Extra.Get("received_value").(workflows.Value); ok && !v.IsNull() {
		value = v.Raw()
	} else { // an infinity, which JSON lacks
		value, _, _ = strings.Cut(e.Err.Error(), " ")
	}
	if config, ok := e.Extra.Get("input_config").([]any); ok && len(config) > 1 {
		if options, ok := config[1].(engine.Members); ok {
			of = fmt.Sprint(options.Get(limit))
		}
	}
	return []any{value, of}
}

// reason is one mistake of a node.
func reason(e *engine.NodeError) engine.Members {
	extra := e.Extra
	if extra == nil {
		extra = engine.Members{}
	}
	return engine.Members{{Key: "type", Value: e.Kind}, {Key: "message", Value: message(e)}, {Key: "details", Value: e.Details},
		{Key: "extra_info", Value: extra}}
}

// invalidPrompt is the answer to a workflow that cannot run.
func invalidPrompt(e *engine.InvalidError) *rejection {
	if e.Kind == engine.MissingNodeType && len(e.Errors) > 0 {
		return refused("invalid_prompt", message(e.Errors[0]), e.Errors[0].Details)
	}
	r := refused(string(e.Kind), messages[e.Kind].text, outputReasons(e))
	r.NodeErrors = nodeErrors(e)
	return r
}

// failedOutputs are the outputs that cannot run, in the order of the workflow.
func failedOutputs(e *engine.InvalidError) []string {
	var out []string
	for _, err := range e.Errors {
		for _, id := range err.Outputs {
			if !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	slices.SortFunc(out, byID)
	return out
}

// byID orders ids as numbers where they are some.
func byID(a, b string) int {
	x, err1 := strconv.Atoi(a)
	y, err2 := strconv.Atoi(b)
	if err1 == nil && err2 == nil && x != y {
		return x - y
	}
	return strings.Compare(a, b)
}

// outputReasons are the mistakes of the output nodes themselves, a line each.
func outputReasons(e *engine.InvalidError) string {
	var lines []string
	for _, id := range failedOutputs(e) {
		for _, err := range e.Errors {
			if err.Node == id {
				lines = append(lines, message(err)+": "+err.Details)
			}
		}
	}
	return strings.Join(lines, "\n")
}

// nodeErrors lists the mistakes by node. Like ComfyUI it names as dependent_outputs every output that failed since the
// mistake was found, also those that do not depend on the node.
func nodeErrors(e *engine.InvalidError) engine.Members {
	out := engine.Members{}
	if e == nil {
		return out
	}
	failed := failedOutputs(e)
	reasons := map[string][]engine.Members{}
	for _, err := range e.Errors {
		reasons[err.Node] = append(reasons[err.Node], reason(err))
	}
	for _, err := range e.Errors {
		if reasons[err.Node] == nil {
			continue
		}
		since := slices.IndexFunc(failed, func(id string) bool { return slices.Contains(err.Outputs, id) })
		out = append(out, engine.Member{Key: err.Node, Value: engine.Members{{Key: "errors", Value: reasons[err.Node]},
			{Key: "dependent_outputs", Value: append([]string{}, failed[max(since, 0):]...)}, {Key: "class_type", Value: err.Class}}})
		reasons[err.Node] = nil
	}
	return out
}
