package definitions

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// input derives a declared input from the inner inputs that it leads to and from
// what the definition asks for. A link passes through to the inner nodes as it
// is, so that they evaluate it when they need it, with all its elements.
func (l *declarer) input(c *class, index int) engine.Input {
	in := &c.def.Inputs[index]
	targets := l.targets(c, index)
	if len(targets) == 0 {
		return engine.Input{Name: in.Name, Kind: engine.KindAny, Lazy: true, RawLink: true, Optional: in.Optional}
	}
	out := *targets[0].in
	out.Name, out.Optional, out.Doc = in.Name, in.Optional, cmp.Or(in.Doc, out.Doc)
	out.Lazy, out.RawLink, out.List = true, true, false
	out.Options = slices.DeleteFunc(slices.Clone(out.Options), func(m engine.Member) bool { return m.Key == "lazy" || m.Key == "rawLink" })
	n := &narrowing{l: l, c: c, in: in, out: &out}
	n.kinds(targets)
	n.ranges(targets)
	n.choices(targets)
	n.defaults(targets[0].at)
	n.optional(targets)
	return out
}

// narrowing brings what the inner inputs take and what the definition asks for
// together in one input.
type narrowing struct {
	l   *declarer
	c   *class
	in  *Input
	out *engine.Input
}

func (n *narrowing) fail(key, format string, args ...any) {
	n.l.fail(n.c.def, []string{"inputs", n.in.Name, key}, "input %s: "+format, append([]any{n.in.Name}, args...)...)
}

// kinds keeps the words that all inner inputs take.
func (n *narrowing) kinds(targets []source) {
	for _, t := range targets[1:] {
		kind, ok := common(n.out.Kind, t.in.Kind)
		if !ok {
			n.fail("to", "leads to %s and %s: one type is allowed", n.out.Kind, t.in.Kind)
			return
		}
		n.out.Kind = kind
	}
	if n.in.Type == "" {
		return
	}
	kind, ok := common(n.out.Kind, n.in.Type)
	if !ok || n.in.Type == engine.KindAny && n.out.Kind != engine.KindAny {
		n.fail("type", "type is %s, but the inner input takes %s", n.in.Type, n.out.Kind)
		return
	}
	n.out.Kind = kind
}

// common is the words that two kinds share.
func common(a, b string) (string, bool) {
	switch {
	case a == b || b == engine.KindAny:
		return a, true
	case a == engine.KindAny:
		return b, true
	}
	words := strings.Split(b, ",")
	shared := slices.DeleteFunc(strings.Split(a, ","), func(w string) bool { return !slices.Contains(words, w) })
	return strings.Join(shared, ","), len(shared) > 0
}

// ranges cuts the ranges of all inner inputs with the definition's own.
func (n *narrowing) ranges(targets []source) {
	n.out.Min, n.out.Max = engine.Number{}, engine.Number{}
	for _, t := range targets {
		if owns(t.typ, t.in.Name) {
			continue // its validator knows better
		}
		if t.in.Min.IsSet() && (!n.out.Min.IsSet() || t.in.Min.Compare(n.out.Min) > 0) {
			n.out.Min = t.in.Min
		}
		if t.in.Max.IsSet() && (!n.out.Max.IsSet() || t.in.Max.Compare(n.out.Max) < 0) {
			n.out.Max = t.in.Max
		}
	}
	for _, b := range []struct {
		key   string
		given workflows.Value
		into  *engine.Number
		worse int // how a bound compares that would widen the range
	}{{"min", n.in.Min, &n.out.Min, -1}, {"max", n.in.Max, &n.out.Max, 1}, {"step", n.in.Step, &n.out.Step, 0}} {
		if b.given.IsNull() {
			continue
		}
		number, err := bound(n.out.Kind, b.given)
		switch {
		case err != nil:
			n.fail(b.key, "%s: %w", b.key, err)
		case b.worse != 0 && b.into.IsSet() && number.Compare(*b.into) == b.worse:
			n.fail(b.key, "%s %s would widen the range of the inner input, which is %s to %s", b.key, number, n.out.Min, n.out.Max)
		default:
			*b.into = number
		}
	}
	if n.out.Min.IsSet() && n.out.Max.IsSet() && n.out.Min.Compare(n.out.Max) > 0 {
		n.fail("to", "no number is allowed: the range is %s to %s", n.out.Min, n.out.Max)
	}
}

