package workflows

import (
	"errors"
	"fmt"
)

// ErrUIFormat says that a file is a workflow as the editor saves it, where the
// API format is needed.
var ErrUIFormat = errors.New(`workflow is in the UI format (it has "nodes" and "links"): comfyrun convert makes the API format of it`)

// Parse reads a workflow in the API format, alone or as the body of a POST
// /prompt ({"prompt": {…}, …}, of which the rest is passed over). Text that is no
// JSON or has another shape gives a *[SyntaxError]; the UI format gives
// [ErrUIFormat].
func Parse(data []byte) (*Graph, error) {
	v, err := compact(data)
	if err != nil {
		return nil, fmt.Errorf("parse workflow: %w", err)
	}
	g, err := FromValue(v)
	var shape *shapeError
	if errors.As(err, &shape) {
		err = syntaxError(data, locate(data, shape.path), "%s", shape.msg)
	}
	if err != nil {
		return nil, fmt.Errorf("parse workflow: %w", err)
	}
	return g, nil
}

// FromValue makes a graph of JSON that was read before, by the rules of [Parse].
func FromValue(v Value) (*Graph, error) {
	top, ok := v.Object()
	if !ok {
		return nil, shapeErrorf(nil, "a %s where an object of nodes should be", v.Kind())
	}
	if isUI(top) {
		return nil, ErrUIFormat
	}
	var path []string
	if inner, ok := wrapped(top); ok {
		top, path = inner, []string{"prompt"}
	}
	if len(top) > MaxNodes {
		return nil, shapeErrorf(path, "%d nodes are more than %d", len(top), MaxNodes)
	}
	g := &Graph{}
	for _, m := range top {
		n, err := parseNode(m, append(path, m.Key))
		if err != nil {
			return nil, err
		}
		if err := g.Add(n); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// isUI recognises the UI format, in all of its versions.
func isUI(top Object) bool {
	nodes, _ := top.Get("nodes")
	links, _ := top.Get("links")
	return nodes.Kind() == KindList && links.Kind() == KindList
}

// wrapped returns the graph of a POST /prompt body. A node may have the id
// "prompt" too, but then it has a class.
func wrapped(top Object) (Object, bool) {
	prompt, _ := top.Get("prompt")
	inner, ok := prompt.Object()
	if !ok {
		return nil, false
	}
	_, isNode := inner.Get("class_type")
	return inner, !isNode
}

func parseNode(m Member, path []string) (*Node, error) {
	members, ok := m.Value.Object()
	if !ok {
		return nil, shapeErrorf(path, "node %q is a %s, not an object", m.Key, m.Value.Kind())
	}
	n := &Node{ID: m.Key}
	for _, m := range members {
		switch m.Key {
		case "class_type":
			if n.Class, ok = m.Value.Str(); !ok {
				return nil, shapeErrorf(append(path, m.Key), "class_type of node %q is a %s, not a string", n.ID, m.Value.Kind())
			}
		case "inputs":
			if n.Inputs, ok = m.Value.Object(); !ok {
				return nil, shapeErrorf(append(path, m.Key), "inputs of node %q are a %s, not an object", n.ID, m.Value.Kind())
			}
		case "_meta":
			n.setMeta(m)
		default:
			n.Extra = append(n.Extra, m)
		}
	}
	return n, nil
}

// setMeta takes _meta apart. Nothing reads it but people, so that any shape of
// it is good.
func (n *Node) setMeta(m Member) {
	meta, ok := m.Value.Object()
	if !ok {
		n.Extra = append(n.Extra, m)
		return
	}
	for _, m := range meta {
		if title, ok := m.Value.Str(); ok && m.Key == "title" {
			n.Title = title
			continue
		}
		n.Meta = append(n.Meta, m)
	}
}

// shapeError is valid JSON that is no workflow: what is wrong with the value at a
// path of keys.
type shapeError struct {
	path []string
	msg  string
}

func (e *shapeError) Error() string { return e.msg }

func shapeErrorf(path []string, format string, args ...any) error {
	return &shapeError{path, fmt.Sprintf(format, args...)}
}

// locate returns the offset of the value at a path of object keys in valid JSON.
// Only an error needs it, so it reads the text again.
func locate(data []byte, path []string) int {
	s := scanner{data: data}
	s.mark()
	s.space()
	for _, key := range path {
		s.pos++
		for s.seek() != key {
			if s.value() != nil {
				return s.pos
			}
			s.space()
			s.pos++
		}
		s.space()
	}
	return s.pos
}

// seek reads a key and its colon.
func (s *scanner) seek() string {
	s.space()
	s.out = s.out[:0]
	if s.peek() != '"' || s.quoted() != nil {
		return ""
	}
	key := unquote(string(s.out))
	s.space()
	s.pos++
	return key
}
