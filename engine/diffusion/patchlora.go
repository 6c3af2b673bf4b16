package diffusion

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// LoRA is a file of changes to the weights of models and text encoders.
type LoRA struct {
	file  *weights.LoRA
	state string // the file's place, size and time
}

// LoadLoRA reads the header of a LoRA file.
func (r *Runtime) LoadLoRA(ctx context.Context, path string) (*LoRA, error) {
	f, err := weights.OpenLoRA(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(f.Path())
	if err != nil {
		return nil, err
	}
	return &LoRA{f, fmt.Sprintf("%s@%d,%d", f.Path(), info.Size(), info.ModTime().UnixNano())}, nil
}

// WithLoRA returns the model with the LoRA's changes at a strength, behind those
// that it has. What the file has for other models is left out: see Ignored.
func (m *Model) WithLoRA(l *LoRA, strength float64) (*Model, error) {
	return m.withSteps(l.step(m.unet, m.loraKeys(), strength))
}

func (m *Model) withSteps(s ...step) (*Model, error) {
	unet, err := m.unet.with(s...)
	if err != nil {
		return nil, err
	}
	n := *m
	n.setUNet(unet)
	return &n, nil
}

func (m *Model) loraKeys() map[string]weights.Target { return weights.UNetKeys(m.unet.weights.Names()) }

// WithLoRA returns the encoder with the LoRA's changes to all its towers, as
// Model.WithLoRA does.
func (c *CLIP) WithLoRA(l *LoRA, strength float64) (*CLIP, error) {
	n := &CLIP{runtime: c.runtime}
	for i, t := range c.towers {
		changed := *t
		var err error
		if changed.net, err = t.net.with(l.step(t.net, c.loraKeys(i), strength)); err != nil {
			return nil, err
		}
		n.towers = append(n.towers, &changed)
	}
	return n, nil
}

func (c *CLIP) loraKeys(i int) map[string]weights.Target {
	t := c.towers[i]
	return weights.CLIPKeys(t.Weights.Names(), weights.Tower{Name: t.Name, Second: i > 0})
}

// step returns what the LoRA does to a component.
func (l *LoRA) step(c *component, keys map[string]weights.Target, strength float64) step {
	found, _ := l.match(c.weights, keys)
	s := step{
		name: "lora " + l.state, amount: fmt.Sprint(strength), lora: &loraUse{strength}, changes: map[string][]change{},
		digest: func(d *weights.Digests) string { return contentOf(d, l.file.Path(), l.state) },
	}
	for target, ch := range found {
		s.changes[target.Weight] = append(s.changes[target.Weight], &loraChange{ch, target, strength})
	}
	for _, list := range s.changes {
		slices.SortFunc(list, func(a, b change) int { return a.(*loraChange).target.Part - b.(*loraChange).target.Part })
	}
	return s
}

// match returns the changes that fit weights, and the file's tensors that make
// them.
func (l *LoRA) match(w nn.Weights, keys map[string]weights.Target) (fit map[weights.Target]*weights.Change, used []string) {
	fit, _ = l.file.Match(keys)
	for target, ch := range fit {
		src, ok := w.Lookup(target.Weight)
		if ok && len(src.Shape) > 0 {
			lo, hi := target.Rows(src.Shape[0])
			shape := slices.Clone(src.Shape)
			shape[0] = hi - lo
			ok = ch.Fits(shape)
		}
		if !ok {
			delete(fit, target)
			continue
		}
		used = append(used, ch.Tensors()...)
	}
	return fit, used
}

// Ignored lists the file's tensors that change nothing in the model and the
// text encoder, either of which may be nil: they are for other weights, or of
// other shapes, or of a kind that is not known.
func (l *LoRA) Ignored(m *Model, c *CLIP) []string {
	var used []string
	if m != nil {
		_, u := l.match(m.unet.weights, m.loraKeys())
		used = append(used, u...)
	}
	if c != nil {
		for i, t := range c.towers {
			_, u := l.match(t.Weights, c.loraKeys(i))
			used = append(used, u...)
		}
	}
	return l.file.Unused(used)
}

// contentOf identifies a file by its content, by its state where it cannot be
// read.
func contentOf(d *weights.Digests, path, state string) string {
	sum, err := d.Digest(context.Background(), path)
	if err != nil {
		return digest(state)
	}
	return sum
}
