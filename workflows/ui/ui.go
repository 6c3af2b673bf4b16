// Package ui reads workflows as ComfyUI's editor saves them and converts them to the graph that the API format holds.
//
// The editor's file is a drawing. It has nodes with slots, which are places for links, and widgets, which are boxes for
// values. A node's values stand in a list without names, so that only the definition of its class tells which value
// belongs to which widget. [Definitions] supplies classes; [ParseObjectInfo] reads them from ComfyUI's object_info.
//
// A part of the drawing has no counterpart in the graph. Virtual nodes (Note, Reroute, PrimitiveNode, SetNode, GetNode)
// disappear: links lead through them. A subgraph is a graph of its own that stands in the drawing as one node, its
// instance; instances disappear too, and the nodes inside get ids such as "12:7". A promoted widget is a widget of the
// instance that gives its value to a widget inside. A muted node is left out, a bypassed one passes its inputs on to its
// outputs by type.
//
//	w, err := ui.Parse(data)
//	graph, warnings, err := w.Convert(definitions, ui.Options{})
//
// Conversion does what the editor's own export does, with two exceptions: integers keep all of their digits, and where a
// value does not fit the widget that its place gives it to, conversion is refused by an [Error] that names the widget,
// because the file was saved for another version of the class and every later value may be in a wrong place too.
package ui

import (
	"fmt"
	"time"

	"github.com/comfyrun/comfyrun/workflows"
)

// The limits of a conversion. A small file can stand for a large graph, since subgraphs may hold subgraphs.
const (
	MaxNodes    = workflows.MaxNodes // nodes of the graph, those inside of subgraphs included
	MaxNesting  = 32                 // subgraphs in subgraphs
	MaxOutput   = 256 << 20          // bytes of values in the graph
	maxWork     = 5_000_000          // units of conversion.spend
	maxChain    = 100_000            // virtual nodes between an input and its source
	maxWarnings = 1000
)

// Options say how to convert. The zero value is right for most.
type Options struct {
	// Random expands {a|b} in the texts that the editor would expand; it returns numbers from 0 up to 1. Nil leaves
	// the texts as they are.
	Random func() float64
	// Now replaces %date:…% in file names; the zero time leaves it as it is.
	Now time.Time
	// LikePage gives what the editor gives even where it is known to be wrong: values by position, whatever they
	// are.
	LikePage bool
}

// Warning is something in a workflow that its author may want to know.
type Warning struct {
	Node, Class string
	Input       string // of the node, or empty
	Text        string
}

// String names the node and the input.
func (w Warning) String() string { return where(w.Node, w.Class, w.Input) + w.Text }

// Error is why a workflow cannot be converted.
type Error struct {
	Node, Class string // empty where it is no matter of one node
	Input       string // the widget or slot; may be empty
	Text        string // what was found and what was expected
}

// Error names the node and the input.
func (e *Error) Error() string {
	return "convert workflow: " + where(e.Node, e.Class, e.Input) + e.Text
}

func where(node, class, input string) string {
	s := ""
	if node != "" {
		s = "node " + node
		if class != "" {
			s += " (" + class + ")"
		}
		if input != "" {
			s += ", input " + input
		}
		s += ": "
	}
	return s
}

// Is reports whether data is JSON of the form that the editor saves.
func Is(data []byte) bool {
	v, err := workflows.ParseValue(data)
	return err == nil && isUI(v)
}

func isUI(v workflows.Value) bool {
	top, _ := v.Object()
	nodes, _ := top.Get("nodes")
	links, _ := top.Get("links")
	return nodes.Kind() == workflows.KindList && links.Kind() == workflows.KindList
}

// Read returns the graph of a workflow in either format, or of a picture that carries one. The prompt in a picture is
// what was run and comes first; without it the drawing is converted.
func Read(data []byte, d Definitions, o Options) (*workflows.Graph, []Warning, error) {
	if workflows.IsPicture(data) {
		embedded, err := workflows.FromPicture(data)
		if err != nil {
			return nil, nil, err
		}
		if data = embedded.Prompt; data == nil {
			data = embedded.Workflow
		}
	}
	v, err := workflows.ParseValue(data)
	if err != nil || !isUI(v) {
		g, err := workflows.Parse(data)
		return g, nil, err
	}
	w, err := fromValue(v)
	if err != nil {
		return nil, nil, err
	}
	return w.Convert(d, o)
}

func refuse(r *record, input, format string, args ...any) error {
	return &Error{Node: r.id, Class: r.n.class, Input: input, Text: fmt.Sprintf(format, args...)}
}
