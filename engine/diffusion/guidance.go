package diffusion

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// guidance is a guider in a run: its conditionings resolved for the latents,
// the hooks of the model's patches.
type guidance struct {
	run   *run
	model *Model
	rule  rule
	lists [][]region
	need  []bool
	hooks []hooks
	// apart says that memory has not sufficed for several pieces at once.
	apart bool
	// features are what controls made of their pictures, sums the networks that
	// add up what they leave on the device, by key.
	features map[featureKey]residuals
	sums     map[string]*component
	// received is the attention that tokens got on the second list's side, where
	// the model records it: see arch.RecordAttention.
	received *tensor.Tensor
}

func newGuidance(r *run) (*guidance, error) {
	g := &guidance{run: r, model: r.model, rule: r.Guider.rule}
	var err error
	if g.lists, err = g.resolve(r.Guider.conds); err != nil {
		return nil, err
	}
	all := sampling.NeedsUncond(r.Sampler.Name)
	for _, p := range r.model.patches {
		all = all || p.all
		h, err := p.start(g)
		if err != nil {
			return nil, err
		}
		g.hooks = append(g.hooks, h)
	}
	g.need = g.rule.needs(all)
	return g, nil
}

// resolve prepares conditionings for the run's latents. Where one has an area
// the others get it too, so that guidance finds every side everywhere.
func (g *guidance) resolve(conds []Conditioning) ([][]region, error) {
	lists := make([][]region, len(conds))
	for i, c := range conds {
		var err error
		// The negative conditioning is the last one of every guider.
		if lists[i], err = g.run.regions(c, i > 0 && i == len(conds)-1); err != nil {
			return nil, err
		}
	}
	for i, list := range lists {
		for k := range lists {
			for _, r := range list {
				if i != k {
					lists[k] = withSameArea(lists[k], r)
				}
			}
		}
	}
	for _, list := range lists[1:] {
		shareControls(lists[0], list)
	}
	return lists, nil
}

// denoise is a sampling.Denoiser.
func (g *guidance) denoise(ctx context.Context, x *tensor.Tensor, sigma float32) (sampling.Denoised, error) {
	lists := make([][]region, len(g.lists))
	for i, need := range g.need {
		if need {
			lists[i] = g.lists[i]
		}
	}
	preds, err := g.evaluate(ctx, lists, x, sigma)
	if isOverflow(err) {
		err = fmt.Errorf("step %d of %d, at noise level %g: %w", g.run.stepAt(sigma), len(g.run.Sigmas)-1, sigma, err)
	}
	if err != nil {
		return sampling.Denoised{}, err
	}
	both := !slices.Contains(g.need, false)
	return g.rule.combine(ctx, &call{guidance: g, x: x, sigma: sigma, both: both}, preds)
}

// maskAt is the last patch's change to noise masks, nil without one.
func (g *guidance) maskAt() func([]float32, float32) []float32 {
	for _, h := range slices.Backward(g.hooks) {
		if h.mask != nil {
			return h.mask
		}
	}
	return nil
}

// evaluate returns, for each list, the average of its entries' predictions,
// weighted by strength, mask and feathered edges. Where no entry applies the
// prediction is 0.
func (g *guidance) evaluate(ctx context.Context, lists [][]region, x *tensor.Tensor, sigma float32) ([]*tensor.Tensor, error) {
	sums, counts := make([]*tensor.Tensor, len(lists)), make([]*tensor.Tensor, len(lists))
	var work []piece
	for l, list := range lists {
		sums[l], counts[l] = tensor.New(x.Shape...), tensor.Full(1e-37, x.Shape...)
		for _, r := range list {
			if r.applies(sigma) && !r.fallback {
				work = append(work, piece{region: r, list: l})
			}
		}
		for _, r := range fallbacks(list, x, sigma) {
			work = append(work, piece{region: r, list: l})
		}
	}
	for _, batch := range batches(work, crowd{x.Shape[0], g.model.runtime.placed().batchPixels()}) {
		if err := g.evaluateAll(ctx, batch, x, sigma); err != nil {
			return nil, err
		}
		for _, p := range batch {
			p.region.accumulate(sums[p.list], counts[p.list], p.prediction)
		}
	}
	for l := range sums {
		for i, n := range counts[l].Data {
			sums[l].Data[i] /= n
		}
	}
	return sums, nil
}

// piece is one region's part of a network evaluation.
type piece struct {
	region     region
	list       int
	prediction *tensor.Tensor
}

// evaluateAll runs the network for pieces of equal size at once, or one by one
// where memory does not suffice for that.
func (g *guidance) evaluateAll(ctx context.Context, batch []*piece, x *tensor.Tensor, sigma float32) error {
	if len(batch) == 1 || !g.apart {
		err := g.evaluateBatch(ctx, batch, x, sigma)
		if !isMemory(err) || len(batch) == 1 {
			return err
		}
		g.apart = true
	}
	for _, p := range batch {
		if err := g.evaluateBatch(ctx, []*piece{p}, x, sigma); err != nil {
			return err
		}
	}
	return nil
}

