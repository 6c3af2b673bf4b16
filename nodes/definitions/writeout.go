package definitions

import (
	"fmt"

	"github.com/comfyrun/comfyrun/workflows"
)

// WriteOut returns a workflow that does the same without defined classes: in place
// of each of their nodes stand the inner ones, with ids such as 12:3 for node 3 of
// node 12. A workflow without defined classes is returned as it is.
func (s *Set) WriteOut(g *workflows.Graph) (*workflows.Graph, error) {
	for s.uses(g) {
		size := 0
		for _, n := range g.Nodes() {
			if size++; s.byClass[n.Class] != nil {
				size += s.byClass[n.Class].size
			}
		}
		if size > workflows.MaxNodes {
			return nil, fmt.Errorf("write out workflow: with what its nodes are defined by, it has %d nodes; %d are allowed", size, workflows.MaxNodes)
		}
		level, err := s.level(g)
		if err != nil {
			return nil, fmt.Errorf("write out workflow: %w", err)
		}
		g = level
	}
	return g, nil
}

func (s *Set) uses(g *workflows.Graph) bool {
	if s == nil {
		return false
	}
	for _, n := range g.Nodes() {
		if s.byClass[n.Class] != nil {
			return true
		}
	}
	return false
}

// level replaces the nodes of defined classes once: inner nodes may be of such
// classes again.
func (s *Set) level(g *workflows.Graph) (*workflows.Graph, error) {
	out := &workflows.Graph{}
	passed := func(v workflows.Value) workflows.Value { return s.passed(g, v) }
	for _, n := range g.Clone().Nodes() {
		c := s.byClass[n.Class]
		nodes := []*workflows.Node{n}
		if c != nil {
			nodes = c.written(n)
		} else {
			relink(n, passed)
		}
		for _, m := range nodes {
			if c != nil {
				c.feed(n, m, passed)
			}
			if err := out.Add(m); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// passed is a value of an input with a link to a defined node led on to the inner
// one.
func (s *Set) passed(g *workflows.Graph, v workflows.Value) workflows.Value {
	link, ok := v.Link()
	if !ok || g.Node(link.Node) == nil {
		return v
	}
	c := s.byClass[g.Node(link.Node).Class]
	if c == nil || link.Slot < 0 || link.Slot >= len(c.def.Outputs) {
		return v
	}
	from := c.def.Outputs[link.Slot].From
	return workflows.LinkValue(workflows.Link{Node: innerID(link.Node, from.Node), Slot: from.Slot})
}

func innerID(outer, inner string) string { return outer + ":" + inner }

func relink(n *workflows.Node, f func(workflows.Value) workflows.Value) {
	for i := range n.Inputs {
		n.Inputs[i].Value = f(n.Inputs[i].Value)
	}
}

// written is the inner nodes of a node, linked among themselves.
func (c *class) written(outer *workflows.Node) []*workflows.Node {
	g := c.def.Workflow.Clone()
	nodes := make([]*workflows.Node, 0, g.Len())
	for _, n := range g.Nodes() {
		n.ID = innerID(outer.ID, n.ID)
		relink(n, func(v workflows.Value) workflows.Value {
			if link, ok := v.Link(); ok {
				return workflows.LinkValue(workflows.Link{Node: innerID(outer.ID, link.Node), Slot: link.Slot})
			}
			return v
		})
		nodes = append(nodes, n)
	}
	return nodes
}

// feed gives an inner node what the inputs of the outer one lead to it.
func (c *class) feed(outer, n *workflows.Node, passed func(workflows.Value) workflows.Value) {
	for at, index := range c.feeds {
		if innerID(outer.ID, at.node) != n.ID {
			continue
		}
		in := &c.def.Inputs[index]
		if v, given := outer.Inputs.Get(in.Name); given {
			n.Inputs.Set(at.input, passed(v))
		} else if !in.Default.IsNull() && in.Optional {
			n.Inputs.Set(at.input, in.Default)
		}
	}
}
