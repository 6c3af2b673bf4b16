package diffusion

import (
	"context"
	"math"

	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Guider steers a run: a model, conditionings, and the rule that makes one
// prediction of those for each conditioning. The zero value is not usable.
type Guider struct {
	model *Model
	conds []Conditioning
	rule  rule
}

// Model returns the model that the guider asks.
func (g Guider) Model() *Model { return g.model }

// rule combines predictions.
type rule interface {
	// needs says which of the conditionings are evaluated; the others predict 0.
	// all forbids leaving out any.
	needs(all bool) []bool
	// combine makes one prediction of those for each conditioning.
	combine(ctx context.Context, c *call, preds []*tensor.Tensor) (sampling.Denoised, error)
}

// BasicGuider follows one conditioning as it is.
func BasicGuider(m *Model, positive Conditioning) Guider {
	return Guider{model: m, conds: []Conditioning{positive, nil}, rule: cfgRule{1}}
}

// CFGGuider goes from the negative prediction through the positive one,
// den = neg + (pos-neg)·cfg: classifier-free guidance. At cfg 1 the negative
// conditioning is not evaluated.
// Source: Ho and Salimans, Classifier-Free Diffusion Guidance, 2022.
func CFGGuider(m *Model, positive, negative Conditioning, cfg float64) Guider {
	return Guider{model: m, conds: []Conditioning{positive, negative}, rule: cfgRule{cfg}}
}

// isOne reports whether a guidance scale leaves the negative side out.
func isOne(v float64) bool { return math.Abs(v-1) <= 1e-9*max(math.Abs(v), 1) }

type cfgRule struct{ cfg float64 }

func (r cfgRule) needs(all bool) []bool { return []bool{true, all || !isOne(r.cfg)} }

func (r cfgRule) combine(ctx context.Context, c *call, preds []*tensor.Tensor) (sampling.Denoised, error) {
	c.pair = pair{preds[0], preds[1], r.cfg}
	if err := c.before(); err != nil {
		return sampling.Denoised{}, err
	}
	return c.guide(ctx)
}

// Dual are the conditionings and scales of DualGuider.
type Dual struct {
	Positive, Middle, Negative Conditioning
	// CFG leads from Middle to Positive, MiddleCFG from Negative to Middle.
	CFG, MiddleCFG float64
	// Nested guides from Negative to the result of the first guidance instead
	// of adding the two.
	Nested bool
}

// DualGuider follows two conditionings: (neg + (mid-neg)·cfg2) + (pos-mid)·cfg1,
// or nested neg + ((mid + (pos-mid)·cfg1) - neg)·cfg2.
// Source: Brooks et al., InstructPix2Pix, 2023, equation 3.
func DualGuider(m *Model, d Dual) Guider {
	return Guider{model: m, conds: []Conditioning{d.Positive, d.Middle, d.Negative}, rule: dualRule{d.CFG, d.MiddleCFG, d.Nested}}
}

type dualRule struct {
	cfg, middleCFG float64
	nested         bool
}

func (r dualRule) needs(all bool) []bool {
	negative := all || r.nested || !isOne(r.middleCFG)
	return []bool{true, negative || !isOne(r.cfg), negative}
}

func (r dualRule) combine(ctx context.Context, c *call, preds []*tensor.Tensor) (sampling.Denoised, error) {
	positive, middle, negative := preds[0], preds[1], preds[2]
	c.pair, c.positive = pair{middle, negative, r.middleCFG}, 1
	if r.nested {
		c.pair, c.positive = pair{positive, middle, r.cfg}, 0
	}
	out, err := c.guide(ctx)
	if err != nil {
		return out, err
	}
	if r.nested {
		out.X = lerp(negative, out.X, float32(r.middleCFG))
		return out, nil
	}
	sum, scale := tensor.New(out.X.Shape...), float32(r.cfg)
	for i, v := range out.X.Data {
		sum.Data[i] = v + float32((positive.Data[i]-middle.Data[i])*scale)
	}
	out.X = sum
	return out, nil
}

// PerpNeg are the conditionings and scales of PerpNegGuider.
type PerpNeg struct {
	Positive, Negative, Empty Conditioning
	CFG, NegativeScale        float64
}

// PerpNegGuider takes from the negative prediction only what is perpendicular
// to the positive one, both seen from the prediction without a prompt.
// Source: Armandpour et al., Re-imagine the Negative Prompt Algorithm, 2023.
func PerpNegGuider(m *Model, p PerpNeg) Guider {
	return Guider{model: m, conds: []Conditioning{p.Positive, p.Empty, p.Negative}, rule: perpRule{p.CFG, p.NegativeScale}}
}

type perpRule struct{ cfg, negativeScale float64 }

func (r perpRule) needs(all bool) []bool {
	negative := all || r.negativeScale != 0
	return []bool{true, negative || !isOne(r.cfg), negative}
}

func (r perpRule) combine(ctx context.Context, c *call, preds []*tensor.Tensor) (sampling.Denoised, error) {
	c.pair = pair{preds[0], preds[2], r.cfg}
	if err := c.before(); err != nil {
		return sampling.Denoised{}, err
	}
	return c.after(ctx, perpNeg(c.pair, preds[1], r.negativeScale))
}

// perpNeg returns e + cfg·(P - scale·Q⊥), where P and Q are the pair's
// predictions less the empty one e, and Q⊥ is the part of Q perpendicular to P
// over the whole batch.
func perpNeg(p pair, empty *tensor.Tensor, scale float64) *tensor.Tensor {
	var dot, square float64
	for i, e := range empty.Data {
		pos, neg := float64(p.cond.Data[i]-e), float64(p.uncond.Data[i]-e)
		dot, square = dot+neg*pos, square+pos*pos
	}
	along := float32(dot / square)
	out := tensor.New(empty.Shape...)
	for i, e := range empty.Data {
		pos, neg := p.cond.Data[i]-e, p.uncond.Data[i]-e
		perp := neg - float32(along*pos)
		out.Data[i] = e + float32(float32(p.cfg)*(pos-float32(perp*float32(scale))))
	}
	return out
}

// lerp returns a + (b-a)·w.
func lerp(a, b *tensor.Tensor, w float32) *tensor.Tensor {
	out := tensor.New(a.Shape...)
	for i, v := range a.Data {
		out.Data[i] = v + float32((b.Data[i]-v)*w)
	}
	return out
}
