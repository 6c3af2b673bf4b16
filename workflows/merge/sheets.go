package merge

import (
	"slices"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/diff"
)

// drawing merges workflows in the editor's format.
func (m *merger) drawing() workflows.Object {
	t := triple{}
	for i, top := range m.tops {
		if top != nil {
			t[i] = some(workflows.ObjectValue(top))
		}
	}
	merged, _ := m.sheet("", t).Object()
	return m.restored(merged)
}

// sheet merges a sheet that both sides have.
func (m *merger) sheet(id string, t triple) *workflows.Value {
	s := &sheetMerge{merger: m, p: m.sheets[id], nodes: map[string]workflows.Object{}}
	var objects [3]workflows.Object
	for i, v := range t {
		if v != nil {
			objects[i], _ = v.Object()
		}
		s.takeApart(i, objects[i])
	}
	links := s.linkIDs()
	s.mergeNodes(s.uiNode)
	s.settle(slotWires)
	reroutes := s.rerouteIDs(objects)
	merged := mergeObjects(objects, func(key string, t triple) *workflows.Value {
		return s.member(key, t, links, reroutes)
	})
	s.putTogether(&merged, links, reroutes)
	return some(workflows.ObjectValue(merged))
}

// member merges a member of a sheet that is not made of the nodes.
func (s *sheetMerge) member(key string, t triple, links [3]map[string]string, reroutes map[string]string) *workflows.Value {
	at := place{path: key}
	switch key {
	case "nodes", "links":
		return some(workflows.ListValue())
	case "inputs", "outputs":
		if s.p.id != "" {
			return some(workflows.ListValue())
		}
	case "definitions":
		return s.definitions(t)
	case "groups":
		return s.groups(t)
	case "last_node_id", "last_link_id", "revision":
		return highest(t)
	case "state":
		return s.members(t, place{quiet: true}, func(_ string, t triple) *workflows.Value { return highest(t) })
	case "extra":
		return s.members(t, at, func(key string, t triple) *workflows.Value { return s.extra(key, t, links, reroutes) })
	case "reroutes":
		return s.rerouteList(t, links, reroutes)
	case "id", "floatingLinks", "inputNode", "outputNode":
		at.quiet = true
	}
	return s.deep(t, at)
}

// extra merges a member of "extra".
func (s *sheetMerge) extra(key string, t triple, links [3]map[string]string, reroutes map[string]string) *workflows.Value {
	at := place{path: "extra." + key}
	switch key {
	case "ds", "frontendVersion", "workflowRendererVersion":
		at.quiet = true
	case "reroutes":
		return s.rerouteList(t, links, reroutes)
	case "linkExtensions":
		return s.extensions(t, links, reroutes)
	}
	return s.deep(t, at)
}

// highest is the only change of a number, or the higher one of two.
func highest(t triple) *workflows.Value {
	switch {
	case same(t[base], t[ours]), t[ours] == nil:
		return t[theirs]
	case same(t[base], t[theirs]), t[theirs] == nil:
		return t[ours]
	}
	a, _ := t[ours].Float64()
	b, _ := t[theirs].Float64()
	if b > a {
		return t[theirs]
	}
	return t[ours]
}

// definitions merges the subgraphs that a sheet defines.
func (s *sheetMerge) definitions(t triple) *workflows.Value {
	return s.members(t, place{path: "definitions"}, func(key string, t triple) *workflows.Value {
		if key != "subgraphs" {
			return s.deep(t, place{path: "definitions." + key})
		}
		name := func(v workflows.Value) string { o, _ := v.Object(); return o.Value("id").Text() }
		return s.list(t, name, s.definition)
	})
}

// definition merges a subgraph. One that a side deleted stays deleted if the other did not change it.
func (s *sheetMerge) definition(id string, t triple) *workflows.Value {
	switch {
	case t[ours] != nil && t[theirs] != nil:
		return s.merger.sheet(id, t)
	case t[base] == nil && t[ours] != nil:
		return t[ours]
	case t[base] == nil:
		return t[theirs]
	}
	for _, side := range []int{ours, theirs} {
		if t[side] != nil && s.changed(id, side) {
			s.conflict(Deleted, t, place{path: "subgraph " + s.sheets[id].ref().Name})
			return t[s.preferred()]
		}
	}
	return nil
}

