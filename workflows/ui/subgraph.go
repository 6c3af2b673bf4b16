package ui

import (
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
			r.addWidgets(s.widget)
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
	for _, v := range r.n.properties.List("proxyWidgets") {
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
