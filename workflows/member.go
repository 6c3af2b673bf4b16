package workflows

import (
	"errors"
	"fmt"
	"slices"
)

// ParseMember reads a workflow that is a part of a larger JSON text: the value at
// a path of object keys, by the rules of [Parse]. A *[SyntaxError] counts lines
// from the start of the whole text.
func ParseMember(data []byte, path ...string) (*Graph, error) {
	v, err := compact(data)
	if err != nil {
		return nil, fmt.Errorf("parse workflow: %w", err)
	}
	for i, key := range path {
		members, _ := v.Object()
		var ok bool
		if v, ok = members.Get(key); !ok {
			return nil, fmt.Errorf("parse workflow: %w", syntaxError(data, locate(data, path[:i]), "there is no %q", key))
		}
	}
	g, err := FromValue(v)
	var shape *shapeError
	if errors.As(err, &shape) {
		err = syntaxError(data, locate(data, slices.Concat(path, shape.path)), "%s", shape.msg)
	}
	if err != nil {
		return nil, fmt.Errorf("parse workflow: %w", err)
	}
	return g, nil
}

// Position returns the line and column, from 1, of the value at a path of object
// keys in valid JSON, for messages about it.
func Position(data []byte, path ...string) (line, column int) {
	e := syntaxError(data, locate(data, path), "")
	return e.Line, e.Column
}
