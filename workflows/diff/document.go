package diff

import (
	"errors"
	"fmt"
	"slices"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// Document is one version of a workflow.
type Document struct {
	// Name is what to call it, such as the name of its file.
	Name string
	// Drawing is whether it is in the editor's format.
	Drawing bool
	// Sheets are the workflow itself, then the subgraphs by id.
	Sheets []*Sheet
}

// Sheet is a workflow, or a subgraph of one.
type Sheet struct {
	// ID and Name are those of a subgraph; empty for the workflow itself.
	ID, Name string
	// Nodes are in the order of their ids.
	Nodes []*Node
	// Groups are the editor's groups of nodes.
	Groups []Group
	// Settings are all other members that mean something.
	Settings []Named
	view     workflows.Value
	byID     map[string]*Node
}

// Node is a node of a sheet.
type Node struct {
	ID, Class, Title string
	// Label is the class for people: the name of the subgraph for its instances.
	Label string
	// Mode is the editor's: 0 runs, 2 is muted, 4 bypassed.
	Mode int
	// Literals are the values by name, no name twice.
	Literals []Named
	// Inputs are the links by name, no name twice.
	Inputs []Input
	// Outputs are the names of the outputs, as far as the document has them.
	Outputs []string
	// Members are all others that mean something, by path.
	Members []Named
	// Box is the place of the node: left, top, width, height. Placed is whether there is one.
	Box    [4]float64
	Placed bool
	layout string
	slots  string
	port   bool // it stands for the inputs or outputs of a subgraph
	// literalAt and inputAt are where long lists have a name.
	literalAt, inputAt map[string]int
}

// Input is an input with a link.
type Input struct {
	Name string
	From Source
}

// Source is an output of a node of the same sheet.
type Source struct {
	Node string
	Slot int
}

// Group is a frame with a title around nodes.
type Group struct {
	Title  string
	layout string
}

// Node returns the node with an id, or nil.
func (s *Sheet) Node(id string) *Node { return s.byID[id] }

// Literal returns a value of a node by name.
func (n *Node) Literal(name string) (workflows.Value, bool) {
	if n.literalAt != nil {
		i, ok := n.literalAt[name]
		if !ok {
			return workflows.Value{}, false
		}
		return n.Literals[i].Value, true
	}
	return valueOf(n.Literals, name)
}

// Input returns the source of an input by name.
func (n *Node) Input(name string) (Source, bool) {
	if n.inputAt != nil {
		i, ok := n.inputAt[name]
		if !ok {
			return Source{}, false
		}
		return n.Inputs[i].From, true
	}
	for _, in := range n.Inputs {
		if in.Name == name {
			return in.From, true
		}
	}
	return Source{}, false
}

func valueOf(list []Named, name string) (workflows.Value, bool) {
	for _, m := range list {
		if m.Name == name {
			return m.Value, true
		}
	}
	return workflows.Value{}, false
}

// long is the length from which a list has an index of its names.
const long = 12

func (n *Node) index() {
	if len(n.Literals) > long {
		n.literalAt = make(map[string]int, len(n.Literals))
		for i, l := range n.Literals {
			n.literalAt[l.Name] = i
		}
	}
	if len(n.Inputs) > long {
		n.inputAt = make(map[string]int, len(n.Inputs))
		for i, in := range n.Inputs {
			n.inputAt[in.Name] = i
		}
	}
}

// Parse reads a document in either format. Definitions give values of the editor's format their names; they may be nil.
func Parse(data []byte, d ui.Definitions) (*Document, error) {
	g, err := workflows.Parse(data)
	if err == nil {
		return FromGraph(g), nil
	}
	if !errors.Is(err, workflows.ErrUIFormat) {
		return nil, err
	}
	if _, err := ui.Parse(data); err != nil {
		return nil, fmt.Errorf("parse workflow: %w", err)
	}
	v, err := workflows.ParseValue(data)
	if err != nil {
		return nil, fmt.Errorf("parse workflow: %w", err)
	}
	return drawing(v, d), nil
}

// FromGraph makes a document of a graph.
func FromGraph(g *workflows.Graph) *Document {
	s := &Sheet{}
	for _, n := range g.Nodes() {
		m := &Node{ID: n.ID, Class: n.Class, Label: n.Class, Title: n.Title}
		for _, in := range n.Inputs {
			if l, ok := in.Value.Link(); ok {
				m.Inputs = append(m.Inputs, Input{in.Key, Source{l.Node, l.Slot}})
				continue
			}
			m.Literals = append(m.Literals, Named{in.Key, in.Value})
		}
		for _, o := range n.Meta {
			m.Members = append(m.Members, Named{"_meta." + o.Key, o.Value})
		}
		for _, o := range n.Extra {
			m.Members = append(m.Members, Named{o.Key, o.Value})
		}
		if n.Inputs == nil {
			m.Members = append(m.Members, Named{"inputs", workflows.Value{}})
		}
		s.Nodes = append(s.Nodes, m)
	}
	s.finish()
	return &Document{Sheets: []*Sheet{s}}
}

// finish puts everything in order.
func (s *Sheet) finish() {
	slices.SortStableFunc(s.Nodes, func(a, b *Node) int { return workflows.CompareIDs(a.ID, b.ID) })
	s.byID = make(map[string]*Node, len(s.Nodes))
	for _, n := range s.Nodes {
		s.byID[n.ID] = n
		slices.SortStableFunc(n.Members, byName)
		n.index()
	}
	slices.SortStableFunc(s.Settings, byName)
}

func byName(a, b Named) int {
	return workflows.CompareIDs(a.Name, b.Name)
}

// ref names a node for a change.
func (n *Node) ref() *Ref {
	r := &Ref{ID: n.ID, Class: n.Class, Title: n.Title}
	if n.Label != n.Class {
		r.Label = n.Label
	}
	return r
}

// from names a source; one that is not in the sheet has an id only.
func (s *Sheet) from(src Source) *From {
	f := &From{Node: Ref{ID: src.Node}, Slot: src.Slot}
	if n := s.byID[src.Node]; n != nil {
		f.Node = *n.ref()
		if src.Slot >= 0 && src.Slot < len(n.Outputs) {
			f.Output = n.Outputs[src.Slot]
		}
	}
	return f
}

// sheetRef names a subgraph; nil for the workflow itself.
func (s *Sheet) sheetRef() *SheetRef {
	if s.ID == "" {
		return nil
	}
	return &SheetRef{s.ID, s.Name}
}
