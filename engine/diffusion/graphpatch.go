package diffusion

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// graphPatch changes the network's graph between two noise levels.
type graphPatch struct {
	arch.Patch
	// high and low are the levels between which it applies.
	high, low float64
}

// FreeU are the settings of Model.WithFreeU.
type FreeU = arch.FreeU

// FreeUScale are factors of FreeU.
type FreeUScale = arch.FreeUScale

// WithFreeU returns the model with FreeU.
func (m *Model) WithFreeU(f FreeU) *Model { return m.withGraphPatch(always(f)) }

// Downscale are the settings of Model.WithDownscale.
type Downscale struct {
	// Block counts the input blocks, the first convolution being 0; behind it
	// the picture is divided by Factor.
	Block  int
	Factor float64
	// AfterSkip leaves the skip of the block as it is.
	AfterSkip bool
	// Down and Up are methods of resizing: tensor.Bicubic and its like.
	Down, Up string
	// Start and End bound the part of a run, in fractions of its progress.
	Start, End float64
}

// WithDownscale returns the model with smaller pictures behind one of its
// blocks: see arch.Downscale. Start and End count on the noise schedule that the
// model has now.
func (m *Model) WithDownscale(d Downscale) (*Model, error) {
	p := arch.Downscale{Block: d.Block, Factor: d.Factor, AfterSkip: d.AfterSkip, Down: nn.Resampling(d.Down), Up: nn.Resampling(d.Up)}
	for _, r := range []nn.Resampling{p.Down, p.Up} {
		if !r.Known() {
			return nil, fmt.Errorf("downscale inside a model: no method %q there: it knows %s, %s, %s and %s",
				r, nn.ByCubic, nn.ByNearest, nn.ByLinear, nn.ByArea)
		}
	}
	return m.withGraphPatch(graphPatch{p, m.schedule.PercentToSigma(d.Start), m.schedule.PercentToSigma(d.End)}), nil
}

// always is a patch for all noise levels.
func always(p arch.Patch) graphPatch { return graphPatch{p, math.Inf(1), 0} }

// withGraphPatch returns the model with a change of its network behind those
// that it has. The graph that comes of it runs over the same weights.
func (m *Model) withGraphPatch(p graphPatch) *Model {
	c := *m
	c.graphPatches = append(slices.Clip(m.graphPatches), p)
	return &c
}

func (p graphPatch) String() string {
	return fmt.Sprint(p.Variant(), p.Numbers(), p.high, p.low)
}

// at returns the model with the network that it has at a noise level.
func (m *Model) at(sigma float32) (*Model, error) {
	var active []arch.Patch
	for _, p := range m.graphPatches {
		if float64(sigma) <= p.high && float64(sigma) >= p.low {
			active = append(active, p.Patch)
		}
	}
	if len(active) == 0 {
		return m, nil
	}
	c := *m
	var err error
	c.unet, err = m.variants.trace(m, active, false)
	c.steered = func() (*component, error) { return m.variants.trace(m, active, true) }
	return &c, err
}

// variants are graphs of one network with patches, by what makes them
// different.
type variants struct {
	mu   sync.Mutex
	made map[string]*component
}

// trace returns the model's network with patches, and with inputs for residuals
// where it is to be steered.
func (v *variants) trace(m *Model, patches []arch.Patch, steered bool) (*component, error) {
	u := m.arch
	u.Patches, u.Steered = patches, steered
	key := ""
	if steered {
		key = "+steered"
	}
	numbers := map[string]*tensor.Tensor{}
	for i, p := range patches {
		key += "+" + p.Variant()
		for name, value := range p.Numbers() {
			numbers[arch.PatchInput(i, name)] = tensor.Full(value, 1)
		}
	}
	c, err := v.get(key, func() (*component, error) {
		return m.unet.as(key, tracerOf("UNet", u.Build))
	})
	if err != nil {
		return nil, err
	}
	n := *c
	maps.Copy(numbers, c.inputs)
	n.inputs = numbers
	return &n, nil
}

func (v *variants) get(key string, make func() (*component, error)) (*component, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c := v.made[key]; c != nil {
		return c, nil
	}
	c, err := make()
	if err == nil {
		v.made[key] = c
	}
	return c, err
}

// PerturbedAttention leads away from what the network predicts for the positive
// conditioning when tokens of its middle block attend only to themselves:
// den + (cond - perturbed)·scale.
// Source: Ahn et al., Self-Rectifying Diffusion Sampling with
// Perturbed-Attention Guidance, 2024.
func PerturbedAttention(scale float64) Patch {
	return Patch{name: fmt.Sprintf("perturbed attention %g", scale), start: func(g *guidance) (hooks, error) {
		if scale == 0 {
			return hooks{}, nil
		}
		perturbed := g.model.withGraphPatch(always(arch.IdentityAttention{}))
		return hooks{evaluate: func(ctx context.Context, c *call, den *tensor.Tensor) (*tensor.Tensor, error) {
			g := *c.guidance
			g.model = perturbed
			preds, err := g.evaluate(ctx, c.lists[c.positive:c.positive+1], c.x, c.sigma)
			if err != nil {
				return nil, err
			}
			out := tensor.New(den.Shape...)
			for i, v := range den.Data {
				out.Data[i] = v + float32((c.cond.Data[i]-preds[0].Data[i])*float32(scale))
			}
			return out, nil
		}}, nil
	}}
}
