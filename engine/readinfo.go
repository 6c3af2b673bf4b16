package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// ErrNoCode is what a type of [ParseObjectInfo] returns that is run.
var ErrNoCode = errors.New("only the declaration of this node type is known")

// ParseObjectInfo makes a catalogue of an object_info document, as a server answers GET /object_info or [ObjectInfo]
// writes it, so that workflows can be checked against the node types of a program that is not at hand. The types
// cannot run. The document tells less than a declaration: neither a type's own checks nor what inputs it takes beside
// those it declares. Lists of choices are those of the moment when it was written.
func ParseObjectInfo(data []byte) (*Catalog, error) {
	v, err := workflows.ParseValue(data)
	if err != nil {
		return nil, fmt.Errorf("parse object_info: %w", err)
	}
	top, ok := v.Object()
	if !ok {
		return nil, fmt.Errorf("parse object_info: a %s where an object of classes should be", v.Kind())
	}
	c := NewCatalog()
	for _, m := range top {
		t, err := typeOfInfo(m)
		if err != nil {
			return nil, fmt.Errorf("parse object_info: class %q: %w", m.Key, err)
		}
		c.AddType(t)
	}
	if err := c.Err(); err != nil {
		return nil, fmt.Errorf("parse object_info: %w", err)
	}
	return c, nil
}

func typeOfInfo(m workflows.Member) (*NodeType, error) {
	o, ok := m.Value.Object()
	if !ok {
		return nil, fmt.Errorf("a %s, not an object", m.Value.Kind())
	}
	inputs, ok := o.Object("input")
	if !ok {
		return nil, errors.New(`it has no "input": object_info is the answer of GET /object_info`)
	}
	t := &NodeType{
		Class: m.Key, Title: o.Text("display_name"), Doc: o.Text("description"),
		Category: o.Text("category"), Module: o.Text("python_module"),
		IsOutput: memberTrue(o, "output_node"), Deprecated: memberTrue(o, "deprecated"), Experimental: memberTrue(o, "experimental"),
		Call: func(context.Context, *Args) (Returned, error) { return Returned{}, ErrNoCode },
	}
	_, t.V3 = o.Get("api_node")
	order, _ := o.Object("input_order")
	for _, group := range []string{"required", "optional"} {
		if err := t.addInputs(inputs, order, group); err != nil {
			return nil, err
		}
	}
	hidden, _ := inputs.Object("hidden")
	for _, h := range hidden {
		t.Hidden = append(t.Hidden, Hidden{Name: h.Key, Kind: hiddenKindOf(h.Value)})
	}
	t.Outputs = outputsOfInfo(o)
	return t, nil
}

// hiddenKindOf reads both forms: a word, and a list of it.
func hiddenKindOf(v workflows.Value) HiddenKind {
	if items, _ := v.List(); len(items) > 0 {
		v = items[0]
	}
	s, _ := v.Str()
	return HiddenKind(s)
}

