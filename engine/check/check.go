// Package check finds what is wrong with workflow files without running them: in either format, and in pictures that
// carry a workflow.
//
// # Vocabulary
//
// A [Finding] is one thing that is wrong, or that its author may want to know, and the place in the file's text where
// it stands. Its kind is ComfyUI's own word where ComfyUI has one; the kinds of this package are for what ComfyUI does
// not tell. An error keeps a workflow from running, a warning does not. A [Checker] knows what workflows are held to:
// node types, model files, a policy. Files are texts here: reading them, and finding model files, is the caller's part.
//
//	c := check.Checker{Catalog: catalog, Definitions: definitions}
//	findings := c.Check("workflow.json", data)
//	err := check.WriteText(os.Stdout, findings)
package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/policy"
	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // the workflow cannot run as it is
	Warning Severity = "warning" // it can
)

// Kinds of findings beside those of package engine and [policy.Violation].
const (
	InvalidJSON       engine.ErrorKind = "invalid_json"       // no JSON
	InvalidWorkflow   engine.ErrorKind = "invalid_workflow"   // JSON, or a picture, without a workflow
	ConversionFailed  engine.ErrorKind = "conversion_failed"  // of the editor's format
	ConversionWarning engine.ErrorKind = "conversion_warning" // the same, and the workflow can run
	ModelMissing      engine.ErrorKind = "model_missing"      // ComfyUI: value_not_in_list
	ModelNotPinned    engine.ErrorKind = "model_not_pinned"   // it is there, but no lock holds it to its content
	NodeUnused        engine.ErrorKind = "node_unused"        // no output needs it
	InputUnknown      engine.ErrorKind = "input_unknown"      // its class does not declare it
)

// Finding is one thing about a workflow file.
type Finding struct {
	File string `json:"file"`
	// Lines and columns count from 1, columns in characters; the end is behind the last one. They are 0 where the
	// file is a picture.
	Line      int              `json:"line,omitzero"`
	Column    int              `json:"column,omitzero"`
	EndLine   int              `json:"end_line,omitzero"`
	EndColumn int              `json:"end_column,omitzero"`
	Severity  Severity         `json:"severity"`
	Kind      engine.ErrorKind `json:"kind"`
	Node      string           `json:"node,omitempty"` // id as in the API format: "12:7" is node 7 of the subgraph that 12 shows
	Class     string           `json:"class,omitempty"`
	Title     string           `json:"title,omitempty"`
	Input     string           `json:"input,omitempty"`
	Message   string           `json:"message"`
	Received  *workflows.Value `json:"received,omitempty"` // the input's value
	Allowed   *Allowed         `json:"allowed,omitempty"`
}

// Allowed is what an input takes.
type Allowed struct {
	Type    string        `json:"type,omitempty"` // a kind of value, such as INT or MODEL
	Choices []string      `json:"choices,omitempty"`
	Min     engine.Number `json:"min,omitzero"`
	Max     engine.Number `json:"max,omitzero"`
}

// Model is something to say about a model file that a node names.
type Model struct {
	Node, Class, Input string
	Severity           Severity
	Kind               engine.ErrorKind // ModelMissing or ModelNotPinned
	Message            string
	Allowed            []string // names that there are
}

// Checker knows what workflows are held to. Only the catalogue is needed. It may be used by several goroutines at a
// time if its functions may.
type Checker struct {
	Catalog *engine.Catalog
	// Definitions are those of the catalogue in the editor's terms; asked for by files in the editor's format.
	Definitions func() (ui.Definitions, error)
	// Unsupported says why a class that is not in the catalogue is not.
	Unsupported func(class string) (reason string, known bool)
	// WriteOut replaces nodes that a workflow defines by what is in them, so that this is checked too.
	WriteOut func(g *workflows.Graph) (*workflows.Graph, error)
	// Models looks at the model files that a workflow names.
	Models func(g *workflows.Graph) ([]Model, error)
	// HasModel says whether there is a model file of a name in whatever folder: it is asked about names that the choices
	// of a node type lack.
	HasModel func(name string) bool
	Policy   *policy.Policy
}

