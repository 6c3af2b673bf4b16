package ui

import (
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// conversion is the state of one conversion.
type conversion struct {
	workflow    *Workflow
	definitions Definitions
	options     Options
	root        *instance
	warnings    []Warning
	warned      map[Warning]bool
	groups      map[string]*group
	routes      map[route]source
	count       int // records made
	work        int // units spent
	bytes       int // of values in the graph
}

// spend counts work, so that a small file cannot ask for more than a large one: a unit for a node, a link that is followed
// or 16 bytes that are read again.
func (c *conversion) spend(units int) error {
	if c.work += units; c.work > maxWork {
		return &Error{Text: "its subgraphs and links stand for more than can be followed"}
	}
	return nil
}

// Convert makes the graph that the drawing stands for, nodes in the order of the file, those of a subgraph in the place
// of its instance. What is wrong is an *[Error].
func (w *Workflow) Convert(d Definitions, o Options) (*workflows.Graph, []Warning, error) {
	if d == nil {
		d = ObjectInfo(nil)
	}
	c := &conversion{workflow: w, definitions: d, options: o, warned: map[Warning]bool{}, groups: map[string]*group{}, routes: map[route]source{}}
	var err error
	if c.root, err = c.expand(w.root, nil, 0); err != nil {
		return nil, c.warnings, err
	}
	g := &workflows.Graph{}
	if err := c.emitAll(g, c.root); err != nil {
		return nil, c.warnings, err
	}
	return g, c.warnings, nil
}

func (c *conversion) warn(r *record, input, text string) {
	w := Warning{Node: r.id, Class: r.n.class, Input: input, Text: text}
	if !c.warned[w] && len(c.warnings) < maxWarnings {
		c.warned[w] = true
		c.warnings = append(c.warnings, w)
	}
}

func (c *conversion) emitAll(g *workflows.Graph, in *instance) error {
	for _, r := range in.records {
		if r.n.mode == modeMute || r.n.mode == modeBypass {
			continue
		}
		if r.inner != nil {
			if err := c.emitAll(g, r.inner); err != nil {
				return err
			}
			continue
		}
		if r.virtual() {
			continue
		}
		n, err := c.emit(r)
		if err != nil {
			return err
		}
		if err := g.Add(n); err != nil {
			return refuse(r, "", "another node has this id too")
		}
	}
	return nil
}

// emit makes the node of a record: first its values, then its links, which hide values.
func (c *conversion) emit(r *record) (*workflows.Node, error) {
	n := &workflows.Node{ID: r.id, Class: r.n.class, Title: r.title()}
	inputs := members{o: workflows.Object{}, at: map[string]int{}}
	if r.class != nil {
		n.Class = r.class.Name
	}
	c.pushPrimitives(r)
	for _, w := range r.widgets {
		if w.has && !w.page {
			v, err := c.literal(r, w)
			if err != nil {
				return nil, err
			}
			inputs.set(w.name, v)
		}
	}
	for i, s := range r.slots {
		from, err := c.source(r, i)
		if err != nil {
			return nil, err
		}
		switch {
		case from.literal != nil:
			v, err := c.promoted(r, s, from.literal)
			if err != nil {
				return nil, err
			}
			inputs.set(s.name, v)
		case from.record != nil && from.record.runs():
			inputs.set(s.name, workflows.LinkValue(workflows.Link{Node: from.record.id, Slot: from.slot}))
		}
	}
	n.Inputs = inputs.o
	for _, m := range n.Inputs {
		if c.bytes += len(m.Value.Raw()); c.bytes > MaxOutput {
			return nil, refuse(r, m.Key, "the graph would have more than %d MiB of values", MaxOutput>>20)
		}
	}
	return n, nil
}

// members is an object that is built key by key.
type members struct {
	o  workflows.Object
	at map[string]int
}

func (m *members) set(key string, v workflows.Value) {
	if i, ok := m.at[key]; ok {
		m.o[i].Value = v
		return
	}
	m.at[key] = len(m.o)
	m.o = append(m.o, workflows.Member{Key: key, Value: v})
}

func (r *record) title() string {
	switch {
	case r.n.title != "":
		return r.n.title
	case r.class == nil:
		return ""
	case r.class.Title != "":
		return r.class.Title
	}
	return r.class.Name
}

// pushPrimitives gives widgets the value of the PrimitiveNode that they are linked to. That works in the same graph
// without anything between, even where the PrimitiveNode is muted.
func (c *conversion) pushPrimitives(r *record) {
	for _, s := range r.slots {
		l, ok := r.in.g.links[s.link]
		from := r.in.byID[l.origin]
		if !ok || s.widget == nil || from == nil || from.n.class != "PrimitiveNode" || !from.virtual() {
			continue
		}
		if values, _ := from.n.values.List(); len(values) > 0 {
			s.widget.value, s.widget.has = values[0], true
		}
	}
}

// literal is the value of a widget as the API format has it.
func (c *conversion) literal(r *record, w *widget) (workflows.Value, error) {
	v := w.value
	if s, ok := v.Str(); ok && w.name == "filename_prefix" && strings.Contains(s, "%") {
		replaced, err := c.replaceText(r, s)
		if err != nil {
			return v, err
		}
		v = workflows.StringValue(replaced)
	}
	if in := w.input; in != nil && in.Widget == "STRING" {
		if in.Multiline {
			v = asText(v)
		}
		if s, ok := v.Str(); ok && in.Dynamic {
			v = workflows.StringValue(c.expandText(r, w, s))
		}
	}
	if s, ok := v.Str(); ok && w.name == "sampler_name" && (r.n.class == "KSampler" || r.n.class == "KSamplerAdvanced") {
		v = workflows.StringValue(trimSample(s))
	}
	return wrapped(v), nil
}

// expandText chooses from {a|b} in a text, or warns of it.
func (c *conversion) expandText(r *record, w *widget, s string) string {
	if c.options.Random != nil {
		return ExpandPrompt(s, c.options.Random)
	}
	if ExpandPrompt(s, func() float64 { return 0 }) != s {
		c.warn(r, w.name, "its alternatives {a|b}, comments or backslashes, which the editor would expand, stay as they are")
	}
	return s
}

func asText(v workflows.Value) workflows.Value {
	if v.Kind() == workflows.KindString {
		return v
	}
	return workflows.StringValue(javaText(v))
}

// promoted is the value that a widget inside of a subgraph gets from the instance. The editor expands no {a|b} in it;
// people who ask for expansion mean it there too.
func (c *conversion) promoted(r *record, s slot, w *widget) (workflows.Value, error) {
	inside := s.widget
	if inside == nil || inside.input == nil || c.options.LikePage && inside.input.Dynamic {
		return wrapped(w.value), nil
	}
	return c.literal(r, &widget{name: inside.name, input: inside.input, value: w.value})
}

// wrapped puts a list where it cannot be taken for a link.
func wrapped(v workflows.Value) workflows.Value {
	if v.Kind() != workflows.KindList {
		return v
	}
	return workflows.ObjectValue(workflows.Object{{Key: "__value__", Value: v}})
}
