package diffusion

import (
	"context"
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
	crops, texts := make([]*tensor.Tensor, len(batch)), make([]*tensor.Tensor, len(batch))
	tokens := commonTokens(batch)
	for i, p := range batch {
		crops[i] = p.region.area.crop(x)
		texts[i] = repeatText(p.region.text, x.Dim(0), tokens)
	}
	in, err := tensor.Stack(crops...)
	if err != nil {
		return err
	}
	text, err := tensor.Stack(texts...)
	if err != nil {
		return err
	}
	out, err := g.model.predict(ctx, in, text, sigma)
	if err != nil {
		return err
	}
	for i, p := range batch {
		p.prediction = out.Rows(i*x.Dim(0), (i+1)*x.Dim(0))
	}
	return nil
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
	have := commonTokens(group)
	return lcm(have, r.text.Dim(1)) <= 4*min(have, r.text.Dim(1))
}

// commonTokens returns the smallest number of tokens that all texts of a batch
// can be repeated to. Repeating keys and values leaves attention unchanged.
func commonTokens(batch []*piece) int {
	n := 1
	for _, p := range batch {
		n = lcm(n, p.region.text.Dim(1))
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

// repeatText returns text [1 or images, n, width] as [images, tokens, width].
func repeatText(text *tensor.Tensor, images, tokens int) *tensor.Tensor {
	n, width := text.Dim(1), text.Dim(2)
	out := tensor.New(images, tokens, width)
	for b := range images {
		row := text.Index(b % text.Dim(0)).Data
		for at := 0; at < tokens; at += n {
			copy(out.Data[(b*tokens+at)*width:], row)
		}
	}
	return out
}
