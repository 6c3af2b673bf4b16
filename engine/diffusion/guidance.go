package diffusion

import (
	"context"
	"maps"
	"math"

	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// guidance evaluates the network for both conditionings and combines the
// predictions: classifier-free guidance.
// Source: Ho and Salimans, Classifier-Free Diffusion Guidance, 2022.
type guidance struct {
	model              *Model
	positive, negative []region
	cfg                float32
	// wantUncond has the negative side evaluated even where cfg is 1.
	wantUncond bool
}

// prepare resolves both conditionings for latents of the given shape.
func (g *guidance) prepare(j Job, shape tensor.Shape) error {
	var err error
	if g.positive, err = regions(j.Positive, g.model.schedule, shape); err != nil {
		return err
	}
	if g.negative, err = regions(j.Negative, g.model.schedule, shape); err != nil {
		return err
	}
	for _, r := range g.positive {
		g.negative = withSameArea(g.negative, r)
	}
	for _, r := range g.negative {
		g.positive = withSameArea(g.positive, r)
	}
	return nil
}

// denoise is a sampling.Denoiser.
func (g *guidance) denoise(ctx context.Context, x *tensor.Tensor, sigma float32) (sampling.Denoised, error) {
	needUncond := g.wantUncond || math.Abs(float64(g.cfg)-1) > 1e-9
	lists := [][]region{g.positive}
	if needUncond {
		lists = append(lists, g.negative)
	}
	sums, err := g.evaluate(ctx, lists, x, sigma)
	if err != nil {
		return sampling.Denoised{}, err
	}
	cond := sums[0]
	if !needUncond {
		return sampling.Denoised{X: cond}, nil
	}
	uncond := sums[1]
	out := tensor.New(x.Shape...)
	for i, u := range uncond.Data {
		out.Data[i] = u + (cond.Data[i]-u)*g.cfg
	}
	return sampling.Denoised{X: out, Uncond: uncond}, nil
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
			if r.applies(sigma) {
				work = append(work, piece{region: r, list: l})
			}
		}
	}
	for _, batch := range batches(work, x.Shape[0]) {
		if err := g.evaluateBatch(ctx, batch, x, sigma); err != nil {
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
	out, err := g.model.predict(ctx, in, inputs, sigma)
	if err != nil {
		return err
	}
	for i, p := range batch {
		p.prediction = out.Rows(i*x.Dim(0), (i+1)*x.Dim(0))
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

// maxBatchPixels bounds the latent pixels of one evaluation: two pictures of
// 512x512. Larger batches are no faster on a CPU and only take memory.
const maxBatchPixels = 2 * 64 * 64

// batches groups pieces that can be evaluated together: equal size of area and
// texts whose lengths a small common multiple fits.
func batches(work []piece, images int) [][]*piece {
	var groups [][]*piece
next:
	for i := range work {
		p := &work[i]
		for g, group := range groups {
			if p.region.joins(group, images) {
				groups[g] = append(group, p)
				continue next
			}
		}
		groups = append(groups, []*piece{p})
	}
	return groups
}

func (r region) joins(group []*piece, images int) bool {
	first := group[0].region
	if r.area.height != first.area.height || r.area.width != first.area.width {
		return false
	}
	if (len(group)+1)*images*r.area.height*r.area.width > maxBatchPixels {
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
