package diffusion

import (
	"context"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// residualSum is the arithmetic on residuals that lie on the device: for each
// name own·strength + before, as Control.add computes it on the host.
type residualSum struct {
	names []string
	means bool
}

// The inputs of its graph are named after the residuals.
const (
	ownPrefix    = "own."
	beforePrefix = "before."
)

func (r residualSum) build(p nn.Scope) {
	strength := p.Input("strength", 1)
	for _, name := range r.names {
		of := func(prefix string) *nn.Value {
			return p.Input(prefix+name, prefix+name+".batch", prefix+name+".channel", prefix+name+".height", prefix+name+".width")
		}
		own := of(ownPrefix)
		if r.means {
			own = nn.PlaneMean(own) // broadcast where it is added
		}
		p.Output(name, own.Mul(strength).Add(of(beforePrefix)))
	}
}

// weightless is what a graph without weights finds.
type weightless struct{}

func (weightless) Lookup(string) (nn.Source, bool) { return nn.Source{}, false }
func (weightless) Names() []string                 { return nil }

// sum returns the network that does the arithmetic. Strength is an input of it,
// and so is each size: there is one for all controls with these residuals.
func (g *guidance) sum(r residualSum) (*component, error) {
	variant := ":" + strings.Join(r.names, ",")
	if r.means {
		variant = ":means" + variant
	}
	if c := g.sums[variant]; c != nil {
		return c, nil
	}
	t := g.model.unet.target
	t.Precision = nn.Float32
	c, err := newComponent(component{name: "residuals", variant: variant, target: t, weights: weightless{}, trace: tracerOf("residuals", r.build)})
	if err != nil {
		return nil, err
	}
	if g.sums == nil {
		g.sums = map[string]*component{}
	}
	g.sums[variant] = c
	return c, nil
}

// addKept is Control.add for the residuals of which one side or both are on the
// device: it moves them from own to sum.
func (g *guidance) addKept(ctx context.Context, c *Control, own, sum feed) error {
	r := residualSum{means: c.Net.means}
	for _, name := range own.names() {
		switch k := own.kept[name]; {
		case k == nil && sum.kept[name] == nil:
		case c.Strength == 1 && !r.means && sum.shape(name) == nil:
			sum.kept[name] = k
			delete(own.kept, name)
		default:
			r.names = append(r.names, name)
		}
	}
	if len(r.names) == 0 {
		return nil
	}
	net, err := g.sum(r)
	if err != nil {
		return err
	}
	in := feed{tensors: residuals{"strength": tensor.Full(float32(c.Strength), 1)}, kept: map[string]*kept{}}
	for _, name := range r.names {
		in.put(ownPrefix+name, own, name)
		if !in.put(beforePrefix+name, sum, name) {
			in.tensors[beforePrefix+name] = tensor.New(1, 1, 1, 1)
		}
	}
	out, err := g.model.runtime.pool.hold(ctx, net, in)
	if err != nil {
		return err
	}
	for name, k := range out {
		k.shape = own.shape(name)
		k.network, k.output = source(own.kept[name], sum.kept[name]), name
		own.take(name).close()
		sum.take(name).close()
		sum.kept[name] = k
	}
	return nil
}

// source returns the network that gave the first of the values that there is.
func source(values ...*kept) *component {
	for _, k := range values {
		if k != nil {
			return k.network
		}
	}
	return nil
}