// changed is whether a side changed what a subgraph means.
func (s *sheetMerge) changed(id string, side int) bool {
	p := s.sheets[id]
	before := &diff.Document{Drawing: true, Sheets: []*diff.Sheet{p.sheets[base]}}
	after := &diff.Document{Drawing: true, Sheets: []*diff.Sheet{p.sheets[side]}}
	return len(diff.Compare(before, after).Changes) > 0
}

// groups merges groups by id, or by title where the base has no such id. Where they are is layout.
func (s *sheetMerge) groups(t triple) *workflows.Value {
	known := map[string]bool{}
	if t[base] != nil {
		items, _ := t[base].List()
		for _, v := range items {
			o, _ := v.Object()
			known[o.Value("id").Raw()] = true
		}
	}
	name := func(v workflows.Value) string {
		o, _ := v.Object()
		if id := o.Value("id"); !id.IsNull() && known[id.Raw()] {
			return "id " + id.Raw()
		}
		return "title " + o.Value("title").Text()
	}
	merged := s.list(t, name, func(_ string, t triple) *workflows.Value {
		if t[base] != nil && (t[ours] == nil || t[theirs] == nil) {
			return nil // whatever the other side did to it was layout
		}
		return s.members(t, place{quiet: true}, func(key string, t triple) *workflows.Value {
			return s.deep(t, place{path: "groups." + key, quiet: key != "title"})
		})
	})
	return uniqueIDs(merged)
}

// uniqueIDs gives later groups another id where two have the same.
func uniqueIDs(v *workflows.Value) *workflows.Value {
	if v == nil {
		return nil
	}
	items, _ := v.List()
	taken := map[int64]bool{}
	var most int64
	for _, item := range items {
		o, _ := item.Object()
		if id, ok := o.Value("id").Int64(); ok {
			most = max(most, id)
		}
	}
	changed := false
	for i, item := range items {
		o, _ := item.Object()
		id, ok := o.Value("id").Int64()
		if ok && taken[id] && most < 1<<53 {
			most++
			o.Set("id", workflows.IntValue(most))
			items[i], id, changed = workflows.ObjectValue(o), most, true
		}
		taken[id] = true
	}
	if !changed {
		return v
	}
	return some(workflows.ListValue(items...))
}

// restored puts definitions back that instances need, though a side deleted them: it also deleted all instances it knew.
func (m *merger) restored(top workflows.Object) workflows.Object {
	for {
		have := map[string]bool{}
		needed := map[string]bool{}
		collect(top, have, needed)
		var missing []workflows.Value
		for _, id := range sortedIDs(needed) {
			if v := m.defined(id); !have[id] && v != nil {
				missing = append(missing, *v)
			}
		}
		if len(missing) == 0 {
			return top
		}
		definitions, _ := top.Value("definitions").Object()
		items, _ := definitions.Value("subgraphs").List()
		definitions.Set("subgraphs", workflows.ListValue(append(items, missing...)...))
		top.Set("definitions", workflows.ObjectValue(definitions))
	}
}

// collect finds the subgraphs that are defined, and the classes of all nodes.
func collect(sheet workflows.Object, have, needed map[string]bool) {
	nodes, _ := sheet.Value("nodes").List()
	for _, v := range nodes {
		o, _ := v.Object()
		needed[o.Value("type").Text()] = true
	}
	definitions, _ := sheet.Value("definitions").Object()
	items, _ := definitions.Value("subgraphs").List()
	for _, v := range items {
		o, _ := v.Object()
		have[o.Value("id").Text()] = true
		collect(o, have, needed)
	}
}

// defined finds a subgraph in the versions, the preferred one first.
func (m *merger) defined(id string) *workflows.Value {
	if id == "" || m.sheets[id] == nil {
		return nil
	}
	for _, i := range []int{m.preferred(), ours, theirs, base} {
		if v := definedIn(m.tops[i], id); v != nil {
			return v
		}
	}
	return nil
}

func definedIn(sheet workflows.Object, id string) *workflows.Value {
	definitions, _ := sheet.Value("definitions").Object()
	items, _ := definitions.Value("subgraphs").List()
	for _, v := range items {
		o, _ := v.Object()
		if o.Value("id").Text() == id {
			return &v
		}
		if inner := definedIn(o, id); inner != nil {
			return inner
		}
	}
	return nil
}

// layoutKey is whether a member of a node is its layout.
func layoutKey(key string) bool { return slices.Contains(layoutMembers, key) }
