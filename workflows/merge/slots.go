package merge

import (
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/diff"
)

// part is one version of a sheet, its nodes by their ids in the result. A node's slots have sources where the file has ids
// of links: ["4", 0], or with the name of the output where outputs may shift, which those of subgraphs do. The inputs and
// outputs of a subgraph are nodes with the ids that links use for them.
type part struct {
	nodes map[string]workflows.Value
	// links are those of the file, by what they join.
	links map[join]record
	order []join
	// outputs are the ids of links as outputs list them.
	outputs map[string][]string
}

// join is the ends of a link: nodes by their ids in the result, the slot as JSON, the input by name.
type join struct{ origin, slot, target, input string }

// record is a link of a file.
type record struct {
	id  string
	raw workflows.Value
}

// takeApart reads a version of a sheet.
func (s *sheetMerge) takeApart(version int, o workflows.Object) {
	part := &s.parts[version]
	part.nodes, part.links, part.outputs = map[string]workflows.Value{}, map[join]record{}, map[string][]string{}
	if o == nil {
		return
	}
	table := readLinks(o)
	s.nameSlots(version, o, table)
	items, _ := o.Value("nodes").List()
	for _, item := range items {
		node, _ := item.Object()
		id := node.Value("id").ID()
		s.takeNode(version, node, table)
		node.Delete("id")
		s.relabelProxies(version, &node)
		part.nodes[s.p.idOf(version, id)] = workflows.ObjectValue(node)
	}
	if s.p.id == "" {
		return
	}
	for id, key := range map[string]string{diff.InputNode: "inputs", diff.OutputNode: "outputs"} {
		part.nodes[id] = s.takePorts(version, id, o.Value(key), table)
	}
}

// takePorts makes a node of the inputs or outputs of a subgraph.
func (s *sheetMerge) takePorts(version int, id string, ports workflows.Value, table *linkTable) workflows.Value {
	at := 0
	list := mapSlots(ports, func(key string, port *workflows.Object) {
		if id == diff.OutputNode {
			port.Set("link", s.taken(version, table.into(id, at, ""), join{target: id, input: key}, table))
		}
		s.listed(version, id+" "+key, *port, "linkIds")
		port.Delete("linkIds")
		at++
	})
	key := "outputs"
	if id == diff.OutputNode {
		key = "inputs"
	}
	return workflows.ObjectValue(workflows.Object{{Key: key, Value: list}})
}

// takeNode puts sources into the slots of a node.
func (s *sheetMerge) takeNode(version int, node workflows.Object, table *linkTable) {
	id := node.Value("id").ID()
	at := 0
	for i, m := range node {
		switch m.Key {
		case "inputs":
			node[i].Value = mapSlots(m.Value, func(key string, slot *workflows.Object) {
				link := table.into(id, at, (*slot).Value("link").ID())
				slot.Set("link", s.taken(version, link, join{target: s.p.idOf(version, id), input: key}, table))
				at++
			})
		case "outputs":
			node[i].Value = mapSlots(m.Value, func(key string, slot *workflows.Object) {
				s.listed(version, s.p.idOf(version, id)+" "+key, *slot, "links")
				if items, _ := (*slot).Value("links").List(); len(items) > 0 {
					slot.Set("links", workflows.ListValue())
				}
			})
		}
	}
}

// listed notes in which order an output lists its links.
func (s *sheetMerge) listed(version int, at string, slot workflows.Object, key string) {
	items, _ := slot.Value(key).List()
	for _, v := range items {
		s.parts[version].outputs[at] = append(s.parts[version].outputs[at], v.ID())
	}
}

// taken is the source that a link gives an input; null without a link.
func (s *sheetMerge) taken(version int, l *link, j join, table *linkTable) workflows.Value {
	if l == nil {
		return workflows.Value{}
	}
	j.origin = s.p.idOf(version, l.origin)
	slot := table.slot(l.origin, l.slot)
	j.slot = slot.Raw()
	part := &s.parts[version]
	if _, known := part.links[j]; !known {
		part.order = append(part.order, j)
		part.links[j] = record{l.id, l.raw}
	}
	return workflows.ListValue(workflows.StringValue(j.origin), slot)
}

// nameSlots tells the table which outputs have names that do not shift.
func (s *sheetMerge) nameSlots(version int, o workflows.Object, table *linkTable) {
	items, _ := o.Value("nodes").List()
	for _, item := range items {
		node, _ := item.Object()
		if s.sheets[node.Value("type").Text()] != nil {
			table.names[node.Value("id").ID()] = keyList(some(node.Value("outputs")), slotName).keys
		}
	}
	if s.p.id != "" {
		table.names[diff.InputNode] = keyList(some(o.Value("inputs")), slotName).keys
	}
}

