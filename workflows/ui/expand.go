package ui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// record is a node at one place of the drawing: a node inside of a subgraph has one for each instance.
type record struct {
	id      string // that of the graph, such as "12:7"
	n       *node
	class   *Class // nil where it is unknown
	in      *instance
	slots   []slot
	widgets []*widget
	byName  map[string]*widget
	inner   *instance // what a subgraph's instance holds
}

// slot is an input of a record.
type slot struct {
	name, typ string
	link      string
	widget    *widget
}

// instance is a graph at one place of the drawing.
type instance struct {
	g       *graph
	owner   *record // nil for the root
	records []*record
	byID    map[string]*record
	setters map[string][]*record
}

// hidden is whether a link to a widget stands before its value.
func (r *record) hidden(w *widget) bool {
	for _, s := range r.slots {
		if s.widget == w {
			return s.link != ""
		}
	}
	return false
}

// runs is whether the node and everything around it are neither muted nor bypassed.
func (r *record) runs() bool {
	for ; r != nil; r = r.in.owner {
		if r.n.mode == modeMute || r.n.mode == modeBypass {
			return false
		}
	}
	return true
}

func (r *record) virtual() bool {
	return r.inner != nil || r.class == nil && slices.Contains(virtualClasses, r.n.class)
}

// virtualClasses exist in the page only. A class that the definitions know is none of them.
var virtualClasses = []string{
	"Note", "MarkdownNote", "Reroute", "PrimitiveNode",
	"SetNode", "GetNode", // KJNodes
	"Bookmark (rgthree)", "Label (rgthree)", "Reroute (rgthree)", "Node Collector (rgthree)", "Fast Muter (rgthree)",
	"Fast Bypasser (rgthree)", "Fast Groups Muter (rgthree)", "Fast Groups Bypasser (rgthree)",
	"Mute / Bypass Relay (rgthree)", "Mute / Bypass Repeater (rgthree)", "Fast Actions Button (rgthree)",
}

// expand makes the records of a graph and of the subgraphs in it.
func (c *conversion) expand(g *graph, owner *record, depth int) (*instance, error) {
	in := &instance{g: g, owner: owner, byID: map[string]*record{}, setters: map[string][]*record{}}
	if depth > MaxNesting {
		return nil, refuse(owner, "", "subgraphs are nested more than %d deep", MaxNesting)
	}
	for o := owner; o != nil; o = o.in.owner {
		if o.in.g.id == g.id {
			return nil, refuse(owner, "", "subgraph %s (%q) holds itself", g.id, g.name)
		}
	}
	for _, n := range g.nodes {
		if c.count++; c.count > MaxNodes {
			return nil, &Error{Text: fmt.Sprintf("with its subgraphs written out it has more than %d nodes", MaxNodes)}
		}
		if err := c.spend(n.cost); err != nil {
			return nil, err
		}
		r, err := c.record(n, in, depth)
		if err != nil {
			return nil, err
		}
		in.records = append(in.records, r)
		in.byID[n.id] = r
	}
	c.resolveSetters(in)
	return in, nil
}

func (c *conversion) resolveSetters(in *instance) {
	for _, r := range in.records {
		if r.n.class == "SetNode" && r.virtual() {
			name := r.n.firstText()
			in.setters[name] = append(in.setters[name], r)
		}
	}
}

// firstText is the first value of a node, if it is a text: what a SetNode or GetNode is about.
func (n *node) firstText() string {
	values, _ := n.values.List()
	if len(values) == 0 {
		return ""
	}
	s, _ := values[0].Str()
	return s
}

func (c *conversion) record(n *node, in *instance, depth int) (*record, error) {
	r := &record{id: n.id, n: n, in: in}
	if in.owner != nil {
		r.id = in.owner.id + ":" + n.id
	}
	if g := c.workflow.subgraphs[n.class]; g != nil {
		return r, c.subgraph(r, g, depth)
	}
	if name, ok := groupName(n.class); ok {
		if def, ok := c.workflow.groups.Object(name); ok {
			return r, c.group(r, name, def, depth)
		}
	}
	r.class = c.class(n)
	if r.class != nil {
		var places []place
		var widgets []*widget
		widgets, places = classWidgets(r.class)
		r.addWidgets(widgets...)
		r.classSlots()
		return r, c.take(r, places)
	}
	for _, s := range n.inputs {
		r.slots = append(r.slots, slot{name: s.name, typ: s.typ, link: s.link})
	}
	if !r.virtual() {
		c.unknown(r)
	}
	return r, nil
}

