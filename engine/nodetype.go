package engine

import (
	"context"
	"errors"
	"fmt"
)

// NodeType is everything the engine knows about a class of nodes, as plain
// data. Add derives it from a Go struct; it may also be written by hand.
type NodeType struct {
	Class    string // ComfyUI's class_type
	Title    string // what a page shows; the class when empty
	Doc      string
	Category string
	Module   string // python_module in object_info; "nodes" when empty

	Inputs  []Input
	Outputs []Output
	Hidden  []Hidden
	Rest    bool // inputs that are not declared reach Call too, when they are linked

	IsOutput     bool // runs although nobody wants its outputs
	InputIsList  bool // called once with whole lists
	Volatile     bool // never the same twice: runs again in every prompt
	Transient    bool // results are not kept from run to run: for types that only expand, as what they expand to is kept
	Device       bool // needs the device for itself: never runs beside another such node
	Experimental bool
	Deprecated   bool
	V3           bool // object_info in the form of ComfyUI's V3 schema

	// Unsupported says why nodes of the type cannot run, when they cannot: the
	// type is listed like others, for programs that expect it in object_info,
	// but a workflow that uses it is refused. Such a type needs no Call.
	Unsupported string

	// Call does the work for one element of each input list.
	Call func(ctx context.Context, a *Args) (Returned, error)
	// Fingerprint is part of the cache key: what the node depends on beside
	// its inputs. It sees literals only. An error means "always changed".
	Fingerprint func(a *Args) (string, error)
	// Validator is a check of the node's own while planning.
	Validator *Validator
	// NeedLazy names the lazy inputs that this call wants evaluated.
	NeedLazy func(ctx context.Context, a *Args) ([]string, error)

	unknown bool // stands in for a class that the catalogue lacks
}

// Input is one declared input of a node type.
type Input struct {
	Name     string
	Kind     string          // a kind's name
	Choices  func() []string // of a combo
	Optional bool
	List     bool // takes the whole list
	Lazy     bool // evaluated only when NeedLazy asks for it
	RawLink  bool // takes the link itself instead of its value
	Loose    bool // a combo that also takes values outside its list

	Default     any // nil: none shown
	Min, Max    Number
	Step, Round Number
	Options     Members // further entries of object_info, in order
	Doc         string
	takes       func(v any) error // whether a value fits the Go field, nil: everything
	linkOnly    bool              // no literal can be its value
}

// Output is one output slot of a node type.
type Output struct {
	Name    string
	Kind    string
	Choices func() []string // of a combo
	List    bool
	Doc     string
}

// HiddenKind says what a hidden input carries, in ComfyUI's words.
type HiddenKind string

// What can be passed to a node without being drawn as an input.
const (
	HiddenPrompt       HiddenKind = "PROMPT"
	HiddenDynPrompt    HiddenKind = "DYNPROMPT"
	HiddenExtraPNGInfo HiddenKind = "EXTRA_PNGINFO"
	HiddenUniqueID     HiddenKind = "UNIQUE_ID"
)

// Hidden is one hidden input.
type Hidden struct {
	Name string
	Kind HiddenKind
}

// Args is what a call gets: for each declared input the list of its values,
// nil when it was not given or not evaluated yet. Every list has one element
// unless the type has InputIsList.
type Args struct {
	Type   *NodeType
	Values [][]any          // in the order of NodeType.Inputs
	Rest   map[string][]any // linked inputs that are not declared
	Hidden HiddenValues
}

// Input is the values of the named input; nil when it is absent.
func (a *Args) Input(name string) []any {
	for i := range a.Type.Inputs {
		if a.Type.Inputs[i].Name == name {
			return a.Values[i]
		}
	}
	return a.Rest[name]
}

// Returned is what a call returns: one value per output (a List's elements as
// []any; a Blocker keeps consumers from running), what a page shows, and
// nodes that take over the work.
type Returned struct {
	Values []any
	UI     UI
	Expand *Expand
}

// UI is what an output node tells the page, such as the images it wrote:
// {"images": [{filename, subfolder, type}]}.
type UI map[string][]any

func (t *NodeType) check() []error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{t.Class}, args...)...))
	}
	if t.Call == nil && t.Unsupported == "" {
		errs = append(errs, fmt.Errorf("%s: %w", t.Class, errors.New("has no function to call")))
	}
	seen := map[string]bool{}
	for _, in := range t.Inputs {
		if seen[in.Name] {
			fail("input %q is declared twice", in.Name)
		}
		seen[in.Name] = true
		if in.Lazy && t.NeedLazy == nil {
			fail("input %q is lazy, but nothing says when it is needed", in.Name)
		}
	}
	return append(errs, t.checkValidator(seen)...)
}

func (t *NodeType) checkValidator(inputs map[string]bool) []error {
	if t.Validator == nil {
		return nil
	}
	var errs []error
	for _, name := range t.Validator.Inputs {
		if !inputs[name] {
			errs = append(errs, fmt.Errorf("%s: the validator names %q, which is no input", t.Class, name))
		}
	}
	return errs
}
