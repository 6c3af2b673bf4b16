package check

import (
	"context"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// withStandIns returns a workflow and a catalogue in which unknown classes are known to take and give anything, so that a
// node of one does not hide what is wrong before and behind it. Nothing is made where all classes are known.
func (r *report) withStandIns(g *workflows.Graph) (*workflows.Graph, *engine.Catalog) {
	types := map[string]*engine.NodeType{}
	for _, n := range g.Nodes() {
		if _, known := r.checker.Catalog.Type(n.Class); !known {
			types[classOf(n)] = standIn(classOf(n))
		}
	}
	if len(types) == 0 {
		return g, r.checker.Catalog
	}
	g = g.Clone()
	catalog := engine.NewCatalog()
	for _, t := range r.checker.Catalog.Types() {
		catalog.AddType(t)
	}
	slots := map[string]int{}
	for _, n := range g.Nodes() {
		n.Class = classOf(n)
		for _, m := range n.Inputs {
			if l, ok := m.Value.Link(); ok && g.Node(l.Node) != nil && l.Slot < maxSlots {
				class := classOf(g.Node(l.Node))
				slots[class] = max(slots[class], l.Slot+1)
			}
		}
	}
	for class, t := range types {
		t.Outputs = make([]engine.Output, slots[class])
		for i := range t.Outputs {
			t.Outputs[i].Kind = engine.KindAny
		}
		catalog.AddType(t)
	}
	return g, catalog
}

// maxSlots bounds the outputs that a node of an unknown class may have.
const maxSlots = 1000

// classOf is the class of a node; "?" of one that has none.
func classOf(n *workflows.Node) string {
	if n.Class == "" {
		return "?"
	}
	return n.Class
}

// standIn is a type that takes whatever is linked. It is an output, since it may be one.
func standIn(class string) *engine.NodeType {
	return &engine.NodeType{
		Class: class, IsOutput: true, Rest: true,
		Call: func(context.Context, *engine.Args) (engine.Returned, error) {
			return engine.Returned{}, engine.ErrNoCode
		},
	}
}