// Check checks one file. The findings are in the order of their places.
func (c *Checker) Check(file string, data []byte) []Finding {
	r := &report{checker: c, file: file}
	g := r.read(data)
	if g != nil {
		r.check(g)
	}
	slices.SortStableFunc(r.findings, func(a, b Finding) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return r.findings
}

// report gathers the findings of one file.
type report struct {
	checker  *Checker
	file     string
	graph    *workflows.Graph
	places   locator
	strange  bool              // a class is unknown
	near     map[string]string // what unknown classes most likely mean
	findings []Finding
}

// read gives the graph of a file; nil where there is none.
func (r *report) read(data []byte) *workflows.Graph {
	picture := workflows.IsPicture(data)
	if picture {
		embedded, err := workflows.FromPicture(data)
		if err != nil {
			r.wrong(InvalidWorkflow, err)
			return nil
		}
		if data = embedded.Prompt; data == nil {
			data = embedded.Workflow
		}
	}
	g, err := workflows.Parse(data)
	drawing := errors.Is(err, workflows.ErrUIFormat)
	if !picture {
		r.places = &placesOf{data: data, drawing: drawing, definitions: r.checker.Definitions}
	}
	switch {
	case drawing:
		return r.convert(data)
	case err != nil:
		r.unreadable(data, err, picture)
		return nil
	}
	return g
}

// unreadable tells text that is no JSON from JSON that is no workflow.
func (r *report) unreadable(data []byte, err error, picture bool) {
	kind := InvalidWorkflow
	if _, broken := workflows.ParseValue(data); broken != nil {
		kind = InvalidJSON
	}
	f := Finding{Severity: Error, Kind: kind, Message: err.Error()}
	if syntax, ok := errors.AsType[*workflows.SyntaxError](err); ok {
		f.Message = syntax.Msg
		if !picture {
			f.Line, f.Column, f.EndLine, f.EndColumn = syntax.Line, syntax.Column, syntax.Line, syntax.Column
		}
	}
	r.add(f)
}

// convert makes a graph of the editor's format.
func (r *report) convert(data []byte) *workflows.Graph {
	var known ui.Definitions
	if r.checker.Definitions != nil {
		var err error
		if known, err = r.checker.Definitions(); err != nil {
			r.wrong(ConversionFailed, err)
			return nil
		}
	}
	w, err := ui.Parse(data)
	var g *workflows.Graph
	var warnings []ui.Warning
	if err == nil {
		g, warnings, err = w.Convert(known, ui.Options{})
	}
	for _, w := range warnings {
		if _, known := r.checker.Catalog.Type(w.Class); known || !strings.HasPrefix(w.Text, unknownClass) {
			r.at(g, Finding{Severity: Warning, Kind: ConversionWarning, Node: w.Node, Class: w.Class, Input: w.Input, Message: w.Text})
		}
	}
	if err == nil {
		return g
	}
	if e, ok := errors.AsType[*ui.Error](err); ok {
		r.at(nil, Finding{Severity: Error, Kind: ConversionFailed, Node: e.Node, Class: e.Class, Input: e.Input, Message: e.Text})
	} else {
		r.wrong(ConversionFailed, err)
	}
	return nil
}

// unknownClass begins a warning of the conversion that checking the graph gives as an error.
const unknownClass = "the class is unknown"

// wrong adds an error that concerns the file as a whole.
func (r *report) wrong(kind engine.ErrorKind, err error) {
	r.at(nil, Finding{Severity: Error, Kind: kind, Message: err.Error()})
}

// at adds a finding with its place: that of the input if there is one, else that of the node, else the beginning.
func (r *report) at(g *workflows.Graph, f Finding) {
	var n *workflows.Node
	if g != nil {
		n = g.Node(f.Node)
	}
	if n != nil {
		f.Title = n.Title
		if v, given := n.Inputs.Get(f.Input); given {
			f.Received = &v
		}
	}
	if r.places != nil {
		span := r.places.locate(f)
		f.Line, f.Column, f.EndLine, f.EndColumn = span.Line, span.Column, span.EndLine, span.EndColumn
	}
	r.add(f)
}

func (r *report) add(f Finding) {
	f.File = r.file
	r.findings = append(r.findings, f)
}

// Text is the finding in words, without its place: which node and input, and what about it.
func (f *Finding) Text() string {
	text := ""
	if f.Node != "" {
		text = "node " + f.Node
		if f.Class != "" {
			text += fmt.Sprintf(" (%s)", f.Class)
		}
	}
	if f.Input != "" {
		text += ", input " + f.Input
	}
	if text != "" {
		text += ": "
	}
	return text + f.Message
}
