package engine

import (
	"errors"
	"fmt"
	"reflect"
)

// Blocker stands for a value that must not be used: nodes that would receive
// it do not run, and their outputs become the blocker. A message is reported
// for the first of them; the run goes on and ends well all the same.
//
// A function blocks all its outputs by returning a Blocker as its error, one
// output by a field of type Blocked, or a value of an any-typed output.
type Blocker struct{ Message string }

// Error is the message, so that a function can return a Blocker.
func (b Blocker) Error() string { return "execution blocked: " + orElse(b.Message, "no reason given") }

// Blocked, as a field of a struct of outputs, names the outputs that are
// blocked and why ("" for silently).
type Blocked map[string]string

// results is what Add derives from the type a function returns.
type results struct {
	outputs []Output
	index   []int // field per output; nil: the value itself is the only output
	ui      int   // field of type UI, -1: none
	expand  int   // field of type *Expand
	blocked int   // field of type Blocked
	alone   any   // UI or Expand: the value itself is that
	errs    []error
}

var (
	uiType      = reflect.TypeFor[UI]()
	expandType  = reflect.TypeFor[*Expand]()
	blockedType = reflect.TypeFor[Blocked]()
)

// deriveResults reads the type that a node's function returns: a value of a
// kind, a List, a UI, or a struct of fields tagged out:"NAME".
func (c *Catalog) deriveResults(t reflect.Type) *results {
	r := &results{ui: -1, expand: -1, blocked: -1}
	if t == uiType {
		r.alone = t
		return r
	}
	s, err := c.slotOf(t)
	switch {
	case err == nil:
		r.outputs = []Output{outputOf("", s)}
	case t.Kind() != reflect.Struct:
		r.errs = append(r.errs, fmt.Errorf("result: %w", err))
	default:
		r.index = []int{}
		for i := range t.NumField() {
			r.add(c, t.Field(i))
		}
	}
	return r
}

func outputOf(name string, s slot) Output {
	return Output{Name: orElse(name, s.Name), Kind: s.Name, Choices: s.Choices, List: s.list}
}

func (r *results) add(c *Catalog, f reflect.StructField) {
	switch f.Type {
	case uiType:
		r.ui = f.Index[0]
		return
	case expandType:
		r.expand = f.Index[0]
		return
	case blockedType:
		r.blocked = f.Index[0]
		return
	}
	name, tagged := f.Tag.Lookup("out")
	s, err := c.slotOf(f.Type)
	switch {
	case !tagged:
		err = errors.New(`has no tag out:"NAME"`)
	case !f.IsExported():
		err = errors.New("is not exported")
	}
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("result %s: %w", f.Name, err))
		return
	}
	out := outputOf(name, s)
	out.Doc = f.Tag.Get("doc")
	r.outputs = append(r.outputs, out)
	r.index = append(r.index, f.Index[0])
}

// unpack turns what the function returned into values per output.
func (r *results) unpack(v reflect.Value) Returned {
	switch {
	case r.alone != nil:
		return Returned{UI: v.Interface().(UI)}
	case r.index == nil:
		return Returned{Values: []any{outputValue(v)}}
	}
	out := Returned{Values: make([]any, len(r.index))}
	for i, f := range r.index {
		out.Values[i] = outputValue(v.Field(f))
	}
	if r.ui >= 0 {
		out.UI = v.Field(r.ui).Interface().(UI)
	}
	if r.expand >= 0 {
		out.Expand = v.Field(r.expand).Interface().(*Expand)
	}
	if r.blocked >= 0 {
		r.block(out.Values, v.Field(r.blocked).Interface().(Blocked))
	}
	return out
}

func (r *results) block(values []any, blocked Blocked) {
	for i, o := range r.outputs {
		if message, ok := blocked[o.Name]; ok {
			values[i] = Blocker{message}
		}
	}
}

func outputValue(v reflect.Value) any {
	if l, ok := v.Interface().(lister); ok {
		return l.elements()
	}
	return v.Interface()
}

// blockAll is what a function returns that gave a Blocker as its error.
func blockAll(outputs int, b Blocker) Returned {
	values := make([]any, outputs)
	for i := range values {
		values[i] = b
	}
	return Returned{Values: values}
}