func owns(t *engine.NodeType, input string) bool {
	return t.Validator != nil && (t.Validator.All || slices.Contains(t.Validator.Inputs, input))
}

// bound reads a number of a range.
func bound(kind string, v workflows.Value) (engine.Number, error) {
	switch kind {
	case engine.KindInt:
		if i, ok := v.Int64(); ok {
			return engine.Int(i), nil
		}
		if u, ok := v.Uint64(); ok {
			return engine.Uint(u), nil
		}
		return engine.Number{}, fmt.Errorf("%s is no integer of 64 bits", v.Raw())
	case engine.KindFloat:
		f, _ := v.Float64()
		return engine.Float(f), nil
	}
	return engine.Number{}, fmt.Errorf("%s has no range, INT and FLOAT have", kind)
}

// choices keeps the choices that all inner inputs have, or those that the
// definition lists. A text may be narrowed to a choice.
func (n *narrowing) choices(targets []source) {
	n.out.Choices, n.out.Loose = nil, false
	for _, t := range targets {
		n.out.Loose = n.out.Loose || t.in.Loose || owns(t.typ, t.in.Name)
		n.out.Choices = both(n.out.Choices, t.in.Choices)
	}
	switch {
	case n.in.Choices == nil:
		return
	case n.out.Choices == nil && n.out.Kind != engine.KindString:
		n.fail("choices", "%s has no choices, COMBO and STRING may have", n.out.Kind)
		return
	case n.out.Choices != nil && !n.out.Loose:
		n.checkChoices(n.out.Choices())
	}
	n.out.Kind, n.out.Choices, n.out.Loose = engine.KindCombo, engine.Choices(n.in.Choices...), false
}

func (n *narrowing) checkChoices(inner []string) {
	for _, c := range n.in.Choices {
		if !slices.Contains(inner, c) && !fileName(c) {
			n.fail("choices", "%q is no choice of the inner input; those are %s", c, strings.Join(inner, ", "))
		}
	}
}

func both(a, b func() []string) func() []string {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func() []string {
		others := b()
		return slices.DeleteFunc(slices.Clone(a()), func(c string) bool { return !slices.Contains(others, c) })
	}
}

// fileName says whether a choice looks like a file's name. The lists of models and
// pictures are this machine's, and a definition is right although a file is not
// here: planning a workflow that uses it tells.
func fileName(choice string) bool {
	ext := path.Ext(choice)
	return len(ext) > 1 && !strings.ContainsAny(ext, " ")
}

// defaults takes the definition's default, else the literal that the workflow
// has, else the inner declaration's.
func (n *narrowing) defaults(first target) {
	v := n.in.Default
	if v.IsNull() {
		v, _ = n.c.def.Workflow.Node(first.node).Inputs.Get(first.input)
	}
	if v.IsNull() || v.Kind() == workflows.KindList {
		return
	}
	if d := shown(n.out.Kind, v); d != nil {
		n.out.Default = d
	} else if !n.in.Default.IsNull() {
		n.fail("default", "default %s is no %s", v.Raw(), n.out.Kind)
	}
}

// shown is a literal as a declaration has its default; nil when it does not fit.
func shown(kind string, v workflows.Value) any {
	switch kind {
	case engine.KindInt, engine.KindFloat:
		if number, err := bound(kind, v); err == nil && v.Kind() == workflows.KindNumber {
			return number
		}
	case engine.KindBoolean:
		if b, ok := v.Bool(); ok {
			return b
		}
	case engine.KindString, engine.KindCombo:
		if s, ok := v.Str(); ok {
			return s
		}
	}
	return nil
}

// optional refuses an input that may be left out although an inner node needs it.
func (n *narrowing) optional(targets []source) {
	if !n.in.Optional || !n.in.Default.IsNull() {
		return
	}
	for _, t := range targets {
		if _, given := n.c.def.Workflow.Node(t.at.node).Inputs.Get(t.at.input); !given && !t.in.Optional {
			n.fail("optional", "is optional, but node %s (%s) needs its input %s: give a default, or a value in the workflow",
				t.at.node, t.typ.Class, t.at.input)
		}
	}
}
