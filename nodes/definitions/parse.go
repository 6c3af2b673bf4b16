package definitions

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// Definition is the content of one file.
type Definition struct {
	File                        string
	Class, Title, Category, Doc string
	Deprecated, Experimental    bool
	Inputs                      []Input
	Outputs                     []Output
	Workflow                    *workflows.Graph
	module                      string
	data                        []byte
}

// Input is an input of the class: the inner inputs that it leads to, and where it
// asks for less than they take. Null values are not given.
type Input struct {
	Name           string
	To             []string // NODE.INPUT, where NODE is an id, a title or a class
	Type           string
	Default        workflows.Value
	Min, Max, Step workflows.Value
	Choices        []string
	Optional       bool
	Doc            string
}

// Output is an output of the class: one of an inner node.
type Output struct {
	Name string
	From workflows.Link
	Doc  string
}

// DefaultCategory is where a page shows classes that do not say.
const DefaultCategory = "custom"

// Parse reads one definition. It checks all that can be checked without node
// types; with a mistake the definition is nil. Lines count from the file's start.
func Parse(file string, data []byte) (*Definition, Errors) {
	v, err := workflows.ParseValue(data)
	var syntax *workflows.SyntaxError
	if errors.As(err, &syntax) {
		return nil, Errors{{File: file, Line: syntax.Line, Err: fmt.Errorf("column %d: %s", syntax.Column, syntax.Msg)}}
	}
	d := &Definition{File: file, Category: DefaultCategory, data: data}
	r := &reader{def: d}
	r.definition(v)
	if len(r.errs) > 0 {
		r.errs.sort()
		return nil, r.errs
	}
	return d, nil
}

// reader gathers the mistakes of one file.
type reader struct {
	def  *Definition
	errs Errors
}

// fail notes a mistake at the value that a path of keys leads to.
func (r *reader) fail(path []string, format string, args ...any) {
	line, _ := workflows.Position(r.def.data, path...)
	r.errs = append(r.errs, &Error{File: r.def.File, Line: line, Err: fmt.Errorf(format, args...)})
}

// reading is what to do with the value of a key.
type reading struct {
	key string
	do  func(path []string, v workflows.Value)
}

// members reads an object with the keys given and no others.
func (r *reader) members(path []string, v workflows.Value, keys []reading) (workflows.Object, bool) {
	members, ok := v.Object()
	if !ok {
		r.fail(path, "%s is a %s, not an object", place(path), v.Kind())
		return nil, false
	}
	for _, m := range members {
		i := slices.IndexFunc(keys, func(k reading) bool { return k.key == m.Key })
		if i < 0 {
			r.fail(join(path, m.Key), "%s has no key %q; keys are %s", place(path), m.Key, keyNames(keys))
			continue
		}
		keys[i].do(join(path, m.Key), m.Value)
	}
	return members, true
}

func keyNames(keys []reading) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.key
	}
	return strings.Join(names, ", ")
}

// place is a path for messages.
func place(path []string) string {
	if len(path) == 0 {
		return "a definition"
	}
	return strings.Join(path, ".")
}

func join(path []string, keys ...string) []string { return slices.Concat(path, keys) }

func (r *reader) definition(v workflows.Value) {
	d := r.def
	members, ok := r.members(nil, v, []reading{
		{"class_type", r.text(&d.Class)}, {"title", r.text(&d.Title)}, {"category", r.text(&d.Category)}, {"doc", r.text(&d.Doc)},
		{"deprecated", r.flag(&d.Deprecated)}, {"experimental", r.flag(&d.Experimental)},
		{"inputs", r.each(r.input)}, {"outputs", r.each(r.output)}, {"workflow", r.workflow},
	})
	if !ok {
		return
	}
	for _, key := range []string{"class_type", "workflow"} {
		if _, ok := members.Get(key); !ok {
			r.fail(nil, "a definition needs %s, but has only %s", key, strings.Join(members.Keys(), ", "))
		}
	}
	if given, ok := members.Get("class_type"); ok && given.Kind() == workflows.KindString && strings.TrimSpace(d.Class) == "" {
		r.fail([]string{"class_type"}, "class_type is empty")
	}
}

func (r *reader) text(into *string) func([]string, workflows.Value) {
	return func(path []string, v workflows.Value) {
		var ok bool
		if *into, ok = v.Str(); !ok {
			r.fail(path, "%s is a %s, not a string", place(path), v.Kind())
		}
	}
}

