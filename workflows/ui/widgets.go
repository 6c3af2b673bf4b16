package ui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// widget is a box for a value on a node. That of a subgraph's instance is promoted: it gives its value to what is wired
// to the input of the subgraph.
type widget struct {
	name  string
	input *Input // nil where the class is unknown
	value workflows.Value
	has   bool // a value, which on an instance hides those inside
	page  bool // it is of no use outside of the page
}

// place is one position in the list of a node's values.
type place struct {
	name   string
	widget *widget // nil for what only the page uses
	// control is whether a word stands here that says how a seed changes after each run.
	control bool
}

// serverless are the widget types whose values mean something to the page only.
var serverless = []string{"AUDIO_UI", "IMAGEUPLOAD", "AUDIOUPLOAD"}

// classWidgets returns the widgets of a class and the places of its values.
func classWidgets(c *Class) ([]*widget, []place) {
	var widgets []*widget
	var places []place
	upload := false
	for i := range c.Inputs {
		in := &c.Inputs[i]
		upload = upload || in.Upload
		if in.Widget == "" {
			continue
		}
		w := &widget{name: in.Name, input: in, value: in.Default, has: in.Has, page: slices.Contains(serverless, in.Widget)}
		widgets = append(widgets, w)
		places = append(places, place{name: in.Name, widget: w})
		if in.Control {
			places = append(places, place{name: controlName, control: true})
			if in.Type == "COMBO" {
				places = append(places, place{name: "control_filter_list"})
			}
		}
	}
	if upload {
		places = append(places, place{name: "upload"})
	}
	return widgets, places
}

const controlName = "control_after_generate"

var controls = []string{"fixed", "increment", "decrement", "randomize", "increment-wrap"}

func isControl(v workflows.Value) bool {
	s, _ := v.Str()
	return v.Kind() == workflows.KindBool || v.IsNull() || slices.Contains(controls, s)
}

// take gives the widgets of a node the values that the file has for them.
func (c *conversion) take(r *record, places []place) error {
	values, isList := r.n.values.List()
	if o, ok := r.n.values.Object(); ok {
		return c.takeObject(r, places, o)
	}
	values = withoutForced(r.class, values)
	if named := r.n.allNamed(); len(named) > 0 && !c.options.LikePage {
		if !isList || labels(named, values) {
			r.grow(named)
			takeNamed(places, named)
			return nil
		}
		c.warn(r, "", "widgets_values_named says otherwise than widgets_values, which counts")
	}
	return c.takeList(r, places, values)
}

// allNamed returns the values that the file names, in its order. A name that occurs more than once tells nothing.
func (n *node) allNamed() workflows.Object {
	if len(n.ordered) == 0 {
		return n.named
	}
	var named workflows.Object
	for _, v := range n.ordered {
		o, _ := v.Object()
		value, _ := o.Get("value")
		named = append(named, workflows.Member{Key: o.Text("name"), Value: value})
	}
	return named
}

// labels is whether names were written for just these values: they are the same ones in the same order.
func labels(named workflows.Object, values []workflows.Value) bool {
	return slices.EqualFunc(named, values, func(m workflows.Member, v workflows.Value) bool { return m.Value == v })
}

// takeNamed gives out values by name. Where a name repeats, so does the order of places and values.
func takeNamed(places []place, named workflows.Object) {
	used := make([]bool, len(named))
	for _, p := range places {
		i := slices.IndexFunc(named, func(m workflows.Member) bool { return m.Key == p.name })
		for i >= 0 && i < len(named) && (used[i] || named[i].Key != p.name) {
			i++
		}
		if i < 0 || i >= len(named) {
			continue
		}
		used[i] = true
		p.set(named[i].Value)
	}
}

func (p place) set(v workflows.Value) {
	if p.widget != nil {
		p.widget.value, p.widget.has = v, true
	}
}

// takeObject gives out values by name, or by position where the names are positions.
func (c *conversion) takeObject(r *record, places []place, o workflows.Object) error {
	var values []workflows.Value
	for i := range o {
		v, ok := o.Get(strconv.Itoa(i))
		if !ok {
			break
		}
		values = append(values, v)
	}
	if len(values) == len(o) {
		return c.takeList(r, places, values)
	}
	if !c.options.LikePage {
		r.grow(o)
		takeNamed(places, o)
	}
	return nil
}