// renamed are classes under the names that old files have.
var renamed = map[string]string{
	"T2IAdapterLoader":         "ControlNetLoader",
	"ConditioningAverage ":     "ConditioningAverage",
	"SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
}

func (c *conversion) class(n *node) *Class {
	if class, ok := c.definitions.Class(n.class); ok {
		return class
	}
	if now, ok := renamed[n.class]; ok && !c.options.LikePage {
		class, _ := c.definitions.Class(now)
		return class
	}
	return nil
}

// classSlots puts the inputs of a class in the editor's order: those without a widget, those with one, then those that
// only the file knows.
func (r *record) classSlots() {
	saved := map[string]inSlot{}
	for _, s := range r.n.inputs {
		if before, ok := saved[s.name]; !ok || before.link == "" {
			saved[s.name] = s
		}
	}
	known := map[string]bool{}
	for _, wanted := range []bool{false, true} {
		for _, in := range r.class.Inputs {
			if (in.Widget != "") != wanted {
				continue
			}
			known[in.Name] = true
			r.slots = append(r.slots, slot{name: in.Name, typ: in.Type, link: saved[in.Name].link, widget: r.widget(in.Name)})
		}
	}
	for _, s := range r.n.inputs {
		if !known[s.name] {
			known[s.name] = true
			r.slots = append(r.slots, slot{name: s.name, typ: s.typ, link: saved[s.name].link})
		}
	}
}

// addWidgets appends widgets. Of those with one name the first is found.
func (r *record) addWidgets(widgets ...*widget) {
	if r.byName == nil {
		r.byName = map[string]*widget{}
	}
	for _, w := range widgets {
		r.widgets = append(r.widgets, w)
		if r.byName[w.name] == nil {
			r.byName[w.name] = w
		}
	}
}

func (r *record) widget(name string) *widget { return r.byName[name] }

// unknown carries the values of a node through whose class nobody knows. They get names only where the file tells
// without doubt.
func (c *conversion) unknown(r *record) {
	values, _ := r.n.values.List()
	o, _ := r.n.values.Object()
	if named := r.n.allNamed(); len(named) > 0 {
		o = named
	}
	if c.options.LikePage {
		o = nil
	} else if o == nil {
		o = r.bySlots(values)
	}
	for _, m := range o {
		if m.Key != controlName {
			r.addWidgets(&widget{name: m.Key, value: m.Value, has: true})
		}
	}
	if o == nil {
		for i, v := range values {
			name := "UNKNOWN"
			if i > 0 {
				name = fmt.Sprintf("UNKNOWN_%d", i)
			}
			r.addWidgets(&widget{name: name, value: v, has: true})
		}
	}
	for i := range r.slots {
		r.slots[i].widget = r.widget(r.slots[i].name)
	}
	if !r.runs() {
		return
	}
	warning := "the class is unknown"
	if o == nil && len(values) > 0 {
		warning += ", its values have no names"
	}
	c.warn(r, "", warning)
}

// bySlots names values by the slots of widgets, if there are as many; words that say how a seed changes have no slot.
func (r *record) bySlots(values []workflows.Value) workflows.Object {
	var names []string
	for _, s := range r.n.inputs {
		if s.widget != "" {
			names = append(names, s.widget)
		}
	}
	kept := values
	if len(names) != len(values) {
		kept = nil
		for i, v := range values {
			s, _ := v.Str()
			if i > 0 && slices.Contains(controls, s) && values[i-1].Kind() == workflows.KindNumber {
				continue
			}
			kept = append(kept, v)
		}
	}
	if len(names) != len(kept) || len(names) == 0 {
		return nil
	}
	o := members{at: map[string]int{}}
	for i, name := range names {
		o.set(name, kept[i])
	}
	return o.o
}

// groupName is the name of the legacy group that a class stands for.
func groupName(class string) (string, bool) {
	if name, ok := strings.CutPrefix(class, "workflow>"); ok {
		return name, true
	}
	return strings.CutPrefix(class, "workflow/")
}