func (r *reader) flag(into *bool) func([]string, workflows.Value) {
	return func(path []string, v workflows.Value) {
		var ok bool
		if *into, ok = v.Bool(); !ok {
			r.fail(path, "%s is a %s, not true or false", place(path), v.Kind())
		}
	}
}

func (r *reader) number(into *workflows.Value) func([]string, workflows.Value) {
	return func(path []string, v workflows.Value) {
		if *into = v; v.Kind() != workflows.KindNumber {
			r.fail(path, "%s is a %s, not a number", place(path), v.Kind())
		}
	}
}

// each reads an object of named things, whose order stays.
func (r *reader) each(one func(path []string, name string, v workflows.Value)) func([]string, workflows.Value) {
	return func(path []string, v workflows.Value) {
		members, ok := v.Object()
		if !ok {
			r.fail(path, "%s are a %s, not an object by name", place(path), v.Kind())
			return
		}
		for _, m := range members {
			if m.Key == "" {
				r.fail(join(path, m.Key), "%s has an empty name", place(path))
			}
			one(join(path, m.Key), m.Key, m.Value)
		}
	}
}

func (r *reader) input(path []string, name string, v workflows.Value) {
	in := Input{Name: name}
	members, ok := r.members(path, v, []reading{
		{"to", r.texts(&in.To)}, {"type", r.text(&in.Type)},
		{"default", func(path []string, v workflows.Value) { r.literal(path, v, &in.Default) }},
		{"min", r.number(&in.Min)}, {"max", r.number(&in.Max)}, {"step", r.number(&in.Step)},
		{"choices", r.texts(&in.Choices)}, {"optional", r.flag(&in.Optional)}, {"doc", r.text(&in.Doc)},
	})
	if _, given := members.Get("to"); ok && !given {
		r.fail(path, "input %s needs \"to\": the inner input NODE.INPUT that it leads to, or a list of them", name)
	}
	r.def.Inputs = append(r.def.Inputs, in)
}

func (r *reader) literal(path []string, v workflows.Value, into *workflows.Value) {
	switch *into = v; v.Kind() {
	case workflows.KindBool, workflows.KindNumber, workflows.KindString:
		return
	}
	r.fail(path, "%s is a %s, not a string, number or bool", place(path), v.Kind())
}

// texts reads a string or a list of them, at least one, none twice.
func (r *reader) texts(into *[]string) func([]string, workflows.Value) {
	return func(path []string, v workflows.Value) {
		items, ok := v.List()
		if !ok {
			items = []workflows.Value{v}
		}
		if len(items) == 0 {
			r.fail(path, "%s is empty", place(path))
		}
		for _, item := range items {
			s, ok := item.Str()
			switch {
			case !ok:
				r.fail(path, "%s has a %s where a string should be", place(path), item.Kind())
			case slices.Contains(*into, s):
				r.fail(path, "%s has %q twice", place(path), s)
			default:
				*into = append(*into, s)
			}
		}
	}
}

func (r *reader) output(path []string, name string, v workflows.Value) {
	out := Output{Name: name}
	members, ok := r.members(path, v, []reading{{"from", func(path []string, v workflows.Value) {
		var isLink bool
		if out.From, isLink = v.Link(); !isLink {
			r.fail(path, "%s is %s, not a link [\"NODE\", SLOT]", place(path), v.Raw())
		}
	}}, {"doc", r.text(&out.Doc)}})
	if _, given := members.Get("from"); ok && !given {
		r.fail(path, "output %s needs \"from\": the link [\"NODE\", SLOT] that it is", name)
	}
	r.def.Outputs = append(r.def.Outputs, out)
}

func (r *reader) workflow(path []string, _ workflows.Value) {
	g, err := workflows.ParseMember(r.def.data, path...)
	var syntax *workflows.SyntaxError
	switch {
	case errors.As(err, &syntax):
		r.errs = append(r.errs, &Error{File: r.def.File, Line: syntax.Line, Err: fmt.Errorf("column %d: %s", syntax.Column, syntax.Msg)})
	case err != nil:
		r.fail(path, "%w", err)
	case g.Len() == 0:
		r.fail(path, "the workflow has no nodes")
	}
	r.def.Workflow = g
}
