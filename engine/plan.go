package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/comfyrun/comfyrun/workflows"
)

// Plan is a workflow that was checked against the node types it uses: bound,
// ordered and keyed. It is not changed by running, so that it may run more
// than once and in several runs at a time.
type Plan struct {
	Graph   *workflows.Graph // a copy, its literals brought to their kinds
	Targets []*Step          // the output nodes that run, in the graph's order
	Steps   []*Step          // all nodes, each after those that it reads

	// Invalid is what is wrong with outputs that were asked for and cannot
	// run, although others can; nil when there are none.
	Invalid *InvalidError

	catalog *Catalog
	byID    map[string]*Step
	prompt  func() Prompt
}

// Step is one node of a plan.
type Step struct {
	ID     string
	Type   *NodeType
	Key    Key      // of its results in a Cache; zero: not known
	Inputs []Source // parallel to Type.Inputs
	Rest   []Source // linked inputs that are not declared

	node    *workflows.Node
	order   order
	target  bool      // an output that was asked for
	valid   bool      // nothing wrong with it or above it
	used    consumer  // the first node that reads it on the way from an output
	display string    // of a node made by an expansion: who is shown instead
	parent  *Step     // of such a node: who made it
	literal []literal // coerced values to be written back
}

// Source is where an input's values come from.
type Source struct {
	Name   string // of the input
	From   *Step  // of a link
	Slot   int
	Values []any // of a literal: one element; nil for links and where nothing is given
}

// Given says whether the workflow gives the input at all.
func (s *Source) Given() bool { return s.From != nil || s.Values != nil }

type literal struct {
	name  string
	value workflows.Value
}

// consumer is who reads a step through which input.
type consumer struct {
	step  *Step
	input *Input
	link  workflows.Link
}

// PlanOptions choose what runs.
type PlanOptions struct {
	// Targets are ids of output nodes that are to run, with what they need.
	// Nil means every output node; others in the list are ignored.
	Targets []string
}

// NewPlan checks a workflow and says what is to run in which order. It takes
// time linear in the graph's size. When no output can run the error is an
// *InvalidError with every mistake; when some can, the plan holds these and
// Plan.Invalid the mistakes of the others.
func NewPlan(g *workflows.Graph, c *Catalog, o PlanOptions) (*Plan, error) {
	if g == nil {
		return nil, &InvalidError{Kind: NoPrompt}
	}
	p := &Plan{Graph: g.Clone(), catalog: c, byID: make(map[string]*Step, g.Len())}
	unknown := p.addSteps()
	wanted := p.wanted(o.Targets)
	if len(wanted) == 0 && len(unknown) == 0 {
		return nil, &InvalidError{Kind: NoOutputs}
	}
	faults := p.check(p.sort(wanted))
	err := p.settle(wanted, faults)
	if len(unknown) > 0 {
		return nil, p.withUnknown(unknown)
	}
	if err != nil {
		return nil, err
	}
	p.setKeys()
	p.prompt = sync.OnceValue(p.encode)
	return p, nil
}

// withUnknown is the error of a workflow with unknown node types: these
// first, then what else is wrong.
func (p *Plan) withUnknown(unknown []*NodeError) *InvalidError {
	err := &InvalidError{Kind: MissingNodeType, Errors: unknown}
	if p.Invalid != nil {
		err.Errors = append(err.Errors, p.Invalid.Errors...)
	}
	return err
}

// String is the plan as text, a step a line in the order of the plan: id,
// class, the beginning of the key, and its inputs. What runs without being
// asked for has no mark, targets have a star.
func (p *Plan) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		mark := " "
		if s.target && s.valid {
			mark = "*"
		}
		fmt.Fprintf(&b, "%s %s %s %.8s", mark, s.ID, s.Type.Class, s.Key)
		for _, src := range slices.Concat(s.Inputs, s.Rest) {
			switch {
			case src.From != nil:
				fmt.Fprintf(&b, " %s=@%s.%d", src.Name, src.From.ID, src.Slot)
			case src.Values != nil:
				fmt.Fprintf(&b, " %s=%v", src.Name, src.Values[0])
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// encode is the graph as nodes see it that write it into their files.
func (p *Plan) encode() Prompt {
	var b bytes.Buffer
	if err := json.Compact(&b, workflows.Encode(p.Graph)); err != nil {
		return nil // a graph encodes to valid JSON
	}
	return b.Bytes()
}

// Step finds a node of the plan by its id.
func (p *Plan) Step(id string) (*Step, bool) {
	s, ok := p.byID[id]
	return s, ok
}

// addSteps makes a step of each node. Nodes of unknown or unsupported types are
// returned as errors and get an empty type, so that the others can still be
// checked.
func (p *Plan) addSteps() []*NodeError {
	var unknown []*NodeError
	steps := make([]Step, p.Graph.Len())
	for i, n := range p.Graph.Nodes() {
		t, ok := p.catalog.Type(n.Class)
		if !ok || t.Unsupported != "" {
			unknown = append(unknown, p.catalog.missingType(n))
			t = &NodeType{Class: n.Class, unknown: true}
		}
		steps[i] = Step{ID: n.ID, Type: t, node: n}
		p.byID[n.ID] = &steps[i]
	}
	for i := range steps {
		steps[i].findLinks(p.byID)
	}
	return unknown
}

// wanted is the output nodes that are asked for, in the graph's order.
func (p *Plan) wanted(targets []string) []*Step {
	var out []*Step
	asked := make(map[string]bool, len(targets))
	for _, id := range targets {
		asked[id] = true
	}
	for _, n := range p.Graph.Nodes() {
		s := p.byID[n.ID]
		if s.Type.IsOutput && (targets == nil || asked[s.ID]) {
			s.target = true
			out = append(out, s)
		}
	}
	return out
}

// settle keeps the outputs that can run and attaches the mistakes to the
// others; with none left it is an error.
func (p *Plan) settle(wanted []*Step, faults map[*Step][]*NodeError) error {
	var failed []*Step
	for _, s := range wanted {
		if s.valid {
			p.Targets = append(p.Targets, s)
		} else {
			failed = append(failed, s)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	p.Invalid = &InvalidError{Kind: OutputsFailed, Errors: p.blame(failed, faults)}
	if len(p.Targets) == 0 {
		return p.Invalid
	}
	return nil
}

// blame lists the mistakes in the graph's order, each with the outputs that
// depend on it.
func (p *Plan) blame(failed []*Step, faults map[*Step][]*NodeError) []*NodeError {
	for i, s := range failed {
		s.ancestors(i+1, func(a *Step) {
			for _, e := range faults[a] {
				e.Outputs = append(e.Outputs, s.ID)
			}
		})
	}
	var out []*NodeError
	for _, n := range p.Graph.Nodes() {
		out = append(out, faults[p.byID[n.ID]]...)
	}
	return out
}

// ancestors visits a step and everything it reads, each once. mark must be
// new to the plan.
func (s *Step) ancestors(mark int, visit func(*Step)) {
	s.order.mark = mark
	for todo := []*Step{s}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		visit(at)
		at.links(func(src *Source) {
			if src.From.order.mark != mark {
				src.From.order.mark = mark
				todo = append(todo, src.From)
			}
		})
	}
}

// links visits the inputs that are linked.
func (s *Step) links(visit func(*Source)) {
	for i := range s.Inputs {
		if s.Inputs[i].From != nil {
			visit(&s.Inputs[i])
		}
	}
	for i := range s.Rest {
		if s.Rest[i].From != nil {
			visit(&s.Rest[i])
		}
	}
}
