package workflows

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Encode writes a graph in the API format: two blanks of indentation, nodes,
// inputs and members in their order, links on one line, a line feed at the end.
// Parse reads it back to an equal graph.
func Encode(g *Graph) []byte {
	b := []byte("{")
	for i, n := range g.nodes {
		b = appendItem(b, i, 1)
		b = append(appendQuoted(b, n.ID), ": "...)
		b = appendIndented(b, ObjectValue(n.members()), 1)
	}
	if len(g.nodes) > 0 {
		b = append(b, '\n')
	}
	return append(b, "}\n"...)
}

// members returns the node as the members of its object, in the order in which
// ComfyUI's editor exports them.
func (n *Node) members() Object {
	var o Object
	if n.Inputs != nil {
		o = append(o, Member{"inputs", ObjectValue(n.Inputs)})
	}
	if n.Class != "" {
		o = append(o, Member{"class_type", StringValue(n.Class)})
	}
	meta := n.Meta
	if n.Title != "" {
		meta = slices.Insert(slices.Clone(meta), 0, Member{"title", StringValue(n.Title)})
	}
	if len(meta) > 0 {
		o = append(o, Member{"_meta", ObjectValue(meta)})
	}
	return append(o, n.Extra...)
}

// appendItem starts the line of item i of something that stands at a level of
// indentation.
func appendItem(b []byte, i, level int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return append(append(b, '\n'), strings.Repeat("  ", level)...)
}

// appendIndented writes objects with a line per member, everything else on one
// line.
func appendIndented(b []byte, v Value, level int) []byte {
	members, ok := v.Object()
	switch {
	case !ok:
		return appendSpaced(b, v)
	case len(members) == 0:
		return append(b, "{}"...)
	}
	b = append(b, '{')
	for i, m := range members {
		b = appendItem(b, i, level+1)
		b = append(appendQuoted(b, m.Key), ": "...)
		b = appendIndented(b, m.Value, level+1)
	}
	return append(appendItem(b, 0, level), '}')
}

// appendSpaced writes a list on one line with a blank after each comma.
func appendSpaced(b []byte, v Value) []byte {
	items, ok := v.List()
	if !ok {
		return append(b, v.Raw()...)
	}
	b = append(b, '[')
	for i, item := range items {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendSpaced(b, item)
	}
	return append(b, ']')
}

// Canonical writes what a graph computes and nothing else: compact, node ids and
// keys in the order of their bytes, without _meta. Two files that differ in
// order, blanks or titles have the same canonical form.
func Canonical(g *Graph) []byte {
	var top Object
	for _, n := range g.nodes {
		o := n.members()
		o.Delete("_meta")
		top = append(top, Member{n.ID, ObjectValue(o)})
	}
	return appendSorted(nil, ObjectValue(top))
}

func appendSorted(b []byte, v Value) []byte {
	if items, ok := v.List(); ok {
		b = append(b, '[')
		for i, item := range items {
			b = appendSorted(appendComma(b, i), item)
		}
		return append(b, ']')
	}
	members, ok := v.Object()
	if !ok {
		return append(b, v.Raw()...)
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Key, b.Key) })
	b = append(b, '{')
	for i, m := range members {
		b = append(appendQuoted(appendComma(b, i), m.Key), ':')
		b = appendSorted(b, m.Value)
	}
	return append(b, '}')
}

func appendComma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

// Digest returns the SHA-256 of the canonical form, in hexadecimal.
func Digest(g *Graph) string {
	sum := sha256.Sum256(Canonical(g))
	return hex.EncodeToString(sum[:])
}
