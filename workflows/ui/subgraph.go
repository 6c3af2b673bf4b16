package ui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// subgraph makes a record the instance of a subgraph: its slots are the subgraph's inputs, its widgets the promoted
// ones.
func (c *conversion) subgraph(r *record, g *graph, depth int) error {
	inner, err := c.expand(g, r, depth+1)
	if err != nil {
		return err
	}
	r.inner = inner
	targets := r.promotedTargets()
	for i, p := range g.inputs {
		s := slot{name: p.name, typ: p.typ, link: r.savedLink(p)}
		if t := targets[i]; t != nil {
			s.widget = &widget{name: p.name, input: t.input}
			r.widgets = append(r.widgets, s.widget)
		}
		r.slots = append(r.slots, s)
	}
	places, err := c.instancePlaces(r)
	if err != nil {
		return err
	}
	return c.take(r, places)
}

// savedLink finds the link of an input: the slot of that name and type, else that of the name.
func (r *record) savedLink(p port) string {
	found := ""
	for _, s := range r.n.inputs {
		if s.name == p.name && (found == "" || s.typ == p.typ) && s.link != "" {
			found = s.link
		}
	}
	return found
}

// promotedTargets returns for each input of the subgraph the first widget inside that it is wired to.
func (r *record) promotedTargets() map[int]*widget {
	targets := map[int]*widget{}
	for _, inside := range r.inner.records {
		for _, s := range inside.slots {
			l, ok := r.inner.g.links[s.link]
			if ok && l.origin == inputNode && s.widget != nil && targets[l.originSlot] == nil {
				targets[l.originSlot] = s.widget
			}
		}
	}
	return targets
}

// instancePlaces returns the places of an instance's values: in the order of the property proxyWidgets, then the
// promoted widgets that it leaves out.
func (c *conversion) instancePlaces(r *record) ([]place, error) {
	var places []place
	listed := map[*widget]bool{}
	for _, v := range list(r.n.properties, "proxyWidgets") {
		items, _ := v.List()
		if len(items) < 2 {
			continue
		}
		name, _ := items[1].Str()
		if strings.HasPrefix(name, "$$") {
			continue // a preview, which has no value
		}
		p := r.proxy(idOf(items[0]), name)
		if p.widget != nil {
			listed[p.widget] = true
		}
		places = append(places, p)
	}
	proxies := len(places) > 0
	for _, w := range r.widgets {
		if !listed[w] {
			places = append(places, place{name: w.name, widget: w})
		}
	}
	if !proxies && !c.options.LikePage {
		places = withControls(places, r.n.values)
	}
	return places, nil
}

// proxy is the place of a widget inside, or of a promoted one (node -1).
func (r *record) proxy(id, name string) place {
	if id == "-1" {
		return place{name: name, widget: r.widget(name)}
	}
	if name == controlName {
		return place{name: name, control: true}
	}
	inside := r.inner
	for {
		if found := inside.byID[id]; found != nil {
			return place{name: name, widget: found.widget(name)}
		}
		head, rest, ok := strings.Cut(id, ":")
		next := inside.byID[head]
		if !ok || next == nil || next.inner == nil {
			return place{name: name}
		}
		inside, id = next.inner, rest
	}
}

// withControls adds places for the control values that some versions stored after promoted seeds, if the number of
// values and the values say that they are there.
func withControls(places []place, stored workflows.Value) []place {
	values, _ := stored.List()
	var all []place
	for _, p := range places {
		all = append(all, p)
		if p.widget.input != nil && p.widget.input.Control {
			all = append(all, place{name: controlName, control: true})
		}
	}
	if len(all) == len(places) || len(values) != len(all) {
		return places
	}
	for i, p := range all {
		if p.control && !isControl(values[i]) {
			return places
		}
	}
	return all
}

