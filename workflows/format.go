package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrBody says that a text is the body of a POST /prompt, which holds more than a workflow.
var ErrBody = errors.New(`it is the body of a POST /prompt, not a workflow: take out what its "prompt" holds`)

// Format writes a workflow file in its one canonical layout, as docs/format.md defines it: the same bytes for all files
// that differ in blanks, line ends, escapes and the order of members only. Numbers keep their digits, literals their
// order. Both formats have a layout; which it is stays. Formatting twice changes nothing.
func Format(data []byte) ([]byte, error) {
	v, err := compact(data)
	if err != nil {
		return nil, fmt.Errorf("format workflow: %w", err)
	}
	top, _ := v.Object()
	l := apiLayout
	if isUI(top) {
		l = uiLayout
	} else if _, err := Parse(data); err != nil {
		return nil, err
	} else if _, ok := wrapped(top); ok {
		return nil, fmt.Errorf("format workflow: %w", ErrBody)
	}
	return append(l.append(nil, v, 0), '\n'), nil
}

// layout says how the members of objects, or the items of a list, are ordered. The zero layout leaves all as it is.
type layout struct {
	first   []string           // keys that come before all others, in this order
	sorted  bool               // whether the others are in the order of their bytes
	byID    bool               // whether keys are ids, or items have one, and that is their order
	members map[string]*layout // of values by their keys
	rest    *layout            // of values under any other key, and of items; nil leaves them as they are
}

func (l *layout) member(key string) *layout {
	if m, ok := l.members[key]; ok {
		return m
	}
	if l.rest == nil {
		return asIs
	}
	return l.rest
}

var (
	asIs = &layout{}

	apiLayout = &layout{byID: true, rest: &layout{
		first: []string{"inputs", "class_type", "_meta"}, sorted: true,
		members: map[string]*layout{"inputs": {sorted: true}, "_meta": {first: []string{"title"}, sorted: true}},
	}}

	// tidy sorts what has no layout of its own, so that every version of the editor writes it alike.
	tidy = newTidy()

	uiNode = &layout{
		first: []string{"id", "type", "title", "pos", "size", "flags", "order", "mode", "inputs", "outputs", "properties", "widgets_values"}, sorted: true,
		members: map[string]*layout{"widgets_values": asIs, "widgets_values_named": asIs, "widgets_values_ordered": asIs},
		rest:    tidy,
	}

	uiLayout = newUILayout()
)

func newTidy() *layout {
	l := &layout{first: []string{"id", "name", "type"}, sorted: true, members: map[string]*layout{"groupNodes": asIs}}
	l.rest = l
	return l
}

// newUILayout is the layout of a drawing, and of the drawings that it defines.
func newUILayout() *layout {
	l := &layout{
		first: []string{"id", "name", "revision", "version", "last_node_id", "last_link_id", "state", "nodes", "links"}, sorted: true,
		members: map[string]*layout{"nodes": {byID: true, rest: uiNode}, "links": {byID: true, rest: tidy}}, rest: tidy,
	}
	l.members["definitions"] = &layout{sorted: true, members: map[string]*layout{"subgraphs": {rest: l}}, rest: tidy}
	return l
}

// append writes a value: objects with a line for each member, lists with a line for each item if one of them holds
// something, else on one line.
func (l *layout) append(b []byte, v Value, level int) []byte {
	if members, ok := v.Object(); ok && len(members) > 0 {
		l.order(members)
		b = append(b, '{')
		for i, m := range members {
			b = appendItem(b, i, level+1)
			b = append(appendQuoted(b, m.Key), ": "...)
			b = l.member(m.Key).append(b, m.Value, level+1)
		}
		return append(appendItem(b, 0, level), '}')
	}
	items, _ := v.List()
	if !slices.ContainsFunc(items, holds) {
		return appendSpaced(b, v)
	}
	if l.byID {
		sortByID(items)
	}
	b = append(b, '[')
	for i, item := range items {
		b = appendItem(b, i, level+1)
		b = l.item().append(b, item, level+1)
	}
	return append(appendItem(b, 0, level), ']')
}

// holds is whether a value is a list or object with something in it.
func holds(v Value) bool {
	return (v.Kind() == KindList || v.Kind() == KindObject) && len(v.Raw()) > 2
}

// item is the layout of the items of a list.
func (l *layout) item() *layout {
	if l.rest == nil {
		return asIs
	}
	return l.rest
}

func (l *layout) order(members Object) {
	if !l.sorted && !l.byID {
		return
	}
	rank := func(key string) int {
		if i := slices.Index(l.first, key); i >= 0 {
			return i
		}
		return len(l.first)
	}
	slices.SortFunc(members, func(a, b Member) int {
		if l.byID {
			return CompareIDs(a.Key, b.Key)
		}
		if d := rank(a.Key) - rank(b.Key); d != 0 {
			return d
		}
		return strings.Compare(a.Key, b.Key)
	})
}

func sortByID(items []Value) {
	type known struct {
		id   string
		item Value
	}
	all := make([]known, len(items))
	for i, item := range items {
		all[i] = known{itemID(item), item}
	}
	slices.SortStableFunc(all, func(a, b known) int { return CompareIDs(a.id, b.id) })
	for i := range all {
		items[i] = all[i].item
	}
}

// itemID is the id of a node or link in a list: the member "id", or the first item.
func itemID(v Value) string {
	if o, ok := v.Object(); ok {
		v, _ = o.Get("id")
	} else if items, ok := v.List(); ok && len(items) > 0 {
		v = items[0]
	}
	if s, ok := v.Str(); ok {
		return s
	}
	return v.Raw()
}

// CompareIDs orders ids such as 9, 10, 12:3, 12:10, a: part by part, numbers by value and before texts. It is below zero
// where a comes first, and zero for equal ids only.
func CompareIDs(a, b string) int {
	as, bs := strings.Split(a, ":"), strings.Split(b, ":")
	for i := range min(len(as), len(bs)) {
		if d := compareParts(as[i], bs[i]); d != 0 {
			return d
		}
	}
	return len(as) - len(bs)
}

func compareParts(a, b string) int {
	switch aNumber, bNumber := isDigits(a), isDigits(b); {
	case aNumber && !bNumber:
		return -1
	case bNumber && !aNumber:
		return 1
	case aNumber:
		m, n := strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		if d := len(m) - len(n); d != 0 {
			return d
		}
		if d := strings.Compare(m, n); d != 0 {
			return d
		}
	}
	return strings.Compare(a, b)
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