// evaluateBatch runs the network once for pieces of equal size.
func (g *guidance) evaluateBatch(ctx context.Context, batch []*piece, x *tensor.Tensor, sigma float32) error {
	in, err := stacked(batch, func(p *piece) *tensor.Tensor { return p.region.area.crop(x) })
	if err != nil {
		return err
	}
	tokens := commonTokens(batch)
	inputs := map[string]*tensor.Tensor{}
	for name := range batch[0].region.inputs {
		inputs[name], err = stacked(batch, func(p *piece) *tensor.Tensor {
			return repeatInput(p.region.inputs[name], x.Dim(0), tokens)
		})
		if err != nil {
			return err
		}
	}
	if batch[0].region.channels != nil {
		inputs[inputChannels], err = stacked(batch, func(p *piece) *tensor.Tensor { return p.region.area.crop(p.region.channels) })
		if err != nil {
			return err
		}
	}
	e := evaluation{x: in, inputs: inputs, sigma: sigma, images: x.Dim(0)}
	if e.controlText, err = controlTexts(batch, x.Dim(0)); err != nil {
		return err
	}
	if err := g.steer(ctx, batch[0].region.control, &e); err != nil {
		return err
	}
	defer feed{kept: e.kept}.close()
	out, err := g.model.outputs(ctx, e)
	if err != nil {
		return err
	}
	for i, p := range batch {
		lo, hi := i*x.Dim(0), (i+1)*x.Dim(0)
		p.prediction = out["out"].Rows(lo, hi)
		if a := out[arch.AttentionOutput]; a != nil && p.list == 1 {
			g.received = a.Rows(lo, hi)
		}
	}
	return nil
}

// stacked joins what f gives for each piece.
func stacked(batch []*piece, f func(*piece) *tensor.Tensor) (*tensor.Tensor, error) {
	parts := make([]*tensor.Tensor, len(batch))
	for i, p := range batch {
		parts[i] = f(p)
	}
	return tensor.Stack(parts...)
}

// The latent pixels of one evaluation. On a CPU batches of more than two
// pictures of 512x512 are no faster and only take memory; a GPU has more to do
// at once.
const (
	maxBatchPixels    = 2 * 64 * 64
	maxGPUBatchPixels = 4 * 128 * 128
)

func (p *Place) batchPixels() int {
	if p.isCPU() {
		return maxBatchPixels
	}
	return maxGPUBatchPixels
}

// crowd is the number of images of each piece, and the most pixels of a batch.
type crowd struct{ images, pixels int }

// batches groups pieces that can be evaluated together: equal size of area,
// the same control, and texts whose lengths a small common multiple fits.
func batches(work []piece, c crowd) [][]*piece {
	var groups [][]*piece
next:
	for i := range work {
		p := &work[i]
		for g, group := range groups {
			if p.region.joins(group, c) {
				groups[g] = append(group, p)
				continue next
			}
		}
		groups = append(groups, []*piece{p})
	}
	return groups
}

func (r region) joins(group []*piece, c crowd) bool {
	first := group[0].region
	if r.area.height != first.area.height || r.area.width != first.area.width || r.control != first.control {
		return false
	}
	if (len(group)+1)*c.images*r.area.height*r.area.width > c.pixels {
		return false
	}
	if !maps.EqualFunc(r.inputs, first.inputs, func(a, b *tensor.Tensor) bool { return a.Dim(-1) == b.Dim(-1) }) {
		return false
	}
	have, own := commonTokens(group), r.tokens()
	return lcm(have, own) <= 4*min(have, own)
}

// commonTokens returns the smallest number of tokens that all texts of a batch
// can be repeated to. Repeating keys and values leaves attention unchanged.
func commonTokens(batch []*piece) int {
	n := 1
	for _, p := range batch {
		n = lcm(n, p.region.tokens())
	}
	return n
}

func lcm(a, b int) int {
	g, r := a, b
	for r != 0 {
		g, r = r, g%r
	}
	return a / g * b
}

// repeatInput returns an input of the network for a number of images: vectors
// [1 or images, width] as [images, width], texts [1 or images, n, width] as
// [images, tokens, width].
func repeatInput(in *tensor.Tensor, images, tokens int) *tensor.Tensor {
	width := in.Dim(-1)
	shape := []int{images, width}
	if len(in.Shape) == 3 {
		shape = []int{images, tokens, width}
	}
	out := tensor.New(shape...)
	for b := range images {
		row, item := in.Index(b%in.Dim(0)).Data, out.Index(b).Data
		for at := 0; at < len(item); at += len(row) {
			copy(item[at:], row)
		}
	}
	return out
}