// addInputs adds the inputs of a group in the order that the document gives: input_order, then the others.
func (t *NodeType) addInputs(inputs, order workflows.Object, group string) error {
	declared, _ := inputs.Object(group)
	var names []string
	for _, v := range order.List(group) {
		if name, _ := v.Str(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, m := range declared {
		if !slices.Contains(names, m.Key) {
			names = append(names, m.Key)
		}
	}
	for _, name := range names {
		spec, ok := declared.Get(name)
		if !ok || slices.ContainsFunc(t.Inputs, func(in Input) bool { return in.Name == name }) {
			continue
		}
		in, err := inputOfInfo(name, spec, t.V3)
		if err != nil {
			return fmt.Errorf("input %q: %w", name, err)
		}
		in.Optional = in.Optional || group == "optional"
		t.Inputs = append(t.Inputs, in)
	}
	return nil
}

func inputOfInfo(name string, spec workflows.Value, v3 bool) (Input, error) {
	items, _ := spec.List()
	if len(items) == 0 {
		return Input{}, fmt.Errorf("%.60s is no list of a type and options", spec.Raw())
	}
	in := Input{Name: name}
	var options workflows.Object
	if len(items) > 1 {
		options, _ = items[1].Object()
	}
	in.readOptions(options)
	choices, listed := items[0].List()
	in.Kind, _ = items[0].Str()
	if !listed && in.Kind == KindCombo {
		choices, listed = options.List("options"), len(options.List("options")) > 0
	}
	if listed {
		in.Kind = KindCombo
		in.setChoices(choices)
	}
	in.Loose = in.Loose || in.flag("multiselect") || in.flag("multi_select") || in.Options.Get("remote") != nil
	in.foreignKind()
	in.linkOnly = slices.Contains(linkedKinds, in.Kind)
	if v3 && in.Choices != nil { // written by the type itself
		in.Options = slices.DeleteFunc(in.Options, func(m Member) bool { return m.Key == "options" || m.Key == "multiselect" })
	}
	return in, nil
}

// setChoices keeps texts as choices. With choices of other types the input itself compares: 1 and 1.0 are one choice,
// as in Python.
func (in *Input) setChoices(choices []workflows.Value) {
	var names []string
	var values []any
	mixed := false
	for _, v := range choices {
		names, values = append(names, pythonString(v)), append(values, plainNumber(native(v)))
		mixed = mixed || v.Kind() != workflows.KindString
	}
	in.Choices = Choices(names...)
	if !mixed {
		return
	}
	in.Loose = true
	in.takes = func(v any) error {
		if slices.ContainsFunc(values, func(choice any) bool { return reflect.DeepEqual(choice, plainNumber(v)) }) {
			return nil
		}
		return fmt.Errorf("%v is not one of %s", v, strings.Join(names, ", "))
	}
}

// plainNumber makes one number of all that are equal.
func plainNumber(v any) any {
	if n, ok := toNumber(v); ok {
		return n.Float64()
	}
	return v
}

// linkedKinds are ComfyUI's kinds whose values cannot be written down. What kinds of others a page has a box for, only
// that page knows.
var linkedKinds = []string{
	"AUDIO", "CLIP", "CLIP_VISION", "CLIP_VISION_OUTPUT", "CONDITIONING", "CONTROL_NET", "GLIGEN", "GUIDER", "IMAGE", "LATENT",
	"MASK", "MODEL", "NOISE", "SAMPLER", "SIGMAS", "STYLE_MODEL", "UPSCALE_MODEL", "VAE", "VIDEO",
}

// foreignKind brings kinds that stand for several to what can be checked of them: a type of ComfyUI's V3 schema that
// takes whatever fits, or inputs that come as NAME.PART only. A number or empty text stands for anything.
func (in *Input) foreignKind() {
	switch {
	case in.Kind == "" || strings.HasPrefix(in.Kind, "COMFY_MATCHTYPE"):
		in.Kind = KindAny
	case strings.HasPrefix(in.Kind, "COMFY_AUTOGROW"), strings.HasPrefix(in.Kind, "COMFY_DYNAMICSLOT"):
		in.Optional = true
	}
}

func (in *Input) readOptions(options workflows.Object) {
	for _, m := range options {
		switch m.Key {
		case "default":
			in.Default = defaultOfInfo(m.Value)
		case "min":
			in.Min = numberOfInfo(m.Value)
		case "max":
			in.Max = numberOfInfo(m.Value)
		case "step":
			in.Step = numberOfInfo(m.Value)
		case "tooltip":
			in.Doc, _ = m.Value.Str()
		default:
			if m.Key == "round" && m.Value.Kind() == workflows.KindNumber {
				in.Round = numberOfInfo(m.Value)
				continue
			}
			in.Options = append(in.Options, Member{Key: m.Key, Value: optionOfInfo(m.Value)})
		}
	}
	in.Lazy, in.RawLink = false, in.flag("rawLink")
}

func optionOfInfo(v workflows.Value) any {
	switch v.Kind() {
	case workflows.KindBool, workflows.KindString:
		return native(v)
	}
	return v
}

func defaultOfInfo(v workflows.Value) any {
	switch v.Kind() {
	case workflows.KindNumber:
		return numberOfInfo(v)
	case workflows.KindBool, workflows.KindString:
		return native(v)
	case workflows.KindNull:
		return nil
	}
	return v
}

// numberOfInfo is a number as it is written: 8 is an integer and 8.0 none. What is no number is unset.
func numberOfInfo(v workflows.Value) Number {
	switch n := nativeNumber(v).(type) {
	case int64:
		return Int(n)
	case uint64:
		return Uint(n)
	case float64:
		if v.Kind() == workflows.KindNumber {
			return Float(n)
		}
	}
	return Number{}
}

func outputsOfInfo(o workflows.Object) []Output {
	names, lists, docs := o.List("output_name"), o.List("output_is_list"), o.List("output_tooltips")
	var out []Output
	for i, v := range o.List("output") {
		x := Output{Kind: KindAny}
		x.Kind, _ = v.Str()
		if choices, ok := v.List(); ok {
			in := Input{}
			in.setChoices(choices)
			x.Kind, x.Choices = KindCombo, in.Choices
		}
		// A choice without its list may be any, and so may what follows from other inputs.
		if x.Choices == nil && (x.Kind == "" || x.Kind == KindCombo || strings.HasPrefix(x.Kind, "COMFY_MATCHTYPE")) {
			x.Kind = KindAny
		}
		if i < len(names) {
			x.Name, _ = names[i].Str()
		}
		if i < len(lists) {
			x.List, _ = lists[i].Bool()
		}
		if i < len(docs) {
			x.Doc, _ = docs[i].Str()
		}
		out = append(out, x)
	}
	return out
}

func memberTrue(o workflows.Object, key string) bool {
	v, _ := o.Get(key)
	b, _ := v.Bool()
	return b
}

// Nearest is the name most like s, for messages; empty when none is close.
func Nearest(s string, names []string) string { return nearest(s, names) }
