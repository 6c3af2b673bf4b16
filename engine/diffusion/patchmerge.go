package diffusion

import (
	"fmt"
	"strings"
)

// Mix says how much of two weights goes into a merged one: Keep of the first,
// Add of the second.
type Mix struct{ Keep, Add float64 }

// Merge returns the model with each weight mixed with that of another model of
// the same architecture, in float32. mix is asked for the shares by the weight's
// name, "input_blocks.1.0.in_layers.2.weight". Everything but the weights stays
// that of m.
func (m *Model) Merge(other *Model, mix func(weight string) Mix) (*Model, error) {
	s, err := mergeStep(m.unet, other.unet, mix)
	if err != nil {
		return nil, fmt.Errorf("merge models: %w", err)
	}
	return m.withSteps(s)
}

// Merge returns the encoder with each weight mixed with that of another of the
// same architecture.
func (c *CLIP) Merge(other *CLIP, mix Mix) (*CLIP, error) {
	if len(c.towers) != len(other.towers) {
		return nil, fmt.Errorf("merge text encoders: %s cannot be merged with %s", c.names(), other.names())
	}
	n := &CLIP{runtime: c.runtime}
	for i, t := range c.towers {
		changed := *t
		s, err := mergeStep(t.net, other.towers[i].net, func(string) Mix { return mix })
		if err == nil {
			changed.net, err = t.net.with(s)
		}
		if err != nil {
			return nil, fmt.Errorf("merge text encoders: %w", err)
		}
		n.towers = append(n.towers, &changed)
	}
	return n, nil
}

// mergeStep returns the step that mixes another component's weights into those
// of c.
func mergeStep(c, other *component, mix func(weight string) Mix) (step, error) {
	if err := sameWeights(c, other); err != nil {
		return step{}, err
	}
	var amounts strings.Builder
	s := step{name: "merge " + other.state(), changes: map[string][]change{}, digest: other.digest}
	for _, name := range c.weights.Names() {
		m := mix(name)
		s.changes[name] = []change{&mergeChange{other: other, name: name, keep: m.Keep, add: m.Add}}
		fmt.Fprintf(&amounts, "%s %v %v;", name, m.Keep, m.Add)
	}
	s.amount = digest(amounts.String())
	return s, nil
}

// state identifies a component with what its steps are and how strong.
func (c *component) state() string {
	var b strings.Builder
	b.WriteString(c.original().key())
	for _, s := range c.steps {
		fmt.Fprintf(&b, "|%s*%s", s.name, s.amount)
	}
	return digest(b.String())
}

// sameWeights checks that two components have the same weights in the same
// shapes.
func sameWeights(a, b *component) error {
	for _, pair := range [][2]*component{{a, b}, {b, a}} {
		for _, name := range pair[0].weights.Names() {
			have, _ := pair[0].weights.Lookup(name)
			other, ok := pair[1].weights.Lookup(name)
			if !ok {
				return fmt.Errorf("%s has no weight %s, which %s has: another architecture", pair[1].file.Path, name, pair[0].file.Path)
			}
			if !have.Shape.Equal(other.Shape) {
				return fmt.Errorf("%s is %v in %s and %v in %s: another architecture", name, have.Shape, pair[0].file.Path, other.Shape, pair[1].file.Path)
			}
		}
	}
	return nil
}
