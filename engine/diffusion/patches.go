package diffusion

import (
	"context"
	"slices"

	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Patch changes how the predictions of a model are combined, in every run of
// the model that carries it. Patches act in the order in which they were added.
type Patch struct {
	name  string // with the settings
	start func(g *guidance) (hooks, error)
	// all has every conditioning evaluated, at any guidance scale.
	all bool
}

// hooks are what a patch does in one run. Nil does nothing.
type hooks struct {
	// before changes the pair before it is combined.
	before func(c *call) error
	// combine replaces the formula; the last patch that has it wins.
	combine func(ctx context.Context, c *call) (*tensor.Tensor, error)
	// after changes the combined prediction, which it may overwrite.
	after func(c *call, den *tensor.Tensor) *tensor.Tensor
	// evaluate is after for what asks a network again.
	evaluate func(ctx context.Context, c *call, den *tensor.Tensor) (*tensor.Tensor, error)
	// mask replaces the noise mask of a call.
	mask func(mask []float32, sigma float32) []float32
}

// fixed are hooks that are the same in every run.
func fixed(h hooks) func(*guidance) (hooks, error) {
	return func(*guidance) (hooks, error) { return h, nil }
}

// pair is what classifier-free guidance goes between. cond and uncond are
// predictions of the clean latent and may be the sampler's later on: hooks put
// other tensors in their place.
type pair struct {
	cond, uncond *tensor.Tensor
	cfg          float64
}

// call is one guided evaluation, as rules and hooks see it.
type call struct {
	pair
	*guidance
	x     *tensor.Tensor // state, as the network saw it
	sigma float32
	both  bool // uncond was evaluated
	// positive is the list of the conditioning that cond was predicted for.
	positive int
}

func (c *call) before() error {
	for _, h := range c.hooks {
		if h.before == nil {
			continue
		}
		if err := h.before(c); err != nil {
			return err
		}
	}
	return nil
}

// guide combines the pair.
func (c *call) guide(ctx context.Context) (sampling.Denoised, error) {
	for _, h := range slices.Backward(c.hooks) {
		if h.combine == nil {
			continue
		}
		den, err := h.combine(ctx, c)
		if err != nil {
			return sampling.Denoised{}, err
		}
		return c.after(ctx, den)
	}
	return c.after(ctx, lerp(c.uncond, c.cond, float32(c.cfg)))
}

func (c *call) after(ctx context.Context, den *tensor.Tensor) (sampling.Denoised, error) {
	for _, h := range c.hooks {
		if h.after != nil {
			den = h.after(c, den)
		}
		if h.evaluate != nil {
			var err error
			if den, err = h.evaluate(ctx, c, den); err != nil {
				return sampling.Denoised{}, err
			}
		}
	}
	return sampling.Denoised{X: den, Uncond: c.uncond}, nil
}

// WithPatch returns the model with a patch added.
func (m *Model) WithPatch(p Patch) *Model {
	c := *m
	c.patches = append(slices.Clip(slices.Clone(m.patches)), p)
	return &c
}

// WithSchedule returns the model with another noise schedule, which also says
// what the network's output means.
func (m *Model) WithSchedule(s *sampling.Model) *Model {
	c := *m
	c.schedule = s
	return &c
}

// patchNames identifies what WithPatch and its like did to the model.
func (m *Model) patchNames() string {
	out := m.schedule.String() + m.format.name
	for _, p := range m.patches {
		out += "; " + p.name
	}
	for _, p := range m.graphPatches {
		out += "; " + p.String()
	}
	return out
}