// grow adds the widgets that follow from the value of one: they are called after it, as in "resize.width".
func (r *record) grow(named workflows.Object) {
	for _, m := range named {
		parent, _, ok := strings.Cut(m.Key, ".")
		if w := r.widget(parent); ok && w != nil && w.input != nil && w.input.Grows && r.widget(m.Key) == nil {
			r.addWidgets(&widget{name: m.Key, value: m.Value, has: true})
		}
	}
}

// withoutForced drops the values that old versions stored for inputs that only take links, which the number of values
// tells.
func withoutForced(class *Class, values []workflows.Value) []workflows.Value {
	if class == nil {
		return values
	}
	var forced []bool
	for _, in := range class.Inputs {
		if in.Widget == "" && !in.Force {
			continue
		}
		forced = append(forced, in.Force)
		if in.Declared {
			forced = append(forced, false)
		}
	}
	if len(forced) != len(values) || !slices.Contains(forced, true) {
		return values
	}
	var kept []workflows.Value
	for i, v := range values {
		if !forced[i] {
			kept = append(kept, v)
		}
	}
	return kept
}

// takeList gives out values by position. Values that are left over, and widgets that none is left for, are as the editor
// has them: passed over, and at their defaults.
func (c *conversion) takeList(r *record, places []place, values []workflows.Value) error {
	for i, p := range places {
		if i >= len(values) {
			return nil
		}
		if p.widget != nil && p.widget.input != nil && p.widget.input.Grows && r.class != nil {
			return refuse(r, p.name, "how many values it has depends on its value (%s), so only names could tell them apart and the file has none",
				p.widget.input.Type)
		}
		if !c.options.LikePage {
			if expected := p.misfit(r, values[i]); expected != "" {
				return refuse(r, p.name, "found %.60s where %s should be; the values of the node do not fit the widgets of its class"+
					" as it is known here (%d values, %d places), so the file is of another version of it", values[i].Raw(), expected,
					len(values), len(places))
			}
		}
		p.set(values[i])
	}
	if len(values) > len(places) && r.class != nil && slices.ContainsFunc(values[len(places):], meant) {
		c.warn(r, "", fmt.Sprintf("it has %d values, its class %d places for them: the last are passed over", len(values), len(places)))
	}
	return nil
}

// meant is whether a value that is left over may be somebody's: pages leave empty ones and the words on buttons.
func meant(v workflows.Value) bool {
	s, isText := v.Str()
	return !v.IsNull() && !(isText && (s == "" || s == "image")) && !isControl(v)
}

// misfit says what should be at a place that holds a value of a wrong kind. Values that the editor or the server brings
// to the right kind fit, and so does everything where a link hides it.
func (p place) misfit(r *record, v workflows.Value) string {
	if p.control && !isControl(v) {
		return `"fixed", "increment", "decrement" or "randomize"`
	}
	if p.widget == nil || p.widget.input == nil || r.hidden(p.widget) {
		return ""
	}
	s, isText := v.Str()
	switch p.widget.input.Widget {
	case "INT", "FLOAT":
		if _, err := strconv.ParseFloat(strings.TrimSpace(s), 64); isText && err != nil {
			return "a number"
		}
	case "BOOLEAN":
		if isText && !slices.Contains([]string{"true", "false", ""}, strings.ToLower(s)) {
			return "true or false"
		}
	case "COMBO":
		kind := v.Kind()
		same := func(choice workflows.Value) bool { return choice.Kind() == kind }
		choices := p.widget.input.Choices
		if (kind == workflows.KindNumber || kind == workflows.KindBool) && len(choices) > 0 && !slices.ContainsFunc(choices, same) {
			return "one of the choices, such as " + choices[0].Raw() + ","
		}
	}
	return ""
}

// javaText is the text that JavaScript makes of a value.
func javaText(v workflows.Value) string {
	switch v.Kind() {
	case workflows.KindNull:
		return ""
	case workflows.KindString:
		s, _ := v.Str()
		return s
	case workflows.KindList:
		items, _ := v.List()
		texts := make([]string, len(items))
		for i, item := range items {
			texts[i] = javaText(item)
		}
		return strings.Join(texts, ",")
	case workflows.KindObject:
		return "[object Object]"
	}
	return v.Raw()
}
