// Package inputs lists the values of a workflow that can be set without changing its graph: which node and input, what
// is there now, and what it takes.
//
// # Vocabulary
//
// An [Input] is a literal of the workflow. Its reference is the text that names it on a command line, NODE.INPUT, where
// NODE is a class or a title that occurs once, or else the node's id; workflows.Graph.Resolve reads it. Inputs that are
// linked, and optional ones that the workflow leaves out, are not listed.
package inputs

import (
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// Input is a value of a workflow that can be set.
type Input struct {
	Set       string          `json:"set"` // the reference, NODE.INPUT
	Node      string          `json:"node"`
	Class     string          `json:"class"`
	Title     string          `json:"title,omitempty"`
	Input     string          `json:"input"`
	Type      string          `json:"type"` // a kind of value, such as INT; of an input that is not known, that of its JSON
	Value     workflows.Value `json:"value"`
	Min       engine.Number   `json:"min,omitzero"`
	Max       engine.Number   `json:"max,omitzero"`
	Step      engine.Number   `json:"step,omitzero"`
	Choices   []string        `json:"choices,omitempty"`
	Loose     bool            `json:"loose,omitempty"` // other values than the choices are taken, too
	Multiline bool            `json:"multiline,omitempty"`
	Doc       string          `json:"doc,omitempty"`
	Known     bool            `json:"known"`               // the catalogue has the input
	Parameter string          `json:"parameter,omitempty"` // of a named workflow
}

// List returns the inputs of a workflow, in the order of the file.
func List(g *workflows.Graph, c *engine.Catalog) []Input {
	list, known := []Input{}, newNames(g)
	for _, n := range g.Nodes() {
		t, _ := c.Type(n.Class)
		for _, m := range n.Inputs {
			v, wrapped := m.Value.Unwrap()
			if !wrapped && v.Kind() == workflows.KindList {
				continue
			}
			in := Input{
				Set: known.reference(n, m.Key), Node: n.ID, Class: n.Class, Title: n.Title, Input: m.Key,
				Type: v.Kind().String(), Value: v,
			}
			in.declare(t)
			list = append(list, in)
		}
	}
	return list
}

// declare adds what the class says about an input.
func (in *Input) declare(t *engine.NodeType) {
	if t == nil {
		return
	}
	i := slices.IndexFunc(t.Inputs, func(d engine.Input) bool { return d.Name == in.Input })
	if i < 0 {
		return
	}
	d := &t.Inputs[i]
	in.Known, in.Type, in.Doc, in.Loose = true, d.Kind, d.Doc, d.Loose
	in.Min, in.Max, in.Step = d.Min, d.Max, d.Step
	in.Multiline = d.Options.Get("multiline") == true
	if d.Choices != nil {
		in.Choices = d.Choices()
	}
}

// names finds nodes as workflows.Graph.Find does, without looking through all of them each time.
type names struct {
	g               *workflows.Graph
	titles, classes map[string]*workflows.Node // nil for what occurs more than once
}

func newNames(g *workflows.Graph) *names {
	f := &names{g, map[string]*workflows.Node{}, map[string]*workflows.Node{}}
	for _, n := range g.Nodes() {
		for _, by := range []struct {
			name string
			all  map[string]*workflows.Node
		}{{n.Title, f.titles}, {n.Class, f.classes}} {
			if _, taken := by.all[by.name]; taken {
				by.all[by.name] = nil
			} else if by.name != "" {
				by.all[by.name] = n
			}
		}
	}
	return f
}

func (f *names) find(name string) *workflows.Node {
	if n := f.g.Node(name); n != nil {
		return n
	}
	if n, titled := f.titles[name]; titled {
		return n
	}
	return f.classes[name]
}

// reference is the text that names an input of a node: by its class if no other node has it, else by its title, else by
// its id.
func (f *names) reference(n *workflows.Node, input string) string {
	for _, name := range []string{n.Class, n.Title} {
		if name != "" && f.means(name+"."+input, n, input) {
			return name + "." + input
		}
	}
	return n.ID + "." + input
}

// means is whether a reference is resolved to an input of a node: the last dot after which an input follows counts.
func (f *names) means(reference string, n *workflows.Node, input string) bool {
	for dot := strings.LastIndexByte(reference, '.'); dot >= 0; dot = strings.LastIndexByte(reference[:dot], '.') {
		if found := f.find(reference[:dot]); found != nil {
			if _, ok := found.Inputs.Get(reference[dot+1:]); ok {
				return found == n && reference[dot+1:] == input
			}
		}
	}
	return false
}
