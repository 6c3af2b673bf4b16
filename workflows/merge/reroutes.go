package merge

import (
	"slices"
	"strconv"

	"github.com/comfyrun/comfyrun/workflows"
)

// reroutesOf are the reroutes (points that links are led through on the drawing) of a sheet, wherever it
// has them.
func reroutesOf(o workflows.Object) []workflows.Value {
	items, _ := o.Value("reroutes").List()
	extra, _ := o.Value("extra").Object()
	more, _ := extra.Value("reroutes").List()
	return append(items, more...)
}

// rerouteIDs gives reroutes that theirs added new ids where ours added others with the same.
func (s *sheetMerge) rerouteIDs(objects [3]workflows.Object) map[string]string {
	var known [3]map[string]bool
	var highest int64
	for i, o := range objects {
		known[i] = map[string]bool{}
		for _, v := range reroutesOf(o) {
			reroute, _ := v.Object()
			id := reroute.Value("id")
			known[i][id.Raw()] = true
			if n, ok := id.Int64(); ok && n < 1<<53 {
				highest = max(highest, n)
			}
		}
	}
	renamed := map[string]string{}
	for _, v := range reroutesOf(objects[theirs]) {
		reroute, _ := v.Object()
		if id := reroute.Value("id").Raw(); known[ours][id] && !known[base][id] {
			highest++
			renamed[id] = strconv.FormatInt(highest, 10)
		}
	}
	return renamed
}

// relabelParent gives the reroute that something hangs on its id in the result.
func relabelParent(o workflows.Object, reroutes map[string]string) workflows.Value {
	if to, ok := reroutes[o.Value("parentId").Raw()]; ok {
		o.Set("parentId", numbered(to, true))
	}
	return workflows.ObjectValue(o)
}

// rerouteList merges reroutes by id. Where they are is layout; their links are a set.
func (s *sheetMerge) rerouteList(t triple, links [3]map[string]string, reroutes map[string]string) *workflows.Value {
	for i, v := range t {
		if v == nil {
			continue
		}
		items, _ := v.List()
		for k, item := range items {
			o, _ := item.Object()
			if to, ok := reroutes[o.Value("id").Raw()]; ok && i == theirs {
				o.Set("id", numbered(to, true))
			}
			if ids, ok := o.Value("linkIds").List(); ok {
				o.Set("linkIds", relabelLinks(ids, links[i]))
			}
			items[k] = workflows.ObjectValue(o)
			if i == theirs {
				items[k] = relabelParent(o, reroutes)
			}
		}
		t[i] = some(workflows.ListValue(items...))
	}
	return s.list(t, idKey, func(_ string, t triple) *workflows.Value {
		if t[base] != nil && (t[ours] == nil || t[theirs] == nil) {
			return nil
		}
		return s.members(t, place{quiet: true}, func(key string, t triple) *workflows.Value {
			if key == "linkIds" {
				return mergeSet(t)
			}
			return s.deep(t, place{quiet: true})
		})
	})
}

func idKey(v workflows.Value) string {
	o, _ := v.Object()
	return o.Value("id").Raw()
}

func relabelLinks(ids []workflows.Value, links map[string]string) workflows.Value {
	for i, id := range ids {
		if to, ok := links[id.ID()]; ok {
			ids[i] = numbered(to, true)
		}
	}
	return workflows.ListValue(ids...)
}

// mergeSet merges lists of ids: what a side added is in, what a side took out is not.
func mergeSet(t triple) *workflows.Value {
	var in [3][]workflows.Value
	for i, v := range t {
		if v != nil {
			in[i], _ = v.List()
		}
	}
	merged := []workflows.Value{}
	for _, id := range slices.Concat(in[ours], in[theirs]) {
		b, o, th := slices.Contains(in[base], id), slices.Contains(in[ours], id), slices.Contains(in[theirs], id)
		if (o && th || !b) && !slices.Contains(merged, id) {
			merged = append(merged, id)
		}
	}
	return some(workflows.ListValue(merged...))
}

// extensions merges the list that says which reroute a link is led through.
func (s *sheetMerge) extensions(t triple, links [3]map[string]string, reroutes map[string]string) *workflows.Value {
	for i, v := range t {
		if v == nil {
			continue
		}
		items, _ := v.List()
		for k, item := range items {
			o, _ := item.Object()
			if to, ok := links[i][o.Value("id").ID()]; ok {
				o.Set("id", numbered(to, true))
			}
			items[k] = workflows.ObjectValue(o)
			if i == theirs {
				items[k] = relabelParent(o, reroutes)
			}
		}
		t[i] = some(workflows.ListValue(items...))
	}
	return s.list(t, idKey, s.quietItem)
}

func (s *sheetMerge) quietItem(_ string, t triple) *workflows.Value { return s.quietly(t) }

// prune takes out of reroutes and extensions the links that the result does not have.
func prune(o *workflows.Object, all []ends) {
	there := map[string]bool{}
	for _, e := range all {
		there[e.id] = true
	}
	if v, ok := o.Get("reroutes"); ok {
		o.Set("reroutes", prunedReroutes(v, there))
	}
	extra, ok := (*o).Value("extra").Object()
	if !ok {
		return
	}
	if v, ok := extra.Get("reroutes"); ok {
		extra.Set("reroutes", prunedReroutes(v, there))
	}
	if v, ok := extra.Get("linkExtensions"); ok {
		items, _ := v.List()
		items = slices.DeleteFunc(items, func(v workflows.Value) bool {
			o, _ := v.Object()
			return !there[o.Value("id").ID()]
		})
		extra.Set("linkExtensions", workflows.ListValue(items...))
	}
	o.Set("extra", workflows.ObjectValue(extra))
}

// prunedReroutes drops a reroute that lost all of its links, unless it never had any.
func prunedReroutes(v workflows.Value, there map[string]bool) workflows.Value {
	items, _ := v.List()
	var kept []workflows.Value
	for _, item := range items {
		o, _ := item.Object()
		ids, _ := o.Value("linkIds").List()
		left := slices.DeleteFunc(slices.Clone(ids), func(id workflows.Value) bool { return !there[id.ID()] })
		if len(left) == 0 && len(ids) > 0 {
			continue
		}
		if len(left) != len(ids) {
			o.Set("linkIds", workflows.ListValue(left...))
		}
		kept = append(kept, workflows.ObjectValue(o))
	}
	return workflows.ListValue(kept...)
}
