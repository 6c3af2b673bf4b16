package ui

import (
	"slices"
	"strconv"

	"github.com/comfyrun/comfyrun/workflows"
)

// group is the definition of a legacy group node: a subgraph that leaves out what its nodes tell.
type group struct {
	name   string
	nodes  []*node
	links  []groupLink
	used   map[end]bool // outputs that something inside uses
	shown  map[end]bool // outputs that lead out although something inside uses them
	hidden map[end]bool // outputs that do not lead out
	cost   int
}

// groupLink is a link with its id; origin and target are positions in the list of nodes.
type groupLink struct {
	id string
	link
}

// end is an output or input of one of the nodes of a group.
type end struct{ node, slot int }

// group makes a record the instance of a group.
func (c *conversion) group(r *record, name string, def workflows.Object, depth int) error {
	d := c.groups[name]
	if d == nil {
		var err error
		if d, err = parseGroup(r, name, def); err != nil {
			return err
		}
		c.groups[name] = d
	}
	if err := c.spend(d.cost); err != nil {
		return err
	}
	inner, err := c.expand(d.graph(), r, depth+1)
	if err != nil {
		return err
	}
	r.inner = inner
	r.groupOutputs(d)
	return c.take(r, r.groupInputs())
}

func parseGroup(r *record, name string, def workflows.Object) (*group, error) {
	d := &group{name: name, used: map[end]bool{}, shown: map[end]bool{}, hidden: map[end]bool{}}
	for i, v := range def.List("nodes") {
		o, _ := v.Object()
		o.Set("id", workflows.IntValue(int64(i)))
		n, err := parseNode(i, workflows.ObjectValue(o))
		if err != nil {
			return nil, err
		}
		for k := range n.inputs {
			n.inputs[k].link = "" // an id of the drawing that the group was made of
		}
		d.nodes = append(d.nodes, n)
		d.cost += n.cost
	}
	for _, v := range def.List("external") {
		if items, _ := v.List(); len(items) >= 2 {
			d.shown[end{slotNumber(items[0]), slotNumber(items[1])}] = true
		}
	}
	config, _ := def.Object("config")
	for _, m := range config {
		d.configure(m)
	}
	return d, d.wire(r, def.List("links"))
}

// configure reads what is hidden of one node.
func (d *group) configure(m workflows.Member) {
	i, err := strconv.Atoi(m.Key)
	o, _ := m.Value.Object()
	outputs, _ := o.Object("output")
	for _, output := range outputs {
		slot, failed := strconv.Atoi(output.Key)
		settings, _ := output.Value.Object()
		visible, _ := settings.Get("visible")
		if err == nil && failed == nil && visible == workflows.BoolValue(false) {
			d.hidden[end{i, slot}] = true
		}
	}
}

// wire reads the links: [from, slot, to, slot, …] with positions in the list of nodes, or null for what came from outside.
func (d *group) wire(r *record, links []workflows.Value) error {
	for i, v := range links {
		items, _ := v.List()
		if len(items) < 4 || items[0].IsNull() || items[2].IsNull() {
			continue
		}
		from := end{slotNumber(items[0]), slotNumber(items[1])}
		to := end{slotNumber(items[2]), slotNumber(items[3])}
		if min(from.node, from.slot, to.node, to.slot) < 0 || max(from.node, to.node) >= len(d.nodes) || to.slot >= len(d.nodes[to.node].inputs) {
			return refuse(r, "", "link %d of its group, %.60s, leads nowhere", i+1, v.Raw())
		}
		l := groupLink{id: strconv.Itoa(i), link: link{origin: strconv.Itoa(from.node), originSlot: from.slot,
			target: strconv.Itoa(to.node), targetSlot: to.slot}}
		d.links = append(d.links, l)
		d.nodes[to.node].inputs[to.slot].link = l.id
		d.used[from] = true
	}
	d.cost += len(d.links)
	return nil
}

// graph is the subgraph that an instance of the group holds, still without inputs and outputs.
func (d *group) graph() *graph {
	g := &graph{id: "workflow>" + d.name, name: d.name, nodes: d.nodes, links: make(map[string]link, len(d.links))}
	for _, l := range d.links {
		g.links[l.id] = l.link
	}
	return g
}

// groupInputs gives a group's instance its slots, and returns the places of its values: those of the nodes inside, one
// after the other. Inputs without a widget come first, then widgets that were turned into inputs.
func (r *record) groupInputs() []place {
	for _, widgets := range []bool{false, true} {
		for _, inside := range r.inner.records {
			converted := inside.converted()
			for i := range inside.slots {
				if s := &inside.slots[i]; s.link == "" && (s.widget != nil) == widgets && (!widgets || converted[s.name]) {
					r.groupInput(inside, s)
				}
			}
		}
	}
	var places []place
	for _, inside := range r.inner.records {
		if inside.class == nil {
			continue
		}
		converted := inside.converted()
		widgets, own := classWidgets(inside.class)
		for _, p := range own {
			if i := slices.Index(widgets, p.widget); i >= 0 {
				if converted[p.name] {
					continue
				}
				p.widget = inside.widgets[i]
			}
			places = append(places, p)
		}
	}
	return places
}

// groupInput adds an input of a node inside to the instance. Its link is that of the saved slot at the same position.
func (r *record) groupInput(inside *record, s *slot) {
	i := len(r.slots)
	outer := slot{name: s.name, typ: s.typ}
	if i < len(r.n.inputs) {
		outer.name, outer.link = r.n.inputs[i].name, r.n.inputs[i].link
	}
	r.slots = append(r.slots, outer)
	s.link = "in" + strconv.Itoa(i)
	r.inner.g.links[s.link] = link{origin: inputNode, originSlot: i, target: inside.n.id}
	r.inner.g.inputs = append(r.inner.g.inputs, port{name: outer.name, typ: outer.typ})
}

// converted are the widgets that the file turned into inputs.
func (r *record) converted() map[string]bool {
	names := map[string]bool{}
	for _, s := range r.n.inputs {
		if s.widget != "" {
			names[s.widget] = true
		}
	}
	return names
}

// groupOutputs gives a group's instance its outputs: those that nothing inside uses, and those said to lead out.
func (r *record) groupOutputs(d *group) {
	for i, inside := range r.inner.records {
		for slot, typ := range inside.outputTypes() {
			at := end{i, slot}
			if d.used[at] && !d.shown[at] || d.hidden[at] {
				continue
			}
			g := r.inner.g
			id := "out" + strconv.Itoa(len(g.outputs))
			g.links[id] = link{origin: inside.n.id, originSlot: slot, target: outputNode, targetSlot: len(g.outputs)}
			g.outputs = append(g.outputs, port{typ: typ, links: []string{id}})
		}
	}
}
