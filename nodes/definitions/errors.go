package definitions

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one mistake in a definition.
type Error struct {
	File string
	Line int // from 1; 0: the file as a whole
	Err  error
}

// Error names the file and the line.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

// Unwrap is the mistake without its place.
func (e *Error) Unwrap() error { return e.Err }

// Errors is every mistake found, in the order of files and lines.
type Errors []*Error

// Error lists the mistakes, one a line.
func (es Errors) Error() string {
	lines := make([]string, len(es)+1)
	lines[0] = "node definitions have mistakes"
	for i, e := range es {
		lines[i+1] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap is the single mistakes.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

func (es *Errors) sort() {
	slices.SortStableFunc(*es, func(a, b *Error) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	*es = slices.CompactFunc(*es, func(a, b *Error) bool { return a.Error() == b.Error() })
}
