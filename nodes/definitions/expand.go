package definitions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// needNothing leaves links to the inner nodes: they are followed when one of them
// needs what is there.
func needNothing(context.Context, *engine.Args) ([]string, error) { return nil, nil }

// call expands a node into the inner ones.
func (c *class) call(ctx context.Context, a *engine.Args) (engine.Returned, error) {
	e := engine.NewExpand(ctx)
	made := make(map[string]*engine.Expanded, len(c.inner))
	for _, n := range c.def.Workflow.Nodes() {
		made[n.ID] = e.Named(n.ID, n.Class, engine.Inputs{})
	}
	for _, n := range c.def.Workflow.Nodes() {
		for _, m := range n.Inputs {
			if link, ok := m.Value.Link(); !ok {
				made[n.ID].Inputs[m.Key] = m.Value
			} else if made[link.Node] != nil { // never a node of the workflow around
				made[n.ID].Inputs[m.Key] = made[link.Node].Out(link.Slot)
			}
		}
	}
	for at, index := range c.feeds {
		in := &c.def.Inputs[index]
		switch values := a.Values[index]; {
		case len(values) > 0:
			made[at.node].Inputs[at.input] = values[0]
		case !in.Default.IsNull():
			made[at.node].Inputs[at.input] = in.Default
		}
	}
	results := make([]any, len(c.def.Outputs))
	for i, out := range c.def.Outputs {
		results[i] = made[out.From.Node].Out(out.From.Slot)
	}
	return engine.Returned{Expand: e.Return(results...)}, nil
}

// fingerprint is what the class does and what its inner nodes depend on beside
// their inputs, such as files.
func (c *class) fingerprint(a *engine.Args) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, c.digest)
	for _, n := range c.def.Workflow.Nodes() {
		t := c.inner[n.ID]
		if t == nil || t.Fingerprint == nil {
			continue
		}
		text, err := t.Fingerprint(c.literals(n, a))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%q %q\n", n.ID, text)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// literals is the arguments of an inner node as far as they are literals: null
// stands for links.
func (c *class) literals(n *workflows.Node, a *engine.Args) *engine.Args {
	t := c.inner[n.ID]
	out := &engine.Args{Type: t, Values: make([][]any, len(t.Inputs)), Hidden: a.Hidden}
	for i := range t.Inputs {
		in := &t.Inputs[i]
		v, given := n.Inputs.Get(in.Name)
		if index, fed := c.feeds[target{n.ID, in.Name}]; fed {
			if values := a.Values[index]; values != nil {
				out.Values[i] = values
				continue
			}
			if d := c.def.Inputs[index].Default; !d.IsNull() {
				v, given = d, true
			}
		}
		if given {
			out.Values[i] = []any{native(in.Kind, v)}
		}
	}
	return out
}

// native is a literal as functions get it, null where it is a link or of another
// kind.
func native(kind string, v workflows.Value) any {
	switch kind {
	case engine.KindInt:
		if i, ok := v.Int64(); ok {
			return i
		}
		if u, ok := v.Uint64(); ok {
			return u
		}
	case engine.KindFloat:
		if f, ok := v.Float64(); ok {
			return f
		}
	case engine.KindBoolean:
		if b, ok := v.Bool(); ok {
			return b
		}
	default:
		if s, ok := v.Str(); ok {
			return s
		}
	}
	return nil
}
