package ui

import (
	"fmt"
	"strconv"

	"github.com/comfyrun/comfyrun/workflows"
)

// Workflow is a workflow as the editor saved it.
type Workflow struct {
	root      *graph
	subgraphs map[string]*graph
	groups    workflows.Object // legacy group nodes by name
}

// graph is the drawing, or a subgraph of it.
type graph struct {
	id      string // of a subgraph
	name    string
	nodes   []*node
	links   map[string]link
	inputs  []port // of a subgraph
	outputs []port
}

// The ends of links that lead out of a subgraph.
const (
	inputNode  = "-10"
	outputNode = "-20"
)

// port is an input or output of a subgraph.
type port struct {
	name, typ string
	links     []string
}

type link struct {
	origin     string
	originSlot int
	target     string
	targetSlot int
}

type node struct {
	id, class  string
	title      string // empty for that of the class
	mode       int
	inputs     []inSlot
	outputs    []string // types
	values     workflows.Value
	named      workflows.Object
	ordered    []workflows.Value
	properties workflows.Object
	cost       int // of looking at it once, in units of conversion.spend
}

type inSlot struct {
	name, typ string
	link      string // its id, or empty
	widget    string // the name of its widget, or empty
}

// The modes of nodes; all others run.
const (
	modeMute   = 2
	modeBypass = 4
)

// Parse reads a workflow that the editor saved: format 0.4 or 1.0. Text that is no JSON gives a
// *[workflows.SyntaxError], another shape an *[Error].
func Parse(data []byte) (*Workflow, error) {
	v, err := workflows.ParseValue(data)
	if err != nil {
		return nil, fmt.Errorf("parse workflow: %w", err)
	}
	return fromValue(v)
}

func fromValue(v workflows.Value) (*Workflow, error) {
	if !isUI(v) {
		return nil, &Error{Text: `not in the editor's format, which has lists "nodes" and "links"`}
	}
	top, _ := v.Object()
	w := &Workflow{subgraphs: map[string]*graph{}}
	extra, _ := top.Object("extra")
	w.groups, _ = extra.Object("groupNodes")
	var err error
	if w.root, err = parseGraph(top); err != nil {
		return nil, err
	}
	return w, w.define(top, map[string]workflows.Value{})
}

// define reads the subgraphs of a graph, and those that they hold.
func (w *Workflow) define(top workflows.Object, seen map[string]workflows.Value) error {
	definitions, _ := top.Object("definitions")
	for _, v := range definitions.List("subgraphs") {
		o, _ := v.Object()
		g, err := parseGraph(o)
		if err != nil {
			return err
		}
		g.id, g.name = o.Text("id"), o.Text("name")
		if g.id == "" {
			return &Error{Text: fmt.Sprintf("subgraph %q has no id", g.name)}
		}
		if before, ok := seen[g.id]; ok && before != v {
			return &Error{Text: fmt.Sprintf("subgraph %s (%q) is defined twice, differently", g.id, g.name)}
		}
		seen[g.id] = v
		g.inputs, g.outputs = ports(o, "inputs"), ports(o, "outputs")
		w.subgraphs[g.id] = g
		if err := w.define(o, seen); err != nil {
			return err
		}
	}
	return nil
}

func ports(o workflows.Object, key string) []port {
	var ports []port
	for _, v := range o.List(key) {
		m, _ := v.Object()
		p := port{name: m.Text("name"), typ: slotType(m)}
		for _, id := range m.List("linkIds") {
			p.links = append(p.links, idOf(id))
		}
		ports = append(ports, p)
	}
	return ports
}

func parseGraph(o workflows.Object) (*graph, error) {
	g := &graph{links: map[string]link{}}
	known := map[string]bool{}
	for i, v := range o.List("nodes") {
		n, err := parseNode(i, v)
		if err != nil {
			return nil, err
		}
		if known[n.id] {
			return nil, &Error{Node: n.id, Class: n.class, Text: "another node has this id too"}
		}
		known[n.id] = true
		g.nodes = append(g.nodes, n)
	}
	if len(g.nodes) > MaxNodes {
		return nil, &Error{Text: fmt.Sprintf("%d nodes are more than %d", len(g.nodes), MaxNodes)}
	}
	for i, v := range o.List("links") {
		id, l, err := parseLink(v)
		if err != nil {
			return nil, &Error{Text: fmt.Sprintf("link %d: %v", i+1, err)}
		}
		if id != "" {
			g.links[id] = l
		}
	}
	g.mend()
	return g, nil
}

