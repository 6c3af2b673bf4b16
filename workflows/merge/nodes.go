package merge

import (
	"slices"

	"github.com/comfyrun/comfyrun/workflows"
)

// graph merges workflows in the API format.
func (m *merger) graph() workflows.Object {
	s := &sheetMerge{merger: m, p: m.sheets[""], nodes: map[string]workflows.Object{}}
	for i, top := range m.tops {
		s.parts[i].nodes = map[string]workflows.Value{}
		for _, node := range top {
			s.parts[i].nodes[s.p.idOf(i, node.Key)] = s.relabeled(i, node.Value)
		}
	}
	s.mergeNodes(s.apiNode)
	s.settle(apiInputs)
	var merged workflows.Object
	for _, id := range sortedIDs(s.nodes) {
		merged = append(merged, workflows.Member{Key: id, Value: workflows.ObjectValue(s.nodes[id])})
	}
	return merged
}

func sortedIDs[V any](nodes map[string]V) []string {
	ids := make([]string, 0, len(nodes))
	for id := range nodes {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, workflows.CompareIDs)
	return ids
}

// relabeled gives the links of a node the ids of the result.
func (s *sheetMerge) relabeled(version int, v workflows.Value) workflows.Value {
	node, _ := v.Object()
	inputs, ok := node.Value("inputs").Object()
	if !ok {
		return v
	}
	for i, in := range inputs {
		if l, ok := in.Value.Link(); ok {
			items, _ := in.Value.List()
			inputs[i].Value = workflows.ListValue(workflows.StringValue(s.p.idOf(version, l.Node)), items[1])
		}
	}
	node.Set("inputs", workflows.ObjectValue(inputs))
	return workflows.ObjectValue(node)
}

// mergeNodes merges the nodes of a sheet, each by f where both sides have it.
func (s *sheetMerge) mergeNodes(f func(id string, t triple) *workflows.Value) {
	all := map[string]bool{}
	for _, part := range s.parts {
		for id := range part.nodes {
			all[id] = true
		}
	}
	for _, id := range sortedIDs(all) {
		t := s.versions(id)
		var v *workflows.Value
		switch {
		case t[ours] != nil && t[theirs] != nil:
			v = f(id, t)
		case t[base] == nil:
			if v = t[ours]; v == nil {
				v = t[theirs]
			}
		default:
			v = s.deleted(id, t)
		}
		if v != nil {
			s.nodes[id], _ = v.Object()
		}
	}
}

// versions are a node in the three versions.
func (s *sheetMerge) versions(id string) triple {
	return triple{get(s.parts[base].nodes, id), get(s.parts[ours].nodes, id), get(s.parts[theirs].nodes, id)}
}

// deleted decides about a node that a side deleted, which is a conflict if the other changed what it means.
func (s *sheetMerge) deleted(id string, t triple) *workflows.Value {
	for _, side := range []int{ours, theirs} {
		if t[side] != nil && meaning(*t[side]) != meaning(*t[base]) {
			s.conflict(Deleted, t, place{node: id})
			return t[s.preferred()]
		}
	}
	return nil
}

// layoutMembers are those of a node that say how the editor shows it, or follow from its class.
var layoutMembers = []string{"pos", "size", "flags", "color", "bgcolor", "shape", "boxcolor", "locked", "order", "showAdvanced", "outputs"}

// meaning is a node without its layout.
func meaning(v workflows.Value) workflows.Value {
	o, _ := v.Object()
	o = slices.DeleteFunc(o, func(m workflows.Member) bool { return slices.Contains(layoutMembers, m.Key) })
	slots, ok := o.Value("inputs").List()
	if !ok {
		return workflows.ObjectValue(o)
	}
	var kept []workflows.Value
	for _, v := range slots {
		slot, _ := v.Object()
		if from := slot.Value("link"); !from.IsNull() {
			kept = append(kept, slot.Value("name"), from)
		}
	}
	o.Set("inputs", workflows.ListValue(kept...))
	return workflows.ObjectValue(o)
}

// apiNode merges a node of the API format.
func (s *sheetMerge) apiNode(id string, t triple) *workflows.Value {
	at := place{node: id}
	return s.members(t, at, func(key string, t triple) *workflows.Value {
		switch key {
		case "inputs":
			return s.members(t, at.below(key), func(name string, t triple) *workflows.Value {
				return s.choose(t, place{node: id, path: name, wired: anyLink(t)})
			})
		case "_meta":
			return s.members(t, at.below(key), func(name string, t triple) *workflows.Value {
				return s.deep(t, at.below(name))
			})
		}
		return s.deep(t, at.below(key))
	})
}

