package engine

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Catalog is the set of node types a program knows. It is filled once, while
// the program starts, and only read afterwards.
type Catalog struct {
	kinds map[reflect.Type]Kind
	types map[string]*NodeType
	errs  []error
}

// NewCatalog is an empty catalogue with INT, FLOAT, STRING, BOOLEAN, * and
// the kinds given. Mistakes are reported by Err.
func NewCatalog(kinds ...Kind) *Catalog {
	c := &Catalog{kinds: map[reflect.Type]Kind{}, types: map[string]*NodeType{}}
	for _, k := range append(basicKinds(), kinds...) {
		c.addKind(k)
	}
	return c
}

func (c *Catalog) addKind(k Kind) {
	switch old, taken := c.kinds[k.Type]; {
	case k.Type == nil || k.Name == "":
		c.fail("kinds", fmt.Errorf("a kind wants a name and a type: %+v", k))
	case taken:
		c.fail("kinds", fmt.Errorf("%s is both %s and %s", k.Type, old.Name, k.Name))
	case k.Name == KindCombo && k.Choices == nil:
		c.fail("kinds", fmt.Errorf("%s is a combo without a list of choices", k.Type))
	default:
		c.kinds[k.Type] = k
	}
}

func (c *Catalog) fail(where string, err error) {
	c.errs = append(c.errs, fmt.Errorf("%s: %w", where, err))
}

// Err is every mistake in the kinds and declarations so far, or nil. Programs
// check it once, when the catalogue is complete.
func (c *Catalog) Err() error {
	errs := slices.Clone(c.errs)
	for _, t := range c.Types() {
		errs = append(errs, t.check()...)
	}
	return errors.Join(errs...)
}

// AddType adds a node type that was put together by hand, for the odd node
// that Add cannot derive from a struct.
func (c *Catalog) AddType(t *NodeType) {
	if t.Class == "" {
		c.fail("node type", errors.New("has no class name"))
		return
	}
	if _, taken := c.types[t.Class]; taken {
		c.fail(t.Class, errors.New("declared twice"))
		return
	}
	c.types[t.Class] = t
}

// Type finds a node type by its class name.
func (c *Catalog) Type(class string) (*NodeType, bool) {
	t, ok := c.types[class]
	return t, ok
}

// Types is all node types, sorted by class name.
func (c *Catalog) Types() []*NodeType {
	out := make([]*NodeType, 0, len(c.types))
	for _, t := range c.types {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *NodeType) int { return cmp.Compare(a.Class, b.Class) })
	return out
}
