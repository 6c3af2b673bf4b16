package engine

import (
	"fmt"
	"reflect"
)

// Names of the kinds that every catalogue has.
const (
	KindInt     = "INT"
	KindFloat   = "FLOAT"
	KindString  = "STRING"
	KindBoolean = "BOOLEAN"
	KindCombo   = "COMBO" // a choice from a list of names
	KindAny     = "*"     // fits every other kind
)

// Kind ties a Go type to ComfyUI's word for it. The kinds of a catalogue are
// its type system: a link fits when the kinds of both ends have a word in
// common ("IMAGE,FLOAT" is a kind that takes either).
type Kind struct {
	Name    string          // "MODEL", "INT"; KindCombo for a choice
	Type    reflect.Type    // the Go type of fields and results of this kind
	Choices func() []string // of a combo: asked at each use, so that new files show up
}

// Socket is a kind of value that only travels over links. T may be an
// interface type (type ImageOrFloat any) for a kind with several words.
func Socket[T any](name string) Kind {
	return Kind{Name: name, Type: reflect.TypeFor[T]()}
}

// Combo is a choice from a list of names that is asked for at each use.
func Combo[T ~string](choices func() []string) Kind {
	return Kind{Name: KindCombo, Type: reflect.TypeFor[T](), Choices: choices}
}

// Choices is a list of names that never changes, for Combo.
func Choices(names ...string) func() []string {
	return func() []string { return names }
}

// List is a list that passes a link as a whole. A node type with a List among
// its inputs is called once with all elements (INPUT_IS_LIST: its other inputs
// then get their first element); a List among the outputs is handed on
// element by element (OUTPUT_IS_LIST).
type List[T any] []T

func (List[T]) element() reflect.Type { return reflect.TypeFor[T]() }

func (l List[T]) elements() []any {
	out := make([]any, len(l))
	for i, v := range l {
		out[i] = v
	}
	return out
}

type lister interface {
	element() reflect.Type
	elements() []any
}

var listerType = reflect.TypeFor[lister]()

func basicKinds() []Kind {
	return []Kind{
		Socket[int](KindInt), Socket[int64](KindInt), Socket[uint64](KindInt),
		Socket[float64](KindFloat), Socket[string](KindString), Socket[bool](KindBoolean),
		Socket[any](KindAny),
	}
}

// slot is how a Go type takes part in links: its kind, whether it stands for
// a whole list and whether it is a pointer that is nil when nothing is given.
type slot struct {
	Kind
	list, nullable bool
}

// linkOnly says whether no literal can be a value of the kind.
func (k *Kind) linkOnly() bool {
	switch k.Name {
	case KindInt, KindFloat, KindString, KindBoolean, KindCombo:
		return false
	}
	return k.Type.Kind() != reflect.Interface
}

func (c *Catalog) slotOf(t reflect.Type) (slot, error) {
	if k, ok := c.kinds[t]; ok {
		return slot{Kind: k}, nil
	}
	if t.Implements(listerType) {
		s, err := c.slotOf(reflect.Zero(t).Interface().(lister).element())
		s.list = true
		return s, err
	}
	if t.Kind() == reflect.Pointer {
		if k, ok := c.kinds[t.Elem()]; ok {
			return slot{Kind: k, nullable: true}, nil
		}
	}
	return slot{}, fmt.Errorf("%s is not a kind of value in this catalogue", t)
}
