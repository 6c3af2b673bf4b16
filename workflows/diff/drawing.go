package diff

import (
	"slices"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// The ids under which links name the inputs and outputs of the subgraph that they are in.
const (
	InputNode  = "-10"
	OutputNode = "-20"
)

// What the inputs and outputs of a subgraph are called.
const (
	portsIn  = "inputs of the subgraph"
	portsOut = "outputs of the subgraph"
)

// drawing reads the editor's format, which [ui.Parse] has checked.
func drawing(v workflows.Value, d ui.Definitions) *Document {
	top, _ := v.Object()
	r := &reader{definitions: d, names: map[string]string{}}
	r.collect(top)
	doc := &Document{Drawing: true, Sheets: []*Sheet{r.sheet(top, false)}}
	for _, o := range r.subgraphs {
		doc.Sheets = append(doc.Sheets, r.sheet(o, true))
	}
	slices.SortStableFunc(doc.Sheets[1:], func(a, b *Sheet) int { return strings.Compare(a.ID, b.ID) })
	return doc
}

// reader reads the sheets of a drawing.
type reader struct {
	definitions ui.Definitions
	names       map[string]string // of subgraphs by id
	subgraphs   []workflows.Object
}

// collect finds the subgraphs, those in definitions of subgraphs too. One that is defined twice is so alike.
func (r *reader) collect(o workflows.Object) {
	definitions, _ := o.Value("definitions").Object()
	items, _ := definitions.Value("subgraphs").List()
	for _, item := range items {
		sub, _ := item.Object()
		id := sub.Value("id").Text()
		if _, known := r.names[id]; known {
			continue
		}
		r.names[id] = sub.Value("name").Text()
		r.subgraphs = append(r.subgraphs, sub)
		r.collect(sub)
	}
}

// view are the members of a sheet that say what the editor shows or counts.
var view = []string{"last_node_id", "last_link_id", "state", "revision", "version", "floatingLinks", "reroutes"}

func (r *reader) sheet(o workflows.Object, sub bool) *Sheet {
	s := &Sheet{}
	if sub {
		s.ID, s.Name = o.Value("id").Text(), o.Value("name").Text()
	}
	links := linksOf(o)
	items, _ := o.Value("nodes").List()
	for _, item := range items {
		m, _ := item.Object()
		s.Nodes = append(s.Nodes, r.node(m, links))
	}
	if sub {
		s.Nodes = append(s.Nodes, portNode(InputNode, o.Value("inputs"), links), portNode(OutputNode, o.Value("outputs"), links))
	}
	groups, _ := o.Value("groups").List()
	for _, g := range groups {
		m, _ := g.Object()
		s.Groups = append(s.Groups, Group{Title: m.Value("title").Text(), layout: g.Raw()})
	}
	s.settings(o, sub)
	s.finish()
	return s
}

// settings parts the other members of a sheet into those that mean something and the view.
func (s *Sheet) settings(o workflows.Object, sub bool) {
	var shown workflows.Object
	for _, m := range o {
		switch {
		case slices.Contains([]string{"nodes", "links", "groups", "definitions"}, m.Key):
		case sub && slices.Contains([]string{"id", "name", "inputs", "outputs"}, m.Key):
		case slices.Contains(view, m.Key), sub && (m.Key == "inputNode" || m.Key == "outputNode"):
			shown = append(shown, m)
		case m.Key == "extra":
			extra, _ := m.Value.Object()
			for _, e := range extra {
				if slices.Contains([]string{"ds", "reroutes", "linkExtensions", "frontendVersion"}, e.Key) {
					shown = append(shown, e)
					continue
				}
				s.Settings = append(s.Settings, Named{"extra." + e.Key, e.Value})
			}
		case m.Value.Raw() == "{}" || m.Value.IsNull():
		default:
			s.Settings = append(s.Settings, Named{m.Key, m.Value})
		}
	}
	slices.SortFunc(shown, func(a, b workflows.Member) int { return strings.Compare(a.Key, b.Key) })
	s.view = workflows.ObjectValue(shown)
}

// layoutMembers are those of a node that only the editor's picture needs.
var layoutMembers = []string{"pos", "size", "flags", "color", "bgcolor", "shape", "boxcolor", "locked", "order", "showAdvanced"}

func (r *reader) node(o workflows.Object, links linkTable) *Node {
	n := &Node{ID: o.Value("id").ID(), Class: o.Value("type").Text(), Title: o.Value("title").Text()}
	n.Label = n.Class
	if name, ok := r.names[n.Class]; ok {
		n.Label = name
	}
	mode, _ := o.Value("mode").Int64()
	n.Mode = int(mode)
	n.Literals = r.literals(n.Class, o)
	n.links(o, links)
	var layout workflows.Object
	for _, m := range o {
		switch {
		case slices.Contains(layoutMembers, m.Key):
			if m.Key != "order" {
				layout = append(layout, m)
			}
		case m.Key == "properties":
			properties, _ := m.Value.Object()
			for _, p := range properties {
				if p.Key == "Node name for S&R" {
					continue // the class once more
				}
				n.Members = append(n.Members, Named{"properties." + p.Key, p.Value})
			}
		case !slices.Contains([]string{"id", "type", "title", "mode", "inputs", "outputs"}, m.Key) && !strings.HasPrefix(m.Key, "widgets_values"):
			n.Members = append(n.Members, Named{m.Key, m.Value})
		}
	}
	n.place(layout)
	return n
}

// place takes the layout of a node. Members that say nothing count as missing ones.
func (n *Node) place(layout workflows.Object) {
	layout = slices.DeleteFunc(layout, func(m workflows.Member) bool { return m.Value.IsNull() || m.Value.Raw() == "{}" })
	slices.SortFunc(layout, func(a, b workflows.Member) int { return strings.Compare(a.Key, b.Key) })
	n.layout = workflows.ObjectValue(layout).Raw()
	x, y, placed := pair(layout.Value("pos"))
	w, h, sized := pair(layout.Value("size"))
	if !sized {
		w, h = 220, 60
	}
	n.Box, n.Placed = [4]float64{x, y, w, h}, placed
}

// pair reads two numbers, which old versions wrote as an object with the keys 0 and 1.
func pair(v workflows.Value) (a, b float64, ok bool) {
	items, _ := v.List()
	if o, isObject := v.Object(); isObject {
		items = []workflows.Value{o.Value("0"), o.Value("1")}
	}
	if len(items) < 2 {
		return 0, 0, false
	}
	a, okA := items[0].Float64()
	b, okB := items[1].Float64()
	return a, b, okA && okB && a == a && b == b
}

// links reads the slots of a node.
func (n *Node) links(o workflows.Object, links linkTable) {
	taken := map[string]int{}
	var slots strings.Builder
	inputs, _ := o.Value("inputs").List()
	for i, item := range inputs {
		m, _ := item.Object()
		name := distinct(taken, m.Value("name").Text(), "input "+strconv.Itoa(i+1))
		if from, ok := links.into(n.ID, i, m.Value("link").ID()); ok {
			n.Inputs = append(n.Inputs, Input{name, from})
		}
		slots.WriteString(without(m, "link", "pos", "shape").Raw())
	}
	outputs, _ := o.Value("outputs").List()
	for _, item := range outputs {
		m, _ := item.Object()
		n.Outputs = append(n.Outputs, m.Value("name").Text())
		slots.WriteString(without(m, "links", "slot_index", "pos", "shape").Raw())
	}
	n.slots = slots.String()
}

// without is an object with fewer members, in one order.
func without(o workflows.Object, keys ...string) workflows.Value {
	kept := slices.DeleteFunc(slices.Clone(o), func(m workflows.Member) bool {
		return slices.Contains(keys, m.Key) || m.Value.IsNull()
	})
	slices.SortFunc(kept, func(a, b workflows.Member) int { return strings.Compare(a.Key, b.Key) })
	return workflows.ObjectValue(kept)
}

// distinct makes a name that is not taken.
func distinct(taken map[string]int, name, instead string) string {
	if name == "" {
		name = instead
	}
	taken[name]++
	for k := taken[name]; k > 1; k++ {
		other := name + " #" + strconv.Itoa(k)
		if taken[other] == 0 {
			taken[name], taken[other] = k, 1
			return other
		}
	}
	return name
}

// portNode is the node that stands for the inputs or outputs of a subgraph: their types are its values.
func portNode(id string, ports workflows.Value, links linkTable) *Node {
	n := &Node{ID: id, Class: "inputs", Label: portsIn, port: true}
	if id == OutputNode {
		n.Class, n.Label = "outputs", portsOut
	}
	taken := map[string]int{}
	items, _ := ports.List()
	for i, item := range items {
		m, _ := item.Object()
		name := distinct(taken, m.Value("name").Text(), "port "+strconv.Itoa(i+1))
		n.Literals = append(n.Literals, Named{name, m.Value("type")})
		if id == InputNode {
			n.Outputs = append(n.Outputs, name)
			continue
		}
		if from, ok := links.into(id, i, ""); ok {
			n.Inputs = append(n.Inputs, Input{name, from})
		}
	}
	return n
}

// linkTable is the links of a sheet.
type linkTable struct {
	byID map[string]Source
	to   map[slot]string // the link that arrives there
}

// slot is an input of a node.
type slot struct {
	node string
	at   int64
}

func linksOf(o workflows.Object) linkTable {
	t := linkTable{byID: map[string]Source{}, to: map[slot]string{}}
	items, _ := o.Value("links").List()
	for _, item := range items {
		l := linkItems(item)
		if len(l) < 5 {
			continue
		}
		id := l[0].ID()
		from, _ := l[2].Int64()
		t.byID[id] = Source{l[1].ID(), int(from)}
		at, _ := l[4].Int64()
		if _, ok := t.to[slot{l[3].ID(), at}]; !ok {
			t.to[slot{l[3].ID(), at}] = id
		}
	}
	return t
}

// linkItems are the id, origin, origin slot, target, target slot and type of a link in either form.
func linkItems(v workflows.Value) []workflows.Value {
	items, ok := v.List()
	if o, isObject := v.Object(); isObject && !ok {
		for _, key := range []string{"id", "origin_id", "origin_slot", "target_id", "target_slot", "type"} {
			items = append(items, o.Value(key))
		}
	}
	return items
}

// into finds the source of an input: by the link that it names, else by the link that names it.
func (t linkTable) into(node string, at int, id string) (Source, bool) {
	if from, ok := t.byID[id]; ok && id != "" {
		return from, true
	}
	if id == "" && node != OutputNode {
		return Source{}, false
	}
	from, ok := t.byID[t.to[slot{node, int64(at)}]]
	return from, ok
}