func anyLink(t triple) bool {
	return slices.ContainsFunc(t[:], func(v *workflows.Value) bool { return v != nil && v.IsLink() })
}

// apiInputs are the links of a node of the API format, as a list of names and sources.
func apiInputs(node workflows.Object) []wire {
	inputs, _ := node.Value("inputs").Object()
	var wires []wire
	for _, in := range inputs {
		if in.Value.IsLink() {
			wires = append(wires, wire{in.Key, in.Value})
		}
	}
	return wires
}

// wire is an input and its source.
type wire struct {
	name string
	from workflows.Value
}

// settle finds links to nodes that one side deleted. The preferred side decides: either the node comes back, or the link
// goes.
func (s *sheetMerge) settle(inputs func(workflows.Object) []wire) {
	for again := true; again; {
		again = false
		for _, id := range sortedIDs(s.nodes) {
			for _, w := range inputs(s.nodes[id]) {
				if s.lost(id, w) {
					again = true
				}
			}
		}
	}
}

// lost handles a link if it leads nowhere though a version has its source. It reports whether there is a node more.
func (s *sheetMerge) lost(id string, w wire) bool {
	origin, slot, _ := source(w.from)
	t := s.versions(origin)
	if t == (triple{}) || s.has(origin, slot) {
		return false
	}
	c := triple{s.wire(base, id, w.name), s.wire(ours, id, w.name), s.wire(theirs, id, w.name)}
	s.conflict(Used, c, place{node: id, path: w.name, wired: true})
	last := &s.result.Conflicts[len(s.result.Conflicts)-1]
	last.Ours.Deleted, last.Theirs.Deleted = t[ours] == nil, t[theirs] == nil
	if v := t[s.preferred()]; v != nil && s.nodes[origin] == nil {
		s.nodes[origin], _ = v.Object()
		return true
	}
	s.unlink(id, w.name, c[s.preferred()])
	return false
}

// has is whether the result has an output.
func (s *sheetMerge) has(origin string, slot workflows.Value) bool {
	node := s.nodes[origin]
	if name, ok := slot.Str(); ok && node != nil {
		return slices.Contains(keyList(some(node.Value("outputs")), slotName).keys, name)
	}
	return node != nil
}

// wire is the source of an input in a version, or its value.
func (s *sheetMerge) wire(version int, id, name string) *workflows.Value {
	v, ok := s.parts[version].nodes[id]
	if !ok {
		return nil
	}
	node, _ := v.Object()
	if inputs, ok := node.Value("inputs").Object(); ok {
		if v, ok := inputs.Get(name); ok {
			return &v
		}
		return nil
	}
	slots := keyList(some(node.Value("inputs")), slotName)
	slot, _ := slots.items[name].Object()
	return some(slot.Value("link"))
}

// unlink takes a link away; instead stands what the preferred side has, unless that leads nowhere too.
func (s *sheetMerge) unlink(id, name string, instead *workflows.Value) {
	if instead != nil {
		if origin, slot, ok := source(*instead); ok && !s.has(origin, slot) {
			instead = nil
		}
	}
	node := s.nodes[id]
	if inputs, ok := node.Value("inputs").Object(); ok {
		inputs.Delete(name)
		if instead != nil {
			inputs.Set(name, *instead)
		}
		node.Set("inputs", workflows.ObjectValue(inputs))
	} else {
		node.Set("inputs", mapSlots(node.Value("inputs"), func(key string, slot *workflows.Object) {
			if key != name {
				return
			}
			slot.Set("link", workflows.Value{})
			if instead != nil {
				slot.Set("link", *instead)
			}
		}))
	}
	s.nodes[id] = node
}

// mapSlots changes the items of a list of slots.
func mapSlots(v workflows.Value, f func(key string, slot *workflows.Object)) workflows.Value {
	k := keyList(&v, slotName)
	if len(k.keys) == 0 {
		return v
	}
	items := make([]workflows.Value, len(k.keys))
	for i, key := range k.keys {
		items[i] = k.items[key]
		if slot, ok := items[i].Object(); ok {
			f(key, &slot)
			items[i] = workflows.ObjectValue(slot)
		}
	}
	return workflows.ListValue(items...)
}

func slotName(v workflows.Value) string {
	o, _ := v.Object()
	return o.Value("name").Text()
}