// relabelProxies gives the ids that an instance of a subgraph has in its property proxyWidgets those of the result.
func (s *sheetMerge) relabelProxies(version int, node *workflows.Object) {
	inner := s.sheets[(*node).Value("type").Text()]
	properties, _ := (*node).Value("properties").Object()
	proxies, ok := properties.Value("proxyWidgets").List()
	if inner == nil || !ok {
		return
	}
	for i, v := range proxies {
		items, _ := v.List()
		if len(items) < 2 {
			continue
		}
		if to, ok := inner.ids[version][items[0].ID()]; ok {
			items[0] = numbered(to, items[0].Kind() == workflows.KindNumber)
			proxies[i] = workflows.ListValue(items...)
		}
	}
	properties.Set("proxyWidgets", workflows.ListValue(proxies...))
	node.Set("properties", workflows.ObjectValue(properties))
}

// slotWires are the links of a node of the editor's format.
func slotWires(node workflows.Object) []wire {
	slots := keyList(some(node.Value("inputs")), slotName)
	var wires []wire
	for _, key := range slots.keys {
		slot, _ := slots.items[key].Object()
		if from := slot.Value("link"); !from.IsNull() {
			wires = append(wires, wire{key, from})
		}
	}
	return wires
}

// uiNode merges a node of the editor's format.
func (s *sheetMerge) uiNode(id string, t triple) *workflows.Value {
	at := place{node: id}
	if conflicting(t) {
		s.result.Layout++
	}
	before := len(s.result.Conflicts)
	return s.members(t, at, func(key string, t triple) *workflows.Value {
		switch {
		case key == "inputs":
			return s.list(t, slotName, func(name string, t triple) *workflows.Value { return s.slot(id, name, t) })
		case key == "outputs":
			return s.list(t, slotName, func(_ string, t triple) *workflows.Value { return s.quietly(t) })
		case key == "widgets_values":
			return s.values(id, t)
		case strings.HasPrefix(key, "widgets_values"):
			// The same values once more: a conflict is told of once.
			at := at.below(key)
			at.quiet = len(s.result.Conflicts) > before
			return s.elements(t, at, nil)
		}
		at := at.below(key)
		at.quiet = layoutKey(key)
		return s.deep(t, at)
	})
}

// conflicting is whether both sides moved a node or painted it, each in its way.
func conflicting(t triple) bool {
	var objects [3]workflows.Object
	for i, v := range t {
		if v != nil {
			objects[i], _ = v.Object()
		}
	}
	for _, key := range []string{"pos", "size", "color", "bgcolor"} {
		b, o, th := objects[base].Value(key), objects[ours].Value(key), objects[theirs].Value(key)
		if o != th && o != b && th != b {
			return true
		}
	}
	return false
}

func (s *sheetMerge) quietly(t triple) *workflows.Value {
	if t[base] != nil && (t[ours] == nil || t[theirs] == nil) {
		return nil
	}
	return s.deep(t, place{quiet: true})
}

// slot merges an input. One that a side dropped stays if the other side linked it.
func (s *sheetMerge) slot(id, name string, t triple) *workflows.Value {
	at := place{node: id, path: name, wired: true}
	var links [3]*workflows.Value
	for i, v := range t {
		if v != nil {
			o, _ := v.Object()
			links[i] = some(o.Value("link"))
		}
	}
	for side, other := range [3]int{ours: theirs, theirs: ours} {
		if side == base || t[base] == nil || t[side] != nil {
			continue
		}
		if t[other] == nil || same(links[other], links[base]) || links[other].IsNull() {
			return nil
		}
		s.conflict(Wired, links, at)
		return t[s.preferred()]
	}
	return s.members(t, place{quiet: true}, func(key string, t triple) *workflows.Value {
		if key == "link" {
			return s.choose(t, at)
		}
		return s.deep(t, place{quiet: true})
	})
}

// values merges the values of a node one by one where all versions have as many.
func (s *sheetMerge) values(id string, t triple) *workflows.Value {
	return s.elements(t, place{node: id}, s.valueNames(id))
}

// elements merges lists item by item where all versions have as many; else they are one value.
func (s *sheetMerge) elements(t triple, at place, names []string) *workflows.Value {
	var lists [3][]workflows.Value
	for i, v := range t {
		if v == nil && i == base && t[ours] != nil {
			continue
		}
		if v == nil {
			return s.deep(t, at.orPath("widgets_values"))
		}
		items, ok := v.List()
		if !ok || i == theirs && len(items) != len(lists[ours]) || i == ours && t[base] != nil && len(items) != len(lists[base]) {
			return s.deep(t, at.orPath("widgets_values"))
		}
		lists[i] = items
	}
	merged := make([]workflows.Value, len(lists[ours]))
	for i := range merged {
		below := at
		if i < len(names) {
			below.path = names[i]
		}
		t := triple{nil, &lists[ours][i], &lists[theirs][i]}
		if len(lists[base]) > 0 {
			t[base] = &lists[base][i]
		}
		merged[i] = *s.deep(t, below)
	}
	return some(workflows.ListValue(merged...))
}

func (at place) orPath(path string) place {
	if at.path == "" {
		at.path = path
	}
	return at
}

// valueNames are the names of a node's values as the base has them, or ours.
func (s *sheetMerge) valueNames(id string) []string {
	for _, i := range []int{base, ours} {
		if n := s.p.byID[i][id]; n != nil {
			return n.ValueNames()
		}
	}
	return nil
}
