package engine

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
)

// ErrorKind says what is wrong, in ComfyUI's own words.
type ErrorKind string

// What can be wrong with a workflow as a whole (InvalidError.Kind).
const (
	NoPrompt         ErrorKind = "no_prompt"
	NoOutputs        ErrorKind = "prompt_no_outputs"
	MissingNodeType  ErrorKind = "missing_node_type"     // also of a node
	UnsupportedType  ErrorKind = "unsupported_node_type" // of a node; the workflow's is MissingNodeType
	OutputsFailed    ErrorKind = "prompt_outputs_failed_validation"
	InputMissing     ErrorKind = "required_input_missing"
	BadLink          ErrorKind = "bad_linked_input"
	TypeMismatch     ErrorKind = "return_type_mismatch"
	InvalidType      ErrorKind = "invalid_input_type"
	TooSmall         ErrorKind = "value_smaller_than_min"
	TooBig           ErrorKind = "value_bigger_than_max"
	NotInList        ErrorKind = "value_not_in_list"
	CustomFailed     ErrorKind = "custom_validation_failed"
	ValidationBroke  ErrorKind = "exception_during_validation"       // at an output node
	InnerBroke       ErrorKind = "exception_during_inner_validation" // further up
	DependencyCycle  ErrorKind = "dependency_cycle"                  // also while running, by expansions
	ExecutionFailed  ErrorKind = "execution_error"
	ExecutionBlocked ErrorKind = "execution_blocked"
	Interrupted      ErrorKind = "execution_interrupted"
)

// ErrInterrupted is what a node returns that stops the whole prompt without
// having failed.
var ErrInterrupted = errors.New("interrupted")

// NodeError is something wrong with one node, found while planning or while
// running.
type NodeError struct {
	Node  string // id
	Class string
	Input string // empty: the node as a whole
	Kind  ErrorKind
	Err   error // what is wrong and what was allowed, in our words

	// Of planning: what ComfyUI's JSON holds as details and extra_info, and
	// the outputs that cannot run because of it.
	Details string
	Extra   Members
	Outputs []string

	// Of running: the nodes that a page shows for a node made by an
	// expansion, the class of the real one, and what the call was given.
	Display, Real string
	RealClass     string
	Inputs        map[string][]any
}

// Error names node, class and input; of a node made by an expansion also the
// node of the workflow behind it.
func (e *NodeError) Error() string {
	var b strings.Builder
	if e.Real != "" && e.Real != e.Node {
		fmt.Fprintf(&b, "node %s (%s), in its ", e.Real, e.RealClass)
	}
	fmt.Fprintf(&b, "node %s", e.Node)
	if e.Class != "" {
		fmt.Fprintf(&b, " (%s)", e.Class)
	}
	if e.Input != "" {
		fmt.Fprintf(&b, ", input %s", e.Input)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

// Unwrap is the cause.
func (e *NodeError) Unwrap() error { return e.Err }

// InvalidError is why a workflow, or some of its outputs, cannot run: all
// mistakes at once, in the order of the nodes.
type InvalidError struct {
	Kind   ErrorKind
	Errors []*NodeError
}

// Error lists all mistakes, one a line.
func (e *InvalidError) Error() string {
	lines := []string{map[ErrorKind]string{
		NoPrompt: "there is no workflow", NoOutputs: "no output node is to run",
		MissingNodeType: "the workflow uses unknown node types", OutputsFailed: "the workflow is not valid",
	}[e.Kind]}
	for _, err := range e.Errors {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap is the single mistakes.
func (e *InvalidError) Unwrap() []error {
	out := make([]error, len(e.Errors))
	for i, err := range e.Errors {
		out[i] = err
	}
	return out
}

// InputError is a value that does not fit the Go field of an input.
type InputError struct {
	Input string
	Err   error
}

// Error names the input.
func (e *InputError) Error() string { return fmt.Sprintf("input %s: %v", e.Input, e.Err) }

// Unwrap is the cause.
func (e *InputError) Unwrap() error { return e.Err }

// PanicError is a panic in a node's own code, caught at the engine's border.
type PanicError struct {
	Value any
	Stack []byte
}

// Error is the panic's value.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap is the value where that is an error.
func (e *PanicError) Unwrap() error { err, _ := e.Value.(error); return err }

// catch turns a panic of f into an error.
func catch(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// nearest is the name most like s, for messages; empty when none is close.
func nearest(s string, names []string) string {
	best, at := "", min(len(s), len(s)/2+2)
	for _, n := range names {
		if d := distance(strings.ToLower(s), strings.ToLower(n), at); d < at {
			best, at = n, d
		}
	}
	return best
}

// distance is Levenshtein's in bytes; limit when it is that much or more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
