package definitions

import (
	"context"
	"errors"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// A definition is checked by planning trial workflows: its own, with inputs that
// come from anywhere, and one with a node of the new class. So the checks are the
// ones that every workflow passes.

// The classes and ids of trials start with a character that no name has.
const (
	anything = "\x00anything" // a node that gives a value of every kind
	readAll  = "\x00reader"   // an output node that reads whatever is linked to it
)

// trialCatalog is a copy of a catalogue with the classes that trials need.
func trialCatalog(c *engine.Catalog) *engine.Catalog {
	trial := engine.NewCatalog()
	for _, t := range c.Types() {
		trial.AddType(t)
	}
	nothing := func(context.Context, *engine.Args) (engine.Returned, error) { return engine.Returned{}, nil }
	trial.AddType(&engine.NodeType{Class: anything, Call: nothing, Outputs: []engine.Output{{Name: "*", Kind: engine.KindAny}}})
	trial.AddType(&engine.NodeType{Class: readAll, Call: nothing, IsOutput: true, Rest: true})
	return trial
}

// try plans the trials of a class and notes what is wrong.
func (l *declarer) try(c *class) {
	for _, e := range l.plan(c, c.trial(true)) {
		l.blame(c.def, e)
	}
	for _, e := range l.plan(c, c.trial(false)) {
		if _, fed := c.feeds[target{e.Node, e.Input}]; !fed || e.Kind != engine.InputMissing { // else narrowing.optional told
			l.blame(c.def, e)
		}
	}
	for _, e := range l.plan(c, c.defaultTrial()) {
		l.fail(c.def, []string{"inputs", e.Input, "default"}, "input %s: default %w", e.Input, e.Err)
	}
}

// plan returns what is wrong with a trial.
func (l *declarer) plan(c *class, g *workflows.Graph) []*engine.NodeError {
	n := &workflows.Node{ID: readAll, Class: readAll}
	for _, m := range g.Nodes() {
		if t, ok := l.trial.Type(m.Class); ok && len(t.Outputs) > 0 {
			n.Inputs.Set(m.ID, workflows.LinkValue(workflows.Link{Node: m.ID}))
		}
	}
	err := errors.Join(g.Add(n), g.Add(&workflows.Node{ID: anything, Class: anything}))
	if err != nil {
		l.fail(c.def, []string{"workflow"}, "a node's id starts with a null character: %w", err)
		return nil
	}
	plan, err := engine.NewPlan(g, l.trial, engine.PlanOptions{})
	invalid, ok := errors.AsType[*engine.InvalidError](err)
	if !ok && plan != nil {
		invalid = plan.Invalid
	}
	if invalid == nil {
		return nil
	}
	var errs []*engine.NodeError
	for _, e := range invalid.Errors {
		if !excused(g, e) {
			errs = append(errs, e)
		}
	}
	return errs
}

// excused says whether a mistake is only that a file is not on this machine.
func excused(g *workflows.Graph, e *engine.NodeError) bool {
	if e.Kind != engine.NotInList && e.Kind != engine.CustomFailed {
		return false
	}
	v, _ := g.Node(e.Node).Inputs.Get(e.Input)
	text, ok := v.Str()
	return ok && fileName(text)
}

func (l *declarer) blame(d *Definition, e *engine.NodeError) {
	path := []string{"workflow", e.Node, "inputs", e.Input}
	if e.Kind == engine.MissingNodeType || e.Kind == engine.UnsupportedType {
		path = []string{"workflow", e.Node, "class_type"}
	}
	l.fail(d, path, "%w", e)
}

// trial is the workflow of a definition with all inputs given, or without those
// that may be left out.
func (c *class) trial(all bool) *workflows.Graph {
	g := c.def.Workflow.Clone()
	for at, index := range c.feeds {
		if in := &c.def.Inputs[index]; all || !in.Optional || !in.Default.IsNull() {
			g.Node(at.node).Inputs.Set(at.input, workflows.LinkValue(workflows.Link{Node: anything}))
		}
	}
	return g
}

// defaultTrial is a workflow of one node of the class with its defaults.
func (c *class) defaultTrial() *workflows.Graph {
	n := &workflows.Node{ID: "1", Class: c.typ.Class}
	for i := range c.typ.Inputs {
		in := &c.typ.Inputs[i]
		v := literalOf(in.Default)
		if v.IsNull() {
			v = workflows.LinkValue(workflows.Link{Node: anything})
		}
		n.Inputs.Set(in.Name, v)
	}
	g := &workflows.Graph{}
	if err := g.Add(n); err != nil {
		return &workflows.Graph{} // the first node of a graph is never refused
	}
	return g
}

// literalOf is a declared default as a workflow would have it.
func literalOf(v any) workflows.Value {
	switch v := v.(type) {
	case engine.Number:
		if raw, err := v.MarshalJSON(); err == nil {
			value, _ := workflows.ParseValue(raw)
			return value
		}
	case string:
		return workflows.StringValue(v)
	case bool:
		return workflows.BoolValue(v)
	}
	return workflows.Value{}
}
