package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/comfyrun/comfyrun/engine"
)

// TimeLimitError is why a prompt failed that ran for too long.
type TimeLimitError struct{ Limit time.Duration }

// Error names the limit.
func (e *TimeLimitError) Error() string {
	return fmt.Sprintf("the prompt has not ended within its time limit of %v", e.Limit)
}

// exception is the word that ComfyUI would have for an error: the name of a
// Python exception. An error may bring its own.
func exception(err error) string {
	var own interface{ ExceptionType() string }
	_, late := errors.AsType[*TimeLimitError](err)
	_, invalid := errors.AsType[*engine.InvalidError](err)
	_, input := errors.AsType[*engine.InputError](err)
	switch {
	case errors.As(err, &own):
		return own.ExceptionType()
	case late || errors.Is(err, context.DeadlineExceeded):
		return "TimeoutError"
	case invalid || input:
		return "ValueError"
	}
	return "RuntimeError"
}

// failure is the execution_error of a node, without the time. executed are the
// nodes that finished, all are those of the prompt.
func (x *execution) failure(e *engine.NodeError, executed, all []string) failed {
	var declared []engine.Input
	if t, ok := x.runner.Catalog().Type(e.Class); ok {
		declared = t.Inputs
	}
	f := failed{Prompt: x.prompt, Node: orElse(e.Real, e.Node), Class: orElse(e.RealClass, e.Class), Executed: list(executed),
		Message: e.Err.Error() + "\n", Exception: exception(e.Err), Traceback: []string{e.Error()}, Inputs: inputs(e.Inputs, declared), Outputs: list(all)}
	switch {
	case e.Kind == engine.DependencyCycle:
		f.Exception, f.Message, f.Traceback = "graph.DependencyCycleError", "Dependency cycle detected\n"+e.Err.Error()+"\n", []string{}
	case e.Input != "":
		f.Message = "input " + e.Input + ": " + f.Message
	}
	return f
}

// blocked is the execution_error of a node that did not run, in a prompt that
// goes on.
func blocked(prompt string, e *engine.NodeError, executed []string) failed {
	none := []string{}
	return failed{Prompt: prompt, Node: e.Node, Class: e.Class, Executed: list(executed), Message: "Execution Blocked: " + e.Err.Error(),
		Exception: "ExecutionBlocked", Traceback: none, Inputs: json.RawMessage("[]"), Outputs: none}
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// inputs are the values that a node was given, by input, declared ones first. Of
// what is no plain value only the type is told.
func inputs(values map[string][]any, declared []engine.Input) json.RawMessage {
	out := engine.Members{}
	add := func(name string) {
		shown := make([]any, len(values[name]))
		for i, item := range values[name] {
			shown[i] = describe(item)
		}
		out = append(out, engine.Member{Key: name, Value: shown})
	}
	rest := maps.Clone(values)
	for _, in := range declared {
		if _, ok := rest[in.Name]; ok {
			add(in.Name)
			delete(rest, in.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		add(name)
	}
	return encode(out)
}

const longestInput = 4 << 10 // bytes of a string that are told

func describe(v any) any {
	if v == nil {
		return nil
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Bool:
		return r.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return r.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return r.Uint()
	case reflect.Float32, reflect.Float64:
		return number(r.Float())
	case reflect.String:
		return strings.ToValidUTF8(r.String()[:min(r.Len(), longestInput)], "")
	}
	if n, ok := v.(engine.Number); ok {
		return n
	}
	return fmt.Sprintf("<%T>", v)
}

// nodeErrors is what is wrong with a workflow, node by node, as POST /prompt
// shows it.
func nodeErrors(e *engine.InvalidError) engine.Members {
	var ids []string
	byNode := map[string][]*engine.NodeError{}
	for _, n := range e.Errors {
		if byNode[n.Node] == nil {
			ids = append(ids, n.Node)
		}
		byNode[n.Node] = append(byNode[n.Node], n)
	}
	var out engine.Members
	for _, id := range ids {
		out = append(out, engine.Member{Key: id, Value: errorsOf(byNode[id])})
	}
	return out
}

func errorsOf(list []*engine.NodeError) engine.Members {
	var errs []engine.Members
	outputs := []string{}
	for _, n := range list {
		extra := n.Extra
		if extra == nil {
			extra = engine.Members{}
		}
		errs = append(errs, engine.Members{{Key: "type", Value: n.Kind}, {Key: "message", Value: n.Err.Error()},
			{Key: "details", Value: n.Details}, {Key: "extra_info", Value: extra}})
		for _, id := range n.Outputs {
			if !slices.Contains(outputs, id) {
				outputs = append(outputs, id)
			}
		}
	}
	return engine.Members{{Key: "errors", Value: errs}, {Key: "dependent_outputs", Value: outputs}, {Key: "class_type", Value: list[0].Class}}
}
