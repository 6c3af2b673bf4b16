package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
)

// Declared is a node type that was just added; its methods set what the
// struct of inputs cannot say and return it again.
type Declared[I any] struct {
	typ    *NodeType
	binder *binder
}

// Add derives a node type from a struct of inputs, whose fields carry the tags
//
//	in:"name[,optional]"            the input's name; in:"*" on a map[string]any
//	                                collects linked inputs that are not declared
//	range:"min,max[,step[,round]]"  of INT and FLOAT; parts may be empty
//	ui:"flag,key=value,…"           what the page is told, see uiFlags
//	doc:"…"                         one line of help
//
// and from the type that run returns: a value of a kind, a List, a UI, or a
// struct of such values tagged out:"NAME" beside fields of type UI, *Expand
// and Blocked. defaults is what run gets for inputs that are not given.
// A pointer to a kind's type is nil when nothing is given. Mistakes are
// gathered in the catalogue, see Catalog.Err.
func Add[I, O any](c *Catalog, class, category string, defaults I, run func(context.Context, I) (O, error)) *Declared[I] {
	f := c.deriveFields(reflect.ValueOf(&defaults).Elem())
	r := c.deriveResults(reflect.TypeFor[O]())
	for _, err := range append(f.errs, r.errs...) {
		c.fail(class, err)
	}
	b := &binder{fields: f, defaults: reflect.ValueOf(defaults), results: r}
	t := &NodeType{
		Class: class, Category: category, Inputs: f.inputs, Outputs: r.outputs, Hidden: f.hidden, Rest: f.rest >= 0,
		Call: func(ctx context.Context, a *Args) (Returned, error) { return call(ctx, b, run, a) },
	}
	for i := range t.Inputs {
		t.InputIsList = t.InputIsList || t.Inputs[i].List
		t.Inputs[i].takes = b.takes(i)
	}
	c.AddType(t)
	return &Declared[I]{typ: t, binder: b}
}

// call binds the arguments to a struct, runs the function and unpacks what it
// returned.
func call[I, O any](ctx context.Context, b *binder, run func(context.Context, I) (O, error), a *Args) (Returned, error) {
	var in I
	if err := b.bind(reflect.ValueOf(&in).Elem(), a); err != nil {
		return Returned{}, err
	}
	out, err := run(ctx, in)
	if blocker, ok := errors.AsType[Blocker](err); ok {
		return blockAll(len(b.results.outputs), blocker), nil
	}
	if err != nil {
		return Returned{}, err
	}
	return b.results.unpack(reflect.ValueOf(&out).Elem()), nil
}

// Type is the node type itself, for what has no method here.
func (d *Declared[I]) Type() *NodeType { return d.typ }

// Title sets the name that a page shows.
func (d *Declared[I]) Title(s string) *Declared[I] { d.typ.Title = s; return d }

// Doc sets the description, in our own words.
func (d *Declared[I]) Doc(s string) *Declared[I] { d.typ.Doc = s; return d }

// Module sets python_module as object_info shows it; "nodes" when never set.
func (d *Declared[I]) Module(s string) *Declared[I] { d.typ.Module = s; return d }

// Output makes the node an output node: it runs although nothing reads it.
func (d *Declared[I]) Output() *Declared[I] { d.typ.IsOutput = true; return d }

// Volatile makes the node run again in every prompt, and what reads it too.
func (d *Declared[I]) Volatile() *Declared[I] { d.typ.Volatile = true; return d }

// Device serialises the node with all others that need the device; nodes
// without it run beside them.
func (d *Declared[I]) Device() *Declared[I] { d.typ.Device = true; return d }

// Experimental marks the type as such in object_info.
func (d *Declared[I]) Experimental() *Declared[I] { d.typ.Experimental = true; return d }

// Deprecated marks the type as such in object_info.
func (d *Declared[I]) Deprecated() *Declared[I] { d.typ.Deprecated = true; return d }

// V3 shows the type in object_info as ComfyUI shows types declared with its
// V3 schema: all flags present, combos as COMBO with options.
func (d *Declared[I]) V3() *Declared[I] { d.typ.V3 = true; return d }

// OutputNames renames the outputs, in order.
func (d *Declared[I]) OutputNames(names ...string) *Declared[I] {
	for i, name := range names {
		if i < len(d.typ.Outputs) {
			d.typ.Outputs[i].Name = name
		}
	}
	return d
}

// OutputDocs describes the outputs, in order.
func (d *Declared[I]) OutputDocs(docs ...string) *Declared[I] {
	for i, doc := range docs {
		if i < len(d.typ.Outputs) {
			d.typ.Outputs[i].Doc = doc
		}
	}
	return d
}

// Fingerprint says what the node depends on beside its inputs, such as the
// content of a file that it names. It sees literals only (linked inputs are
// zero) and is asked once per plan. An error means "always changed".
func (d *Declared[I]) Fingerprint(f func(I) (string, error)) *Declared[I] {
	d.typ.Fingerprint = func(a *Args) (s string, err error) {
		var in I
		err = catch(func() error {
			if err := d.binder.bind(reflect.ValueOf(&in).Elem(), a); err != nil {
				return err
			}
			s, err = f(in)
			return err
		})
		return s, err
	}
	return d
}

// NeedLazy names the inputs flagged lazy that this call needs; those not yet
// evaluated are zero. It is asked again after each evaluation until it asks
// for nothing new.
func (d *Declared[I]) NeedLazy(f func(context.Context, I) []string) *Declared[I] {
	d.typ.NeedLazy = func(ctx context.Context, a *Args) (names []string, err error) {
		var in I
		if err := d.binder.bindLazy(reflect.ValueOf(&in).Elem(), a); err != nil {
			return nil, err
		}
		return f(ctx, in), nil
	}
	return d
}

// Validator is a node type's own check of its literals while planning.
type Validator struct {
	// Inputs are passed to Check; their range and list are not checked
	// otherwise, and each of them carries the error if it fails.
	Inputs []string
	// All passes every input (a validator with **kwargs in ComfyUI).
	All bool
	// Types passes the kinds of linked inputs; they are not compared then.
	Types bool
	// Check sees literals only. types holds the kind of each linked input
	// when Types is set. ErrInvalid refuses without a text.
	Check func(a *Args, types map[string]string) error
}

// ErrInvalid is what a validator returns that has nothing to explain.
var ErrInvalid = errors.New("invalid")

// Words that Validate takes beside the names of inputs.
const (
	AllInputs  = "*"           // pass all inputs
	InputTypes = "input_types" // pass the kinds of linked inputs, and do not compare them
)

// Validate adds a check of literals while planning. It gets the named inputs
// (linked ones are zero); for these it replaces the check of range and list.
func (d *Declared[I]) Validate(check func(in I, types map[string]string) error, names ...string) *Declared[I] {
	v := &Validator{}
	for _, name := range names {
		switch name {
		case AllInputs:
			v.All = true
		case InputTypes:
			v.Types = true
		default:
			v.Inputs = append(v.Inputs, name)
		}
	}
	v.Check = func(a *Args, types map[string]string) error {
		var in I
		if err := d.binder.bind(reflect.ValueOf(&in).Elem(), a); err != nil {
			return fmt.Errorf("validate: %w", err)
		}
		return check(in, types)
	}
	d.typ.Validator = v
	return d
}
