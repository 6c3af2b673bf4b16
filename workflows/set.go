package workflows

import (
	"fmt"
	"slices"
	"strings"
)

// Find returns the node that a reference means: the node with that id; else the
// only node with that title; else the only node of that class. The error names
// the nodes that could be meant.
func (g *Graph) Find(ref string) (*Node, error) {
	if n := g.Node(ref); n != nil {
		return n, nil
	}
	for _, by := range []struct {
		what string
		name func(*Node) string
	}{
		{"title", func(n *Node) string { return n.Title }},
		{"class", func(n *Node) string { return n.Class }},
	} {
		var found []string
		for _, n := range g.nodes {
			if ref != "" && by.name(n) == ref {
				found = append(found, n.ID)
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return g.Node(found[0]), nil
		default:
			return nil, fmt.Errorf("find node %q: %d nodes have this %s (ids %s): name one by its id",
				ref, len(found), by.what, quotedList(found))
		}
	}
	return nil, fmt.Errorf("find node %q: no node has this id, title or class (there are %s)", ref, g.list())
}

// list names the nodes for a message, not too many of them.
func (g *Graph) list() string {
	var names []string
	for _, n := range g.nodes {
		if len(names) == 20 {
			names = append(names, "…")
			break
		}
		names = append(names, fmt.Sprintf("%q %s", n.ID, n.Class))
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}

func quotedList(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(quoted, ", ")
}

// Resolve splits NODE.INPUT, where NODE is a reference as in [Graph.Find] and
// INPUT one of its inputs. Both may have dots in them.
func (g *Graph) Resolve(target string) (n *Node, input string, err error) {
	dot := strings.LastIndexByte(target, '.')
	if dot < 0 {
		return nil, "", fmt.Errorf("resolve %q: not of the form NODE.INPUT", target)
	}
	for i := dot; i >= 0; i = strings.LastIndexByte(target[:i], '.') {
		n, findErr := g.Find(target[:i])
		if findErr == nil {
			if _, ok := n.Inputs.Get(target[i+1:]); ok {
				return n, target[i+1:], nil
			}
			findErr = n.unknownInput(target[i+1:])
		}
		if err == nil || n != nil {
			err = findErr
		}
	}
	return nil, "", err
}

func (n *Node) unknownInput(input string) error {
	keys := n.Inputs.Keys()
	slices.Sort(keys)
	return fmt.Errorf("node %q (%s) has no input %q, only %s", n.ID, n.Class, input, quotedList(keys))
}

// Set gives an input of the node that ref means a new value, written as text.
// The text is taken as JSON where it is JSON of the kind that the input has now,
// or where the input has a link or null; else it is the string itself. So 7.0
// stays 7.0, a seed keeps its 64 bits, and a prompt needs no quotes.
func (g *Graph) Set(ref, input, text string) error {
	n, err := g.Find(ref)
	if err == nil {
		err = n.Set(input, text)
	}
	return err
}

// Set gives an input a new value by the rules of [Graph.Set].
func (n *Node) Set(input, text string) error {
	old, ok := n.Inputs.Get(input)
	if !ok {
		return n.unknownInput(input)
	}
	v, err := read(old, text)
	if err != nil {
		return fmt.Errorf("set input %q of node %q (%s): %w", input, n.ID, n.Class, err)
	}
	n.Inputs.Set(input, v)
	return nil
}

// read takes text as a value for an input that has another value now.
func read(old Value, text string) (Value, error) {
	v, err := ParseValue([]byte(text))
	inner, isWrapped := old.Unwrap()
	switch {
	case err == nil && isWrapped && v.Kind() == inner.Kind():
		return ObjectValue(Object{{"__value__", v}}), nil
	case err == nil && (old.IsLink() || old.IsNull() || v.Kind() == old.Kind()):
		return v, nil
	case old.Kind() == KindBool:
		// Any text but the empty one would count as true.
		return Value{}, fmt.Errorf("%q is neither true nor false", text)
	}
	if strings.ToValidUTF8(text, "") != text {
		return Value{}, fmt.Errorf("%q is not UTF-8", text)
	}
	return StringValue(text), nil
}
