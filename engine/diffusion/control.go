package diffusion

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// ControlNet steers sampling by a picture: a ControlNet, or a T2I-Adapter.
type ControlNet struct {
	runtime *Runtime
	// hint looks at the picture, once for a run: it makes what net takes, or
	// without net the residuals themselves.
	hint, net *component
	union     *arch.ControlNet // nil unless it takes a task
	adapter   *arch.Adapter    // nil unless it is one
	// means says that only the means of the residuals over the picture count.
	means bool
}

// LoadControlNet reads a ControlNet or a T2I-Adapter. Weights that are
// differences from those of a model are refused.
func (r *Runtime) LoadControlNet(ctx context.Context, path string) (*ControlNet, error) {
	f, err := weights.Open(path)
	if err != nil {
		return nil, unpickled(path, err)
	}
	a, err := arch.DetectControlNet(tensorsOf(f))
	if err != nil {
		if adapter, other := arch.DetectAdapter(tensorsOf(f)); other == nil {
			return r.newAdapter(ctx, f, adapter)
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if a.Difference {
		return nil, fmt.Errorf("%s: its weights are differences from those of a model: load it with DiffControlNetLoader", path)
	}
	c := &ControlNet{runtime: r, means: takesMeans(path)}
	if a.Tasks > 0 {
		c.union = a
	}
	target, err := r.target(ctx, denoising)
	if err != nil {
		return nil, err
	}
	return c, c.build(f, a, target)
}

// takesMeans reports whether a ControlNet was trained with means of its
// residuals. Nothing but the name of the file tells.
// https://huggingface.co/lllyasviel/ControlNet-v1-1/blob/main/control_v11e_sd15_shuffle.yaml
func takesMeans(path string) bool {
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	return strings.HasSuffix(name, "_shuffle") || strings.HasSuffix(name, "_shuffle_fp16")
}

// build traces the graphs of a ControlNet.
func (c *ControlNet) build(f *weights.File, a *arch.ControlNet, target nn.Target) error {
	hint := component{name: "controlnet_hint", file: f, target: target, weights: a.Hint, trace: tracerOf("ControlNet hint", a.BuildHint)}
	net := component{name: "controlnet", file: f, target: target, weights: a.Net, trace: tracerOf("ControlNet", a.Build)}
	if a.Task >= 0 {
		hint.variant = fmt.Sprintf("task %d", a.Task)
		net.variant = hint.variant
	}
	var err error
	if c.hint, err = newComponent(hint); err == nil {
		c.net, err = newComponent(net)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	return nil
}

func (r *Runtime) newAdapter(ctx context.Context, f *weights.File, a *arch.Adapter) (*ControlNet, error) {
	target, err := r.target(ctx, denoising)
	if err != nil {
		return nil, err
	}
	hint, err := newComponent(component{name: "adapter", file: f, target: target, weights: a.Weights, trace: tracerOf("T2I-Adapter", a.Build)})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return &ControlNet{runtime: r, hint: hint, adapter: a, means: takesMeans(f.Path)}, nil
}

// WithTask returns a union of ControlNets set to one of its tasks, counted from
// 0; -1 leaves it open. Others have no tasks and are returned as they are.
func (c *ControlNet) WithTask(task int) (*ControlNet, error) {
	if c.union == nil {
		return c, nil
	}
	if task >= c.union.Tasks {
		return nil, fmt.Errorf("set ControlNet type: %s knows %d types, not number %d", c.File(), c.union.Tasks, task+1)
	}
	a := *c.union
	a.Task = task
	n := *c
	return &n, n.build(c.hint.file, &a, c.hint.target)
}

// Digest identifies the network by the content of its file, its task and the
// model that its weights were added to.
func (c *ControlNet) Digest() string {
	d := c.hint.digest(c.runtime.options.Digests)
	if c.net != nil {
		d = digest(d, c.net.digest(c.runtime.options.Digests))
	}
	return d
}

// File returns the path of the file that the network comes from.
func (c *ControlNet) File() string { return c.hint.file.Path }

// Control is a ControlNet with its picture, and another one before it.
type Control struct {
	Net  *ControlNet
	Hint Image
	// Strength multiplies the residuals.
	Strength float64
	// Start and End bound the part of the run, in fractions of its progress, in
	// which the control applies.
	Start, End float64
	// Previous is what the residuals are added to, nil for none.
	Previous *Control
}

// Digest identifies the control's content; "" for nil.
func (c *Control) Digest() string {
	if c == nil {
		return ""
	}
	return digest(c.Net.Digest(), c.Hint.Tensor, c.Strength, c.Start, c.End, c.Previous.Digest())
}

func (c *Control) applies(m *sampling.Model, sigma float32) bool {
	return (c.Start <= 0 || float64(sigma) <= m.PercentToSigma(c.Start)) && float64(sigma) >= m.PercentToSigma(c.End)
}

// shareControls gives entries without area that have no control those of the
// first list's entries that are meant for every side, in turn. A list that has
// a control of its own stays as it is.
func shareControls(from, to []region) {
	var free []int
	for i, r := range to {
		if r.hasArea {
			continue
		}
		if r.control != nil {
			return
		}
		free = append(free, i)
	}
	n := 0
	for _, r := range from {
		if r.control == nil || !r.controlBoth || r.hasArea || len(free) == 0 {
			continue
		}
		to[free[n%len(free)]].control = r.control
		n++
	}
}

// residuals are what controls add to the features of a UNet, by the name of
// the input that takes them.
type residuals map[string]*tensor.Tensor

// evaluation is what the network is about to be evaluated for.
type evaluation struct {
	x      *tensor.Tensor // state, not scaled
	inputs map[string]*tensor.Tensor
	kept   map[string]*kept // more inputs, that lie on the device
	sigma  float32
	images int // of the latent; the batch is a multiple
	// controlText is the context of controls, nil for that of inputs.
	controlText *tensor.Tensor
}

// controlTexts joins what the controls of pieces attend to, nil where that is
// what the network attends to.
func controlTexts(batch []*piece, images int) (*tensor.Tensor, error) {
	own, n := false, 1
	text := func(p *piece) *tensor.Tensor {
		if p.region.controlText != nil {
			return p.region.controlText
		}
		return p.region.inputs["context"]
	}
	for _, p := range batch {
		own, n = own || p.region.controlText != nil, lcm(n, text(p).Dim(1))
	}
	if !own || batch[0].region.control == nil {
		return nil, nil
	}
	return stacked(batch, func(p *piece) *tensor.Tensor { return repeatInput(text(p), images, n) })
}

// steer adds to the network's inputs what a control has to say. The caller
// closes what it kept.
func (g *guidance) steer(ctx context.Context, c *Control, e *evaluation) error {
	if c == nil {
		return nil
	}
	all, err := g.residuals(ctx, c, *e)
	if err != nil {
		return err
	}
	maps.Copy(e.inputs, all.tensors)
	e.kept = all.kept
	return nil
}

// residuals returns the sum of those of a chain of controls.
func (g *guidance) residuals(ctx context.Context, c *Control, e evaluation) (feed, error) {
	sum := feed{tensors: residuals{}, kept: map[string]*kept{}}
	if c.Previous != nil {
		var err error
		if sum, err = g.residuals(ctx, c.Previous, e); err != nil {
			return feed{}, err
		}
	}
	if !c.applies(g.model.schedule, e.sigma) {
		return sum, nil
	}
	own, err := g.ownResiduals(ctx, c, e)
	if err == nil {
		err = c.Net.fits(own, sum)
	}
	if err == nil {
		err = g.addKept(ctx, c, own, sum)
	}
	if err != nil {
		own.close()
		sum.close()
		return feed{}, err
	}
	c.add(own.tensors, sum.tensors)
	return sum, nil
}

// fits says whether residuals can be added to those of the control before.
func (c *ControlNet) fits(own, before feed) error {
	for _, name := range own.names() {
		have, want := own.shape(name), before.shape(name)
		if want != nil && !want.Equal(have) {
			return fmt.Errorf("add %s of %s: %v to %v of the control before it: they are for different models", name, c.File(), have, want)
		}
	}
	return nil
}

// add adds a control's residuals to a sum.
func (c *Control) add(own, sum residuals) {
	for name, t := range own {
		if c.Net.means {
			t = flattened(t)
		}
		out := tensor.New(t.Shape...)
		for i, v := range t.Data {
			out.Data[i] = v * float32(c.Strength)
		}
		if before := sum[name]; before != nil {
			for i, v := range before.Data {
				out.Data[i] += v
			}
		}
		sum[name] = out
	}
}

// flattened replaces every plane of [batch, channel, height, width] by its mean.
func flattened(t *tensor.Tensor) *tensor.Tensor {
	out := tensor.New(t.Shape...)
	n := t.Dim(2) * t.Dim(3)
	for i := 0; i < len(t.Data); i += n {
		var sum float64
		for _, v := range t.Data[i : i+n] {
			sum += float64(v)
		}
		for k := range n {
			out.Data[i+k] = float32(sum / float64(n))
		}
	}
	return out
}

// ownResiduals returns the residuals of one control.
func (g *guidance) ownResiduals(ctx context.Context, c *Control, e evaluation) (feed, error) {
	features, err := g.lookAt(ctx, c, e)
	if err != nil {
		return feed{}, err
	}
	batch := e.x.Dim(0)
	for name, t := range features {
		features[name] = t.Repeat(e.images).Repeat(batch)
	}
	net := c.Net
	if net.net == nil {
		return feed{tensors: features}, nil
	}
	in := map[string]*tensor.Tensor{"x": g.model.scaledInput(e.x, e.sigma), "timesteps": tensor.Full(g.model.schedule.Timestep(e.sigma), batch), "hint": features["hint"]}
	for _, name := range []string{"context", "y"} {
		want := inputWidth(net.net.graph, name)
		if want == 0 {
			continue
		}
		in[name] = e.inputs[name]
		if name == "context" && e.controlText != nil {
			in[name] = e.controlText
		}
		if in[name] == nil || in[name].Dim(-1) != want {
			return feed{}, fmt.Errorf("%s does not fit %s: it was trained for another family of models", net.File(), g.model.File())
		}
	}
	var out feed
	if pool := net.runtime.pool; net.runtime.placed().isCPU() {
		out.tensors, err = pool.run(ctx, net.net, in)
	} else {
		out.kept, err = pool.hold(ctx, net.net, feed{tensors: in})
	}
	return out, err
}

// network returns the component that takes the inputs: the UNet, or where
// there are residuals the steered one, for which the inputs that are missing
// are set to 0.
func (m *Model) network(in feed) (*component, error) {
	given := slices.DeleteFunc(in.names(), func(name string) bool { return !arch.IsResidual(name) })
	if len(given) == 0 {
		return m.unet, nil
	}
	c, err := m.steered()
	if err != nil {
		return nil, err
	}
	var takes []string
	for _, input := range c.graph.ONNX.Inputs {
		takes = append(takes, input.Name)
		if arch.IsResidual(input.Name) && in.shape(input.Name) == nil {
			in.tensors[input.Name] = tensor.New(1, 1, 1, 1)
		}
	}
	for _, name := range given {
		if !slices.Contains(takes, name) {
			return nil, fmt.Errorf("the control's residual %s has no place in %s: it was trained for another family of models", name, m.File())
		}
	}
	return c, nil
}