// group makes a record the instance of a legacy group node, which is a subgraph whose definition leaves out what can be
// told from its nodes.
func (c *conversion) group(r *record, name string, def workflows.Object, depth int) error {
	g := &graph{id: "workflow>" + name, name: name, links: map[string]link{}}
	for i, v := range list(def, "nodes") {
		o, _ := v.Object()
		o = slices.Clone(o)
		o.Set("id", workflows.IntValue(int64(i)))
		n, err := parseNode(i, workflows.ObjectValue(o))
		if err != nil {
			return err
		}
		for k := range n.inputs {
			n.inputs[k].link = "" // an id of the drawing that the group was made of
		}
		g.nodes = append(g.nodes, n)
	}
	used, err := g.groupLinks(r, list(def, "links"))
	if err != nil {
		return err
	}
	if r.inner, err = c.expand(g, r, depth+1); err != nil {
		return err
	}
	r.groupOutputs(def, used)
	return c.take(r, r.groupInputs())
}

// groupLinks wires the nodes of a group: links are [from, slot, to, slot, …] with positions in the list of nodes, or
// null for what came from outside. It returns the outputs that are used inside.
func (g *graph) groupLinks(r *record, links []workflows.Value) (map[[2]int]bool, error) {
	used := map[[2]int]bool{}
	for i, v := range links {
		items, _ := v.List()
		if len(items) < 4 || items[0].IsNull() || items[2].IsNull() {
			continue
		}
		from, fromSlot, to, toSlot := slotNumber(items[0]), slotNumber(items[1]), slotNumber(items[2]), slotNumber(items[3])
		if from < 0 || from >= len(g.nodes) || fromSlot < 0 || to < 0 || to >= len(g.nodes) || toSlot < 0 || toSlot >= len(g.nodes[to].inputs) {
			return nil, refuse(r, "", "link %d of its group, %.60s, leads nowhere", i+1, v.Raw())
		}
		id := fmt.Sprint(i + 1)
		g.links[id] = link{origin: g.nodes[from].id, originSlot: fromSlot, target: g.nodes[to].id, targetSlot: toSlot}
		g.nodes[to].inputs[toSlot].link = id
		used[[2]int{from, fromSlot}] = true
	}
	return used, nil
}

// groupInputs gives a group's instance its slots, and returns the places of its values: those of the nodes inside, one
// after the other. Inputs without a widget come first, then widgets that were turned into inputs.
func (r *record) groupInputs() []place {
	var places []place
	for _, widgets := range []bool{false, true} {
		for _, inside := range r.inner.records {
			for i := range inside.slots {
				if s := &inside.slots[i]; s.link == "" && (s.widget != nil) == widgets && (!widgets || inside.converted(s.name)) {
					r.groupInput(inside, s)
				}
			}
		}
	}
	for _, inside := range r.inner.records {
		if inside.class == nil {
			continue
		}
		widgets, own := classWidgets(inside.class)
		for _, p := range own {
			if i := slices.Index(widgets, p.widget); i >= 0 {
				if inside.converted(p.name) {
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
	s.link = fmt.Sprintf("in%d", i)
	r.inner.g.links[s.link] = link{origin: inputNode, originSlot: i, target: inside.n.id}
	r.inner.g.inputs = append(r.inner.g.inputs, port{name: outer.name, typ: outer.typ})
}

// converted is whether the file turned a widget into an input.
func (r *record) converted(name string) bool {
	return slices.ContainsFunc(r.n.inputs, func(s inSlot) bool { return s.widget == name })
}

// groupOutputs gives a group's instance its outputs: those that nothing inside uses, and those said to lead out.
func (r *record) groupOutputs(def workflows.Object, used map[[2]int]bool) {
	external := map[[2]int]bool{}
	for _, v := range list(def, "external") {
		if items, _ := v.List(); len(items) >= 2 {
			external[[2]int{slotNumber(items[0]), slotNumber(items[1])}] = true
		}
	}
	config, _ := object(def, "config")
	for i, inside := range r.inner.records {
		own, _ := object(config, fmt.Sprint(i))
		outputs, _ := object(own, "output")
		for slot, typ := range inside.outputTypes() {
			at := [2]int{i, slot}
			settings, _ := object(outputs, fmt.Sprint(slot))
			visible, _ := settings.Get("visible")
			if used[at] && !external[at] || visible.Raw() == "false" {
				continue
			}
			id := fmt.Sprintf("out%d", len(r.inner.g.outputs))
			r.inner.g.links[id] = link{origin: inside.n.id, originSlot: slot, target: outputNode, targetSlot: len(r.inner.g.outputs)}
			r.inner.g.outputs = append(r.inner.g.outputs, port{typ: typ, links: []string{id}})
		}
	}
}
