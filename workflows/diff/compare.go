package diff

import (
	"slices"

	"github.com/comfyrun/comfyrun/workflows"
)

// Compare returns what is different in b.
func Compare(a, b *Document) *Diff {
	d := &Diff{Old: a, New: b, pairs: map[string]*Matching{}}
	known := map[string]bool{}
	renamed := map[string]string{}
	all := Match(a, b)
	for _, m := range all {
		d.pairs[m.New.ID] = m
		known[m.Old.ID] = true
		renamed[m.New.ID] = m.Old.ID
	}
	for _, s := range b.Sheets {
		m := d.pairs[s.ID]
		if m == nil {
			d.add(Change{Kind: SubgraphAdded, Sheet: s.sheetRef()})
			m = &Matching{Old: &Sheet{}, New: s}
		}
		c := &comparison{Diff: d, m: m, sheet: s.sheetRef(), classes: renamed}
		c.compare()
	}
	for _, s := range a.Sheets {
		if !known[s.ID] {
			d.add(Change{Kind: SubgraphRemoved, Sheet: s.sheetRef()})
		}
	}
	return d
}

func (d *Diff) add(c Change) { d.Changes = append(d.Changes, c) }

// comparison compares two sheets.
type comparison struct {
	*Diff
	m       *Matching
	sheet   *SheetRef
	classes map[string]string // the old ids of subgraphs, by the new ones
}

func (c *comparison) add(change Change) {
	change.Sheet = c.sheet
	c.Diff.add(change)
}

func (c *comparison) compare() {
	c.named(Setting, nil, c.m.Old.Settings, c.m.New.Settings)
	if c.m.Old.Name != c.m.New.Name && c.m.Old.ID != "" {
		c.value(Change{Kind: Setting, Input: "name"}, textValue(c.m.Old.Name), textValue(c.m.New.Name))
	}
	c.groups()
	for _, p := range c.inOrder() {
		switch {
		case p.old == nil:
			c.add(Change{Kind: Added, Node: p.new.ref(), Content: c.content(p.new)})
		case p.new == nil:
			c.add(Change{Kind: Removed, Node: p.old.ref()})
		default:
			c.nodes(p.old, p.new)
		}
	}
	if c.m.Old.view != c.m.New.view && len(c.m.Old.Nodes) > 0 {
		c.Layout.View = true
	}
}

// nodePair is a node in both sheets, or in one.
type nodePair struct{ old, new *Node }

func (p nodePair) id() string {
	if p.new != nil {
		return p.new.ID
	}
	return p.old.ID
}

// inOrder returns all nodes in the order of their ids, removed ones before others of their id.
func (c *comparison) inOrder() []nodePair {
	var pairs []nodePair
	for _, n := range c.m.Old.Nodes {
		if _, ok := c.m.NewID(n.ID); !ok {
			pairs = append(pairs, nodePair{old: n})
		}
	}
	for _, n := range c.m.New.Nodes {
		old, _ := c.m.OldID(n.ID)
		pairs = append(pairs, nodePair{c.m.Old.Node(old), n})
		if _, ok := c.m.OldID(n.ID); !ok {
			pairs[len(pairs)-1].old = nil
		}
	}
	slices.SortStableFunc(pairs, func(p, q nodePair) int {
		return workflows.CompareIDs(p.id(), q.id())
	})
	return pairs
}

// nodes compares a node with what it was.
func (c *comparison) nodes(a, b *Node) {
	ref := b.ref()
	before := a.ref()
	if a.ID != b.ID {
		c.add(Change{Kind: Renumbered, Node: ref, Before: before})
	}
	if a.Class != b.Class && c.classes[b.Class] != a.Class {
		c.add(Change{Kind: Replaced, Node: ref, Before: before})
	}
	if a.Title != b.Title {
		c.value(Change{Kind: Titled, Node: ref}, textValue(a.Title), textValue(b.Title))
	}
	if a.Mode != b.Mode {
		c.value(Change{Kind: Mode, Node: ref}, some(workflows.IntValue(int64(a.Mode))), some(workflows.IntValue(int64(b.Mode))))
	}
	c.inputs(a, b, ref)
	c.named(Member, ref, a.Members, b.Members)
	if a.layout != b.layout && c.Old.Drawing == c.New.Drawing {
		c.Layout.Moved++
	}
	if a.slots != b.slots && a.Class == b.Class && c.Old.Drawing == c.New.Drawing {
		c.Layout.Slots++
	}
}

