package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Members is a JSON object whose keys keep their order.
type Members []Member

// Member is one key and value of a JSON object.
type Member struct {
	Key   string
	Value any
}

// Get finds a member by its key; nil when there is none.
func (m Members) Get(key string) any {
	for _, e := range m {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}

// MarshalJSON writes the members in order.
func (m Members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, e := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(e.Key); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(e.Value); err != nil {
			return nil, fmt.Errorf("encode %q: %w", e.Key, err)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// ObjectInfo is what ComfyUI answers to GET /object_info: every node type by
// its class. It marshals to the same JSON, key order included.
func ObjectInfo(c *Catalog) Members {
	var out Members
	for _, t := range c.Types() {
		out = append(out, Member{t.Class, t.Info()})
	}
	return out
}

// Info is the entry of one node type in object_info. Lists of choices are
// asked for now.
func (t *NodeType) Info() Members {
	input, order := t.inputInfo()
	out := Members{
		{"input", input}, {"input_order", order},
		{"output", t.each(Output.info)}, {"output_is_list", t.each(func(o Output) any { return o.List })},
		{"output_name", t.each(func(o Output) any { return o.Name })},
	}
	if t.V3 {
		out = append(out, t.tooltips()...)
	}
	out = append(out, Member{"name", t.Class}, Member{"display_name", t.displayName()},
		Member{"description", t.Doc}, Member{"python_module", orElse(t.Module, "nodes")},
		Member{"category", t.Category}, Member{"output_node", t.IsOutput})
	if !t.V3 {
		out = append(out, t.tooltips()...)
	}
	return append(out, t.flags()...)
}

// displayName falls back to the class, except for V3 types, where ComfyUI
// leaves null.
func (t *NodeType) displayName() any {
	if t.V3 && t.Title == "" {
		return nil
	}
	return orElse(t.Title, t.Class)
}

func (t *NodeType) each(f func(Output) any) []any {
	out := make([]any, len(t.Outputs))
	for i, o := range t.Outputs {
		out[i] = f(o)
	}
	return out
}

func (o Output) info() any {
	if o.Choices != nil {
		return names(o.Choices)
	}
	return o.Kind
}

// names is a list that marshals as [] when there is nothing in it.
func names(choices func() []string) []string { return append([]string{}, choices()...) }

func (t *NodeType) tooltips() Members {
	documented := false
	list := t.each(func(o Output) any {
		documented = documented || o.Doc != ""
		if o.Doc == "" && t.V3 {
			return nil
		}
		return o.Doc
	})
	if !documented && !t.V3 {
		return nil
	}
	return Members{{"output_tooltips", list}}
}

func (t *NodeType) flags() Members {
	var out Members
	for _, f := range []struct {
		key string
		on  bool
	}{{"deprecated", t.Deprecated}, {"experimental", t.Experimental}, {"api_node", false}} {
		if f.on || t.V3 {
			out = append(out, Member{f.key, f.on})
		}
	}
	return out
}

// inputInfo is the declared inputs by category, and their names in order
// (JavaScript would reorder names that look like numbers).
func (t *NodeType) inputInfo() (input, order Members) {
	byCategory := map[string]Members{"required": {}}
	for i := range t.Inputs {
		in := &t.Inputs[i]
		category := "required"
		if in.Optional {
			category = "optional"
		}
		byCategory[category] = append(byCategory[category], Member{in.Name, in.info(t.V3)})
	}
	for _, h := range t.shownHidden() {
		var kind any = h.Kind
		if t.V3 {
			kind = []HiddenKind{h.Kind}
		}
		byCategory["hidden"] = append(byCategory["hidden"], Member{h.Name, kind})
	}
	for _, category := range []string{"required", "optional", "hidden"} {
		if members, ok := byCategory[category]; ok {
			input = append(input, Member{category, members})
			order = append(order, Member{category, members.keys()})
		}
	}
	return input, order
}

// shownHidden is the hidden inputs; ComfyUI gives every V3 output node two.
func (t *NodeType) shownHidden() []Hidden {
	out := t.Hidden
	for _, h := range []Hidden{{"prompt", HiddenPrompt}, {"extra_pnginfo", HiddenExtraPNGInfo}} {
		if t.V3 && t.IsOutput && !t.hides(h.Kind) {
			out = append(out[:len(out):len(out)], h)
		}
	}
	return out
}

func (m Members) keys() []string {
	out := make([]string, len(m))
	for i, e := range m {
		out[i] = e.Key
	}
	return out
}

// info is [type, options]; types of the older form leave empty options out
// and have the list of choices as type, unless Options holds it.
func (in *Input) info(v3 bool) []any {
	options := in.options(v3)
	switch {
	case v3, in.Options.Get("options") != nil:
		return []any{in.Kind, options}
	case in.Choices != nil && len(options) == 0:
		return []any{names(in.Choices)}
	case in.Choices != nil:
		return []any{names(in.Choices), options}
	case len(options) == 0:
		return []any{in.Kind}
	}
	return []any{in.Kind, options}
}

func (in *Input) options(v3 bool) Members {
	out := Members{}
	add := func(key string, value any, on bool) {
		if on {
			out = append(out, Member{key, value})
		}
	}
	combo := v3 && in.Choices != nil
	add("tooltip", in.Doc, v3 && in.Doc != "")
	add("default", in.Default, in.Default != nil)
	add("min", in.Min, in.Min.IsSet())
	add("max", in.Max, in.Max.IsSet())
	add("step", in.Step, in.Step.IsSet())
	add("round", in.Round, in.Round.IsSet())
	add("multiselect", false, combo)
	if combo {
		add("options", names(in.Choices), true)
	}
	out = append(out, in.Options...)
	add("tooltip", in.Doc, !v3 && in.Doc != "")
	return out
}
