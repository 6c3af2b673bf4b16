package engine

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/workflows"
)

// Expand is a graph of new nodes that takes over the work of the node that
// returned it. Once these have run, their results stand for the node's own.
type Expand struct {
	prefix string
	nodes  []*Expanded
	values []any
}

// Inputs are the inputs of a new node by name: a link (workflows.Link or the
// Out of another new node), or a literal: any Go value of the input's kind.
type Inputs map[string]any

// Expanded is one new node.
type Expanded struct {
	ID      string
	Class   string
	Inputs  Inputs
	Display string // the node that a page shows as running; empty: the parent
}

// NewExpand starts an expansion of the node whose function runs with ctx. Ids
// of its nodes are the parent's id, the number of the call, the number of the
// expansion in that call, and the node's own number: 3.0.0.1.
func NewExpand(ctx context.Context) *Expand {
	return &Expand{prefix: nextPrefix(ctx)}
}

// Node adds a node.
func (e *Expand) Node(class string, inputs Inputs) *Expanded {
	return e.Named(fmt.Sprint(len(e.nodes)+1), class, inputs)
}

// Named adds a node with a local name of its own instead of a number.
func (e *Expand) Named(name, class string, inputs Inputs) *Expanded {
	n := &Expanded{ID: e.prefix + name, Class: class, Inputs: inputs}
	e.nodes = append(e.nodes, n)
	return n
}

// Return says what each output of the expanding node becomes: a link to a new
// node (or an old one), or a value. Without it the function's own values stay.
func (e *Expand) Return(values ...any) *Expand { e.values = values; return e }

// Out is a link to an output of the new node.
func (n *Expanded) Out(slot int) workflows.Link { return workflows.Link{Node: n.ID, Slot: slot} }

// DynPrompt is a hidden input: the nodes of the running prompt, those made by
// expansions included. Nodes that repeat a part of the graph read it.
type DynPrompt interface {
	// Node finds a node by its id; its inputs hold links and literals.
	Node(id string) (Expanded, bool)
	// Parent is the node whose expansion made the node; empty for others.
	Parent(id string) string
}