func some(v workflows.Value) *workflows.Value { return &v }

// textValue is a text, or nothing for an empty one.
func textValue(s string) *workflows.Value {
	if s == "" {
		return nil
	}
	return some(workflows.StringValue(s))
}

// value adds a change of a value, by word if both are texts.
func (c *comparison) value(change Change, a, b *workflows.Value) {
	change.Old, change.New = a, b
	if a != nil && b != nil {
		s, isText := a.Str()
		t, areTexts := b.Str()
		if isText && areTexts && len(split(s)) > 1 && len(split(t)) > 1 {
			change.Words = words(s, t)
		}
	}
	c.add(change)
}

// named compares lists of values by name.
func (c *comparison) named(kind Kind, ref *Ref, a, b []Named) {
	before, after := byNames(a), byNames(b)
	for _, name := range names(a, b) {
		v, inA := before[name]
		w, inB := after[name]
		change := Change{Kind: kind, Node: ref, Input: name}
		switch {
		case inA && inB && v != w:
			c.value(change, &v, &w)
		case inA && !inB:
			c.value(change, &v, nil)
		case inB && !inA:
			c.value(change, nil, &w)
		}
	}
}

func byNames(list []Named) map[string]workflows.Value {
	values := make(map[string]workflows.Value, len(list))
	for _, m := range list {
		values[m.Name] = m.Value
	}
	return values
}

// names are those of the first list, then those that only the second has.
func names(a, b []Named) []string {
	var all []string
	known := map[string]bool{}
	for _, list := range [][]Named{a, b} {
		for _, m := range list {
			if !known[m.Name] {
				known[m.Name] = true
				all = append(all, m.Name)
			}
		}
	}
	return all
}

// inputs compares the values and links of a node, in the order of the new one.
func (c *comparison) inputs(a, b *Node, ref *Ref) {
	listed := map[string]bool{}
	input := func(name string) {
		if !listed[name] {
			listed[name] = true
			c.input(nodePair{a, b}, name, ref)
		}
	}
	for _, n := range []*Node{b, a} {
		for _, l := range n.Literals {
			input(l.Name)
		}
		for _, in := range n.Inputs {
			input(in.Name)
		}
	}
}

// input compares a value and a link of one name.
func (c *comparison) input(p nodePair, name string, ref *Ref) {
	a, b := p.old, p.new
	v, inA := a.Literal(name)
	w, inB := b.Literal(name)
	from, fromA := a.Input(name)
	to, fromB := b.Input(name)
	change := Change{Kind: Literal, Node: ref, Input: name}
	if fromA != fromB || fromA && !c.sameSource(from, to) {
		change.Kind = Wired
		if fromA {
			change.OldFrom = c.m.Old.from(from)
		}
		if fromB {
			change.NewFrom = c.m.New.from(to)
		}
	}
	var before, after *workflows.Value
	if inA != inB || v != w {
		if inA {
			before = &v
		}
		if inB {
			after = &w
		}
	} else if change.Kind == Literal {
		return
	}
	c.value(change, before, after)
}

func (c *comparison) sameSource(from, to Source) bool {
	if from.Slot != to.Slot {
		return false
	}
	if id, ok := c.m.NewID(from.Node); ok {
		return id == to.Node
	}
	_, known := c.m.OldID(to.Node)
	return !known && from.Node == to.Node && c.m.Old.Node(from.Node) == nil && c.m.New.Node(to.Node) == nil
}

// content is all of a node.
func (c *comparison) content(n *Node) *Content {
	content := &Content{Mode: n.Mode, Values: n.Literals, Members: n.Members}
	for _, in := range n.Inputs {
		content.Links = append(content.Links, NamedFrom{in.Name, *c.m.New.from(in.From)})
	}
	return content
}

// groups compares groups by title; those of one title in their order.
func (c *comparison) groups() {
	left := map[string][]Group{}
	for _, g := range c.m.Old.Groups {
		left[g.Title] = append(left[g.Title], g)
	}
	for _, g := range c.m.New.Groups {
		before := left[g.Title]
		if len(before) == 0 {
			c.add(Change{Kind: GroupAdded, Input: g.Title})
			continue
		}
		if before[0].layout != g.layout {
			c.Layout.Groups++
		}
		left[g.Title] = before[1:]
	}
	for _, g := range c.m.Old.Groups {
		if before := left[g.Title]; len(before) > 0 {
			left[g.Title] = before[1:]
			c.add(Change{Kind: GroupRemoved, Input: g.Title})
		}
	}
}
