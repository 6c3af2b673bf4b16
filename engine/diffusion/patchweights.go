package diffusion

import (
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// step is one thing done to the weights of a component: a LoRA applied, a merge
// with another model.
type step struct {
	// name identifies what was done by the place and time of the files
	// concerned; amount is how much of it.
	name, amount string
	// digest identifies what was done by the content of the files.
	digest func(*weights.Digests) string
	// changes lists what it means for each weight.
	changes map[string][]change
	lora    *loraUse // nil for a merge
}

// loraUse is a LoRA applied at a strength.
type loraUse struct{ strength float64 }

// change computes a new weight from an old one, which it may overwrite.
type change interface {
	apply(w *tensor.Tensor) (*tensor.Tensor, error)
	// branch returns the change as a product of two matrices to be added; ok is
	// false when it is something else.
	branch() (b *loraChange, ok bool)
}

// loraChange is what a LoRA does to a weight or to part of its rows.
type loraChange struct {
	change   *weights.Change
	target   weights.Target
	strength float64
}

func (c *loraChange) apply(w *tensor.Tensor) (*tensor.Tensor, error) {
	if c.target.Parts == 0 {
		return c.change.Apply(w, c.strength)
	}
	lo, hi := c.target.Rows(w.Dim(0))
	_, err := c.change.Apply(w.Rows(lo, hi), c.strength)
	return w, err
}

func (c *loraChange) branch() (*loraChange, bool) { return c, c.change.Additive() }

// mergeChange adds the weight of another model.
type mergeChange struct {
	other     *component
	name      string
	keep, add float64
}

func (c *mergeChange) apply(w *tensor.Tensor) (*tensor.Tensor, error) {
	o, err := c.other.weight(c.name)
	if err != nil {
		return nil, err
	}
	keep, add := float32(c.keep), float32(c.add)
	for i, v := range o.Data {
		kept := w.Data[i] * keep
		w.Data[i] = kept + add*v
	}
	return w, nil
}

func (c *mergeChange) branch() (*loraChange, bool) { return nil, false }

// weight computes a weight as it is after all steps, before it is rounded for
// storage.
func (c *component) weight(name string) (*tensor.Tensor, error) {
	src, ok := c.weights.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("%s: no weight %q", c.file.Path, name)
	}
	var parts []*tensor.Tensor
	for _, from := range src.From {
		t, err := c.file.Read(from)
		if err != nil {
			return nil, err
		}
		parts = append(parts, t)
	}
	w, err := c.stored(src, parts)
	if err != nil {
		return nil, err
	}
	for _, s := range c.steps {
		for _, change := range s.changes[name] {
			if w, err = change.apply(w); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return w, nil
}

// stored makes a weight of the file's tensors, with the precision in which it
// is kept. The result shares nothing with them.
func (c *component) stored(src nn.Source, parts []*tensor.Tensor) (*tensor.Tensor, error) {
	w := tensor.New(src.Shape...)
	if src.Make == nil {
		copy(w.Data, parts[0].Data)
	} else if err := src.Make.Apply(w.Data, parts); err != nil {
		return nil, err
	}
	if info, _ := c.file.Tensor(src.From[0]); c.roundF16 && info.DType != tensor.F16 {
		roundHalf(w.Data)
	}
	return w, nil
}

// kept is weight, rounded for storage.
func (c *component) kept(name string) (*tensor.Tensor, error) {
	w, err := c.weight(name)
	if err == nil && c.roundF16 {
		roundHalf(w.Data)
	}
	return w, err
}

// isChanged reports whether a step changes a weight.
func (c *component) isChanged(name string) bool {
	return slices.ContainsFunc(c.steps, func(s step) bool { return len(s.changes[name]) > 0 })
}

// with returns the component with more steps behind those that it has.
func (c *component) with(steps ...step) (*component, error) {
	if len(steps) == 0 {
		return c, nil
	}
	base := c
	if c.base != nil {
		base = c.base
	}
	n := *base
	n.base, n.steps = base, append(slices.Clip(c.steps), steps...)
	n.graph = base.graph
	split := n.split()
	if len(split.merged) > 0 {
		var err error
		if n.graph, err = base.trace(base.target, mergedWeights{base.weights, base, split}); err != nil {
			return nil, err
		}
	}
	n.addBranches(split)
	return &n, nil
}

// as returns the component with its graph traced in another way, over the same
// weights and with the same steps.
func (c *component) as(variant string, trace tracer) (*component, error) {
	n := *c.original()
	n.variant, n.trace = n.variant+variant, trace
	var err error
	if n.graph, err = trace(n.target, n.weights); err != nil {
		return nil, err
	}
	return n.with(c.steps...)
}

// split divides what happens to each weight: changes that make a new weight,
// and behind them those that stay products beside it.
type split struct {
	merged   map[string][]change
	branches map[string][]use
	id       string // identifies merged
}

// use is a change by a LoRA, which is step number step.
type use struct {
	*loraChange
	step int
}

func (c *component) split() split {
	out := split{merged: map[string][]change{}, branches: map[string][]use{}}
	places := c.base.products()
	merging := make([]bool, len(c.steps))
	for _, name := range c.weights.Names() {
		var all []change
		var tail []use
		var from []int // the step of each of all
		for i, s := range c.steps {
			for _, ch := range s.changes[name] {
				all, from = append(all, ch), append(from, i)
				if b, ok := ch.branch(); ok && places[name] {
					tail = append(tail, use{b, i})
				} else {
					tail = nil
				}
			}
		}
		if len(tail) > 0 {
			out.branches[name] = tail
		}
		if merged := len(all) - len(tail); merged > 0 {
			out.merged[name] = all[:merged]
			for _, i := range from[:merged] {
				merging[i] = true
			}
		}
	}
	var id []any
	for i, s := range c.steps {
		if merging[i] {
			id = append(id, i, s.name, s.amount)
		}
	}
	if len(out.merged) > 0 {
		out.id = digest(id...)
	}
	return out
}

// stepKey identifies the session that the steps need: products beside a weight
// have their strength as an input.
func (c *component) stepKey(s split) string {
	var b strings.Builder
	for _, step := range c.steps {
		fmt.Fprintf(&b, "|%s", step.name)
	}
	return b.String() + "|" + s.id
}

// mergedWeights are the weights of a component with some of them changed.
type mergedWeights struct {
	nn.Weights
	base *component
	split
}

// Lookup returns a changed weight as made from the same tensors of the file.
func (m mergedWeights) Lookup(name string) (nn.Source, bool) {
	src, ok := m.Weights.Lookup(name)
	list := m.merged[name]
	if !ok || len(list) == 0 {
		return src, ok
	}
	label := mergedPrefix + m.id
	if src.Make != nil {
		label = src.Make.Name + "+" + label
	}
	plain := src
	src.Derive = true
	src.Make = &nn.Make{Name: label, Apply: func(dst []float32, parts []*tensor.Tensor) error {
		w, err := m.base.stored(plain, parts)
		if err != nil {
			return err
		}
		for _, c := range list {
			if w, err = c.apply(w); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if !w.Shape.Equal(src.Shape) {
			return fmt.Errorf("%s: a change makes %v of %v, which the model does not fit", name, w.Shape, src.Shape)
		}
		if m.base.roundF16 {
			roundHalf(w.Data)
		}
		copy(dst, w.Data)
		return nil
	}}
	return src, true
}

// mergedPrefix begins the names of computations that change weights.
const mergedPrefix = "merged "
