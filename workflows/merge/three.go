package merge

import (
	"slices"
	"strconv"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/diff"
)

// triple is what the three versions have at one place; nil where one has nothing.
type triple [3]*workflows.Value

func same(a, b *workflows.Value) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// place is where something is merged.
type place struct {
	node string // its id in the result, or empty
	path string // of a value
	// quiet is whether a disagreement is none worth telling.
	quiet bool
	// wired is whether the values are sources of links.
	wired bool
}

func (at place) below(key string) place {
	if at.path != "" {
		key = at.path + "." + key
	}
	at.path = key
	return at
}

// sheetMerge merges one sheet.
type sheetMerge struct {
	*merger
	p     *plan
	parts [3]part
	// nodes are those of the result, by id, without what follows from links.
	nodes map[string]workflows.Object
	// ids are those of links in the result.
	ids         map[join]string
	highestLink uint64
	freshLink   bool
}

// choose takes the only change, or tells of a conflict.
func (s *sheetMerge) choose(t triple, at place) *workflows.Value {
	switch {
	case same(t[ours], t[theirs]), same(t[base], t[theirs]):
		return t[ours]
	case same(t[base], t[ours]):
		return t[theirs]
	}
	if !at.quiet {
		kind := Value
		if at.wired {
			kind = Wired
		}
		s.conflict(kind, t, at)
	}
	return t[s.preferred()]
}

// conflict notes one.
func (s *sheetMerge) conflict(kind Kind, t triple, at place) {
	c := Conflict{Kind: kind, Sheet: s.p.ref(), Input: at.path, Kept: s.options.Prefer.String()}
	if at.node != "" {
		c.Node = s.p.node(at.node)
	}
	c.Base, c.Ours, c.Theirs = s.state(t[base], at), s.state(t[ours], at), s.state(t[theirs], at)
	if kind == Deleted {
		c.Ours.Deleted, c.Theirs.Deleted = t[ours] == nil, t[theirs] == nil
		c.Base.Value, c.Ours.Value, c.Theirs.Value = nil, nil, nil
	}
	s.result.Conflicts = append(s.result.Conflicts, c)
}

func (s *sheetMerge) state(v *workflows.Value, at place) State {
	if v == nil || at.wired && v.IsNull() {
		return State{}
	}
	if at.wired {
		if id, slot, ok := source(*v); ok {
			number, _ := slot.Int64()
			name, _ := slot.Str()
			return State{From: &diff.From{Node: *s.p.node(id), Slot: int(number), Output: name}}
		}
	}
	return State{Value: v}
}

// source takes a source apart: a list of an id and a slot, which is a number, or a name where numbers may shift.
func source(v workflows.Value) (id string, slot workflows.Value, ok bool) {
	items, _ := v.List()
	if len(items) != 2 {
		return "", slot, false
	}
	id, ok = items[0].Str()
	return id, items[1], ok
}

// members merges objects member by member, where both sides have objects.
func (s *sheetMerge) members(t triple, at place, f func(key string, t triple) *workflows.Value) *workflows.Value {
	if same(t[ours], t[theirs]) || t[ours] == nil || t[theirs] == nil {
		return s.choose(t, at)
	}
	var objects [3]workflows.Object
	for i, v := range t {
		if v == nil {
			continue
		}
		o, ok := v.Object()
		if !ok && i != base {
			return s.choose(t, at)
		}
		objects[i] = o
	}
	return some(workflows.ObjectValue(mergeObjects(objects, f)))
}

// mergeObjects merges member by member, in the order of ours, then theirs.
func mergeObjects(objects [3]workflows.Object, f func(key string, t triple) *workflows.Value) workflows.Object {
	var by [3]map[string]workflows.Value
	for i, o := range objects {
		by[i] = make(map[string]workflows.Value, len(o))
		for _, m := range o {
			by[i][m.Key] = m.Value
		}
	}
	merged := workflows.Object{}
	done := map[string]bool{}
	for _, side := range []int{ours, theirs, base} {
		for _, m := range objects[side] {
			if done[m.Key] {
				continue
			}
			done[m.Key] = true
			if v := f(m.Key, triple{get(by[base], m.Key), get(by[ours], m.Key), get(by[theirs], m.Key)}); v != nil {
				merged = append(merged, workflows.Member{Key: m.Key, Value: *v})
			}
		}
	}
	return merged
}

func get(o map[string]workflows.Value, key string) *workflows.Value {
	v, ok := o[key]
	if !ok {
		return nil
	}
	return &v
}

func some(v workflows.Value) *workflows.Value { return &v }

// deep merges objects down to values that are none.
func (s *sheetMerge) deep(t triple, at place) *workflows.Value {
	return s.members(t, at, func(key string, t triple) *workflows.Value { return s.deep(t, at.below(key)) })
}

// keyed is a list whose items have names.
type keyed struct {
	keys  []string
	items map[string]workflows.Value
}

// keyList names the items of a list; of several with one name the later ones get numbers.
func keyList(v *workflows.Value, name func(workflows.Value) string) keyed {
	k := keyed{items: map[string]workflows.Value{}}
	if v == nil {
		return k
	}
	items, _ := v.List()
	count := map[string]int{}
	for _, item := range items {
		key := name(item)
		count[key]++
		if n := count[key]; n > 1 {
			key += " #" + strconv.Itoa(n)
		}
		k.keys = append(k.keys, key)
		k.items[key] = item
	}
	return k
}

// list merges lists item by item. The order is that of ours, or that of theirs where only they changed it; what the other
// side added follows what it follows there.
func (s *sheetMerge) list(t triple, name func(workflows.Value) string, f func(key string, t triple) *workflows.Value) *workflows.Value {
	if t[ours] == nil && t[theirs] == nil {
		return nil
	}
	var lists [3]keyed
	for i := range t {
		lists[i] = keyList(t[i], name)
	}
	merged := []workflows.Value{}
	for _, key := range mergedOrder(lists) {
		if v := f(key, triple{get(lists[base].items, key), get(lists[ours].items, key), get(lists[theirs].items, key)}); v != nil {
			merged = append(merged, *v)
		}
	}
	if len(merged) == 0 {
		for _, i := range []int{ours, theirs} {
			if t[i] != nil && t[i].IsNull() {
				return t[i]
			}
		}
	}
	return some(workflows.ListValue(merged...))
}

// mergedOrder lists the keys of all versions. Where both sides added something at the same place, what the first has comes
// first.
func mergedOrder(lists [3]keyed) []string {
	first, second := lists[ours].keys, lists[theirs].keys
	if slices.Equal(first, lists[base].keys) {
		first, second = second, first
	}
	follow := map[string][]string{} // what the other side has after a key
	known, common := map[string]bool{}, map[string]bool{}
	for _, key := range second {
		common[key] = true
	}
	for _, key := range first {
		known[key] = true
	}
	last := ""
	for _, key := range second {
		if known[key] {
			last = key
			continue
		}
		follow[last] = append(follow[last], key)
		known[key] = true
	}
	var order []string
	waiting := follow[""]
	for _, key := range first {
		if common[key] {
			order = append(order, waiting...)
			waiting = nil
		}
		order = append(order, key)
		waiting = append(waiting, follow[key]...)
	}
	order = append(order, waiting...)
	for _, key := range lists[base].keys {
		if !known[key] {
			order = append(order, key)
		}
	}
	return order
}
