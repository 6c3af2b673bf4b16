package nodes

import (
	"context"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

const perpNegModule = "comfy_extras.nodes_perpneg"

// addGuiders declares the nodes that say how conditionings steer a run.
func addGuiders(c *engine.Catalog) {
	const category = "sampling/custom_sampling/guiders"
	engine.Add(c, "BasicGuider", category, basicGuider{}, guideBasic).Module(customModule).
		Doc("Follows one prompt as it is.")
	engine.Add(c, "CFGGuider", category, cfgGuider{CFG: 8}, guideCFG).Module(customModule).
		Doc("Leads away from the negative prompt, through the positive one.")
	engine.Add(c, "DualCFGGuider", category, dualGuider{CFG: 8, MiddleCFG: 8}, guideDual).Module(customModule).
		Doc("Leads from the negative prompt to a second one, and from there to the first.")
	engine.Add(c, "PerpNegGuider", "_for_testing", perpNegGuider{CFG: 8, Scale: 1}, guidePerpNeg).V3().Module(perpNegModule).Experimental().
		Doc("Takes from the negative prompt only what the positive one does not say.")
}

type basicGuider struct {
	Model        *diffusion.Model       `in:"model"`
	Conditioning diffusion.Conditioning `in:"conditioning"`
}

func guideBasic(_ context.Context, in basicGuider) (diffusion.Guider, error) {
	return diffusion.BasicGuider(in.Model, in.Conditioning), nil
}

type cfgGuider struct {
	Model    *diffusion.Model       `in:"model"`
	Positive diffusion.Conditioning `in:"positive"`
	Negative diffusion.Conditioning `in:"negative"`
	CFG      float64                `in:"cfg" range:"0,100,0.1,0.01"`
}

func guideCFG(_ context.Context, in cfgGuider) (diffusion.Guider, error) {
	return diffusion.CFGGuider(in.Model, in.Positive, in.Negative, in.CFG), nil
}

type dualGuider struct {
	Model     *diffusion.Model       `in:"model"`
	First     diffusion.Conditioning `in:"cond1"`
	Second    diffusion.Conditioning `in:"cond2"`
	Negative  diffusion.Conditioning `in:"negative"`
	CFG       float64                `in:"cfg_conds" range:"0,100,0.1,0.01"`
	MiddleCFG float64                `in:"cfg_cond2_negative" range:"0,100,0.1,0.01"`
	Style     guiderStyle            `in:"style"`
}

func guideDual(_ context.Context, in dualGuider) (diffusion.Guider, error) {
	return diffusion.DualGuider(in.Model, diffusion.Dual{
		Positive: in.First, Middle: in.Second, Negative: in.Negative,
		CFG: in.CFG, MiddleCFG: in.MiddleCFG, Nested: in.Style == "nested",
	}), nil
}

type perpNegGuider struct {
	Model    *diffusion.Model       `in:"model"`
	Positive diffusion.Conditioning `in:"positive"`
	Negative diffusion.Conditioning `in:"negative"`
	Empty    diffusion.Conditioning `in:"empty_conditioning"`
	CFG      float64                `in:"cfg" range:"0,100,0.1,0.01"`
	Scale    float64                `in:"neg_scale" range:"0,100,0.01"`
}

func guidePerpNeg(_ context.Context, in perpNegGuider) (diffusion.Guider, error) {
	return diffusion.PerpNegGuider(in.Model, diffusion.PerpNeg{
		Positive: in.Positive, Negative: in.Negative, Empty: in.Empty, CFG: in.CFG, NegativeScale: in.Scale,
	}), nil
}
