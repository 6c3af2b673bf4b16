package policy

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
)

// Size measures a value that nodes make: the width and height of a picture, in
// pixels. Other values are no pictures.
type Size func(v any) (width, height int, picture bool)

// Guard makes the types of a catalogue check the policy whenever one of their nodes
// is called, so that values which come over links, and nodes that an expansion
// makes, are bound too; and, with a size, the pictures that they return. It
// changes the types, so it is done once, before the catalogue is used.
func (p *Policy) Guard(c *engine.Catalog, size Size) {
	if p == nil {
		return
	}
	for _, t := range c.Types() {
		t.Call = p.guarded(t, size)
	}
}

// guarded is the type's function between two checks.
func (p *Policy) guarded(t *engine.NodeType, size Size) func(context.Context, *engine.Args) (engine.Returned, error) {
	call := t.Call
	return func(ctx context.Context, a *engine.Args) (engine.Returned, error) {
		if err := p.args(t, a); err != nil {
			return engine.Returned{}, err
		}
		out, err := call(ctx, a)
		if err == nil && size != nil && p.Limits.Megapixels > 0 {
			err = p.made(out.Values, size)
		}
		if err != nil {
			return engine.Returned{}, err
		}
		return out, nil
	}
}

// args checks every element that a call gets, also of whole lists.
func (p *Policy) args(t *engine.NodeType, a *engine.Args) error {
	longest := 1
	for _, values := range a.Values {
		longest = max(longest, len(values))
	}
	for k := range longest {
		found := p.node(t, func(i int) any {
			if i >= len(a.Values) || len(a.Values[i]) == 0 {
				return nil
			}
			return a.Values[i][min(k, len(a.Values[i])-1)]
		})
		if len(found) > 0 {
			return broken(found[0])
		}
	}
	return nil
}

// made checks the pictures of a call's outputs.
func (p *Policy) made(values []any, size Size) error {
	for i, v := range values {
		items, list := v.([]any)
		if !list {
			items = []any{v}
		}
		for _, item := range items {
			w, h, picture := size(item)
			if picture && float64(w)*float64(h) > p.Limits.Megapixels*megapixel {
				return broken(violation{"", fmt.Sprintf("output %d is %d x %d, %.2f megapixels, allowed are %v", i, w, h,
					float64(w)*float64(h)/megapixel, p.Limits.Megapixels)})
			}
		}
	}
	return nil
}

func broken(v violation) error {
	return &engine.InputError{Input: v.input, Err: fmt.Errorf("not allowed by the server's policy: %s", v.text)}
}
