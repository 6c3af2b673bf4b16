package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

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

func expands(calls []returned) bool {
	return slices.ContainsFunc(calls, func(c returned) bool { return c.Expand != nil })
}

// expand adds the nodes of a task's expansions to the run; the task waits for
// those that its results are linked to.
func (r *run) expand(t *task, calls []returned) error {
	var outputs []*Step
	// A node whose results were let go may expand again: under new ids.
	r.grown[t.step]++
	for _, c := range calls {
		if c.Expand == nil {
			continue
		}
		steps, err := r.makeSteps(t.step, c.Expand)
		if err != nil {
			return err
		}
		for _, s := range steps {
			if s.Type.IsOutput {
				outputs = append(outputs, s)
			}
		}
	}
	if err := r.await(t, calls); err != nil {
		return err
	}
	for _, s := range outputs {
		r.need(s, nil)
	}
	t.parked = calls
	for _, s := range t.awaits {
		r.uses[s]++
	}
	for _, s := range t.awaits {
		r.need(s, t)
	}
	if t.waits == 0 {
		r.push(t)
	}
	return nil
}

// await finds what the results of a task's expansions are linked to.
func (r *run) await(t *task, calls []returned) error {
	for _, c := range calls {
		if c.Expand == nil {
			continue
		}
		for _, v := range c.Expand.values {
			l, ok := v.(workflows.Link)
			if !ok {
				continue
			}
			s := r.step(l.Node)
			if s == nil {
				return fmt.Errorf("the expansion returns an output of node %s, which does not exist", l.Node)
			}
			t.awaits = append(t.awaits, s)
		}
	}
	return nil
}

// resolve ends an expansion: all that its results are linked to is there.
func (r *run) resolve(ctx context.Context, t *task) {
	out, err := merge(t.step.Type, t.parked, func(v any) ([]any, bool) {
		l, ok := v.(workflows.Link)
		if !ok {
			return nil, false
		}
		return r.output(r.step(l.Node), l.Slot), true
	})
	if err != nil {
		r.fail(ctx, t.step, err, nil)
		return
	}
	if r.options.Digests {
		out.digest()
	}
	awaits := t.awaits
	r.finish(t, out, false)
	for _, s := range awaits {
		r.unuse(s)
	}
}

// step finds a node of the workflow or of an expansion.
func (r *run) step(id string) *Step {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if s, ok := r.byID[id]; ok {
		return s
	}
	return r.plan.byID[id]
}

// makeSteps turns the nodes of an expansion into steps of this run.
func (r *run) makeSteps(parent *Step, e *Expand) ([]*Step, error) {
	steps := make([]*Step, 0, len(e.nodes))
	for _, n := range e.nodes {
		t, ok := r.plan.catalog.Type(n.Class)
		switch {
		case !ok:
			return nil, fmt.Errorf("expand: there is no node type %s%s", n.Class, didYouMean(n.Class, r.plan.catalog.classes()))
		case t.Unsupported != "":
			return nil, fmt.Errorf("expand: %w", t.unsupported())
		case r.step(n.ID) != nil:
			return nil, fmt.Errorf("expand: node %s exists already", n.ID)
		}
		s := &Step{ID: n.ID, Type: t, parent: parent, display: n.Display}
		steps = append(steps, s)
		r.mu.Lock()
		r.byID[s.ID] = s
		r.made = append(r.made, s)
		r.mu.Unlock()
	}
	for i, n := range e.nodes {
		if err := r.bindStep(steps[i], n.Inputs); err != nil {
			return nil, fmt.Errorf("expand: node %s (%s): %w", n.ID, n.Class, err)
		}
	}
	keySteps(steps)
	return steps, nil
}

// keySteps keys new steps, sources first; those in a cycle are like nothing.
func keySteps(steps []*Step) {
	var h hasher
	w := &walk{done: func(component []*Step) {
		for _, s := range component {
			if len(component) > 1 || s.readsItself() {
				s.Key = nonce()
			} else {
				s.Key = h.key(s)
			}
		}
	}}
	for _, s := range steps {
		w.from(s)
	}
}

func (r *run) bindStep(s *Step, inputs Inputs) error {
	s.Inputs = make([]Source, len(s.Type.Inputs))
	for i := range s.Type.Inputs {
		in := &s.Type.Inputs[i]
		v, ok := inputs[in.Name]
		if !ok && !in.Optional {
			return &InputError{Input: in.Name, Err: errors.New("is missing")}
		}
		s.Inputs[i].Name = in.Name
		if !ok {
			continue
		}
		if err := r.bindSource(&s.Inputs[i], in, v); err != nil {
			return &InputError{Input: in.Name, Err: err}
		}
	}
	if !s.Type.Rest {
		return nil
	}
	for _, name := range slices.SortedFunc(maps.Keys(inputs), cmp.Compare[string]) {
		if _, linked := asLink(inputs[name]); !linked || s.declares(name) {
			continue
		}
		src := Source{Name: name}
		if err := r.bindSource(&src, &Input{Name: name, Kind: KindAny}, inputs[name]); err != nil {
			return &InputError{Input: name, Err: err}
		}
		s.Rest = append(s.Rest, src)
	}
	return nil
}

func asLink(v any) (workflows.Link, bool) {
	switch v := v.(type) {
	case workflows.Link:
		return v, true
	case workflows.Value:
		return v.Link()
	}
	return workflows.Link{}, false
}

func (r *run) bindSource(src *Source, in *Input, v any) (err error) {
	if l, ok := asLink(v); ok {
		src.From, src.Slot = r.step(l.Node), l.Slot
		switch {
		case src.From == nil:
			return fmt.Errorf("is linked to node %s, which does not exist", l.Node)
		case l.Slot < 0 || l.Slot >= len(src.From.Type.Outputs):
			return src.From.noSlot(l.Slot)
		}
		return nil
	}
	value := canonical(v)
	if text, ok := v.(workflows.Value); ok {
		text, _ = text.Unwrap()
		if value, _, err = coerce(in.Kind, text); err != nil {
			return err
		}
	}
	if err := in.refuses(value); err != nil {
		return err
	}
	src.Values = []any{value}
	return nil
}

// canonical brings Go's numbers, texts and booleans to the types that a
// literal of a workflow has, so that equal inputs have equal keys.
func canonical(v any) any {
	r := reflect.ValueOf(v)
	switch {
	case v == nil:
		return nil
	case r.CanInt() || r.CanUint():
		return numberOf(r).v
	case r.CanFloat():
		return r.Float()
	case r.Kind() == reflect.String:
		return r.String()
	case r.Kind() == reflect.Bool:
		return r.Bool()
	}
	return v
}

// dynPrompt shows the nodes of a run to the nodes' functions.
type dynPrompt struct{ run *run }

// Node finds a node by its id.
func (d dynPrompt) Node(id string) (Expanded, bool) {
	s := d.run.step(id)
	if s == nil {
		return Expanded{}, false
	}
	n := Expanded{ID: s.ID, Class: s.Type.Class, Inputs: Inputs{}, Display: s.display}
	for _, src := range slices.Concat(s.Inputs, s.Rest) {
		switch {
		case src.From != nil:
			n.Inputs[src.Name] = s.linkTo(&src)
		case src.Values != nil:
			n.Inputs[src.Name] = src.Values[0]
		}
	}
	return n, true
}

// Parent is the node whose expansion made the node.
func (d dynPrompt) Parent(id string) string {
	if s := d.run.step(id); s != nil && s.parent != nil {
		return s.parent.ID
	}
	return ""
}