// mend repairs inputs that name a link which is not in the list, where the list has another one to that very input.
func (g *graph) mend() {
	arrives := map[string]string{}
	for id, l := range g.links {
		at := l.target + "#" + strconv.Itoa(l.targetSlot)
		if before, ok := arrives[at]; !ok || id < before {
			arrives[at] = id
		}
	}
	for _, n := range g.nodes {
		for i, s := range n.inputs {
			if _, known := g.links[s.link]; s.link != "" && !known {
				if id, ok := arrives[n.id+"#"+strconv.Itoa(i)]; ok {
					n.inputs[i].link = id
				}
			}
		}
	}
}

// parseLink reads both forms: a list of six and an object. Null, which old versions left behind, is no link.
func parseLink(v workflows.Value) (string, link, error) {
	if v.IsNull() {
		return "", link{}, nil
	}
	items, ok := v.List()
	if !ok {
		o, isObject := v.Object()
		if !isObject {
			return "", link{}, fmt.Errorf("%.60s is neither a list nor an object", v.Raw())
		}
		for _, key := range []string{"id", "origin_id", "origin_slot", "target_id", "target_slot"} {
			item, _ := o.Get(key)
			items = append(items, item)
		}
	}
	if len(items) < 5 {
		return "", link{}, fmt.Errorf("%.60s has not all of id, origin, origin slot, target, target slot", v.Raw())
	}
	l := link{origin: idOf(items[1]), originSlot: slotNumber(items[2]), target: idOf(items[3]), targetSlot: slotNumber(items[4])}
	id := idOf(items[0])
	if id == "" || l.origin == "" || l.originSlot < 0 {
		return "", link{}, fmt.Errorf("%.60s has no sound id, origin and origin slot", v.Raw())
	}
	return id, l, nil
}

// slotNumber is -1 for what is no number of a slot.
func slotNumber(v workflows.Value) int {
	text, _ := v.Str()
	if i, err := strconv.Atoi(text); err == nil {
		return i
	}
	if i, ok := v.Int64(); ok && i >= 0 && i < 1<<20 {
		return int(i)
	}
	return -1
}

func parseNode(i int, v workflows.Value) (*node, error) {
	o, ok := v.Object()
	if !ok {
		return nil, &Error{Text: fmt.Sprintf("node %d of the list is a %s, not an object", i+1, v.Kind())}
	}
	n := &node{class: o.Text("type"), cost: 1 + len(v.Raw())/16}
	id, _ := o.Get("id")
	if n.id = idOf(id); n.id == "" {
		return nil, &Error{Text: fmt.Sprintf("node %d of the list (%q) has no id", i+1, n.class)}
	}
	if n.class == "" {
		return nil, &Error{Node: n.id, Text: `it has no "type"`}
	}
	if title, ok := o.Get("title"); ok {
		n.title, _ = title.Str()
	}
	mode, _ := o.Get("mode")
	m, _ := mode.Int64()
	n.mode = int(m)
	n.values, _ = o.Get("widgets_values")
	n.named, _ = o.Object("widgets_values_named")
	n.ordered = o.List("widgets_values_ordered")
	n.properties, _ = o.Object("properties")
	n.slots(o)
	return n, nil
}

func (n *node) slots(o workflows.Object) {
	for _, v := range o.List("inputs") {
		m, _ := v.Object()
		s := inSlot{name: m.Text("name"), typ: slotType(m)}
		link, _ := m.Get("link")
		s.link = idOf(link)
		widget, _ := m.Object("widget")
		s.widget = widget.Text("name")
		n.inputs = append(n.inputs, s)
	}
	for _, v := range o.List("outputs") {
		m, _ := v.Object()
		n.outputs = append(n.outputs, slotType(m))
	}
}

// idOf is the id of a node or link as text: ids are numbers or texts. It is empty for anything else.
func idOf(v workflows.Value) string {
	if i, ok := v.Int64(); ok {
		return strconv.FormatInt(i, 10)
	}
	s, _ := v.Str()
	return s
}

func slotType(o workflows.Object) string {
	v, _ := o.Get("type")
	return typeName(v)
}

// typeName is the type of a slot. Numbers stand for anything.
func typeName(v workflows.Value) string {
	switch s, ok := v.Str(); {
	case ok:
		return s
	case v.Kind() == workflows.KindList:
		return "COMBO"
	}
	return "*"
}

// truthy is whether JavaScript takes an option for true.
func truthy(o workflows.Object, key string) bool {
	v, _ := o.Get(key)
	switch v.Kind() {
	case workflows.KindNull:
		return false
	case workflows.KindBool:
		b, _ := v.Bool()
		return b
	case workflows.KindNumber:
		f, _ := v.Float64()
		return f != 0
	case workflows.KindString:
		s, _ := v.Str()
		return s != ""
	}
	return true
}
