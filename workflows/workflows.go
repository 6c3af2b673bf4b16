// Package workflows reads and writes ComfyUI workflows. It knows their text and
// nothing of what their nodes do.
//
// A [Graph] is a set of nodes in the order of the file. A [Node] has an id, a
// class and named inputs. An input holds a [Value], which is either a literal or
// a [Link] to one output slot of another node. A value is kept as the JSON text
// it was written in, so that a seed of 64 bits or a 7.0 survives unchanged.
//
// The API format is the one that ComfyUI's POST /prompt takes:
//
//	{"3": {"class_type": "KSampler", "inputs": {"seed": 5, "model": ["4", 0]}, "_meta": {"title": "Sampler"}}}
//
// The UI format is the one that its editor saves, with lists of nodes and links.
package workflows

import (
	"fmt"
	"slices"
)

// Graph is a workflow: nodes in the order of the file, each with an id of its
// own. The zero Graph is empty and ready to use.
type Graph struct {
	nodes []*Node
	byID  map[string]*Node
}

// Node is one step of a workflow.
type Node struct {
	// ID names the node within its graph; any text, such as "3" or "12:7".
	ID string
	// Class is the node type, such as "KSampler". It is empty when the file does
	// not say.
	Class string
	// Title is the name given by the author (_meta.title), or empty.
	Title string
	// Inputs are the literals and links by name. Nil means that the file has no
	// "inputs" at all.
	Inputs Object
	// Meta holds the members of _meta other than the title.
	Meta Object
	// Extra holds the members of the node that this package has no field for,
	// such as "is_changed".
	Extra Object
}

// Link points to an output of a node.
type Link struct {
	Node string
	Slot int
}

// Member is a named value of an object.
type Member struct {
	Key   string
	Value Value
}

// Object is a list of members with distinct keys, in the order of the file.
type Object []Member

// Get returns the value of a key and whether there is one.
func (o Object) Get(key string) (Value, bool) {
	for _, m := range o {
		if m.Key == key {
			return m.Value, true
		}
	}
	return Value{}, false
}

// Keys returns the keys in order.
func (o Object) Keys() []string {
	keys := make([]string, len(o))
	for i, m := range o {
		keys[i] = m.Key
	}
	return keys
}

// Set replaces the value of a key, or appends it.
func (o *Object) Set(key string, v Value) {
	for i := range *o {
		if (*o)[i].Key == key {
			(*o)[i].Value = v
			return
		}
	}
	*o = append(*o, Member{key, v})
}

// Delete removes a key, if it is there.
func (o *Object) Delete(key string) {
	*o = slices.DeleteFunc(*o, func(m Member) bool { return m.Key == key })
}

// Nodes returns the nodes in the order of the file. The list must not be
// changed; the nodes may.
func (g *Graph) Nodes() []*Node { return g.nodes }

// Len returns the number of nodes.
func (g *Graph) Len() int { return len(g.nodes) }

// Node returns the node with an id, or nil.
func (g *Graph) Node(id string) *Node { return g.byID[id] }

// Add appends a node. Its id must be new, and must not change afterwards.
func (g *Graph) Add(n *Node) error {
	if g.byID[n.ID] != nil {
		return fmt.Errorf("add node %q: the graph has this id already", n.ID)
	}
	if g.byID == nil {
		g.byID = map[string]*Node{}
	}
	g.nodes = append(g.nodes, n)
	g.byID[n.ID] = n
	return nil
}

// Remove takes a node out, if it is there. Links to it stay as they are.
func (g *Graph) Remove(id string) {
	delete(g.byID, id)
	g.nodes = slices.DeleteFunc(g.nodes, func(n *Node) bool { return n.ID == id })
}

// Clone returns a copy that shares nothing that can change.
func (g *Graph) Clone() *Graph {
	c := &Graph{nodes: make([]*Node, 0, len(g.nodes)), byID: make(map[string]*Node, len(g.nodes))}
	for _, n := range g.nodes {
		m := *n
		m.Inputs, m.Meta, m.Extra = slices.Clone(n.Inputs), slices.Clone(n.Meta), slices.Clone(n.Extra)
		c.nodes = append(c.nodes, &m)
		c.byID[m.ID] = &m
	}
	return c
}

// Equal says whether two graphs have the same nodes in the same order, with the
// same members and the same number text.
func (g *Graph) Equal(h *Graph) bool {
	return slices.EqualFunc(g.nodes, h.nodes, func(a, b *Node) bool {
		return a.ID == b.ID && a.Class == b.Class && a.Title == b.Title && (a.Inputs == nil) == (b.Inputs == nil) &&
			slices.Equal(a.Inputs, b.Inputs) && slices.Equal(a.Meta, b.Meta) && slices.Equal(a.Extra, b.Extra)
	})
}
