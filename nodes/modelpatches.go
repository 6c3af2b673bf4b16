package nodes

import (
	"context"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

const cfgModule = "comfy_extras.nodes_cfg"

// addModelPatches declares the nodes that change how a model's predictions are
// combined.
func addModelPatches(c *engine.Catalog) {
	const category = "advanced/guidance"
	engine.Add(c, "RescaleCFG", "advanced/model", rescaleCFG{Multiplier: 0.7}, patchRescale).Module(modelModule).
		Doc("Keeps strong guidance from overexposing the picture.")
	engine.Add(c, "RenormCFG", "advanced/model", renormCFG{Begin: 100, Limit: 1}, patchRenorm).V3().Module("comfy_extras.nodes_lumina2").
		Doc("Limits the length of the guided prediction.")
	engine.Add(c, "CFGNorm", category, cfgNorm{Strength: 1}, patchNorm).V3().Module(cfgModule).Experimental().
		OutputNames("patched_model").Doc("Keeps guidance from making the prediction longer at any pixel.")
	engine.Add(c, "CFGZeroStar", category, onlyModel{}, patchWith(diffusion.CFGZeroStar)).V3().Module(cfgModule).
		OutputNames("patched_model").Doc("Scales the unconditional prediction to fit the conditional one.")
	engine.Add(c, "TCFG", category, onlyModel{}, patchWith(diffusion.TCFG)).V3().Module("comfy_extras.nodes_tcfg").
		Title("Tangential Damping CFG").OutputNames("patched_model").
		Doc("Takes from the unconditional prediction what is at odds with the conditional one.")
	engine.Add(c, "LatentApplyOperationCFG", "latent/advanced/operations", operationCFG{}, patchOperation).V3().Module(latentModule).Experimental().
		Doc("Applies an operation to the difference between the prompts before guidance.")
	engine.Add(c, "APG", "sampling/custom_sampling", adaptiveProjection{Eta: 1, Threshold: 5}, patchProjection).V3().Module("comfy_extras.nodes_apg").
		Title("Adaptive Projected Guidance").Doc("Divides guidance into a part along the positive prompt's prediction, which oversaturates, and the rest, and weighs them.")
	addFramePatches(c)
	addTestPatches(c)
}

// addFramePatches declares the patches that treat the images of a batch as
// frames.
func addFramePatches(c *engine.Catalog) {
	const category, module = "sampling/video_models", "comfy_extras.nodes_video_model"
	engine.Add(c, "VideoLinearCFGGuidance", category, frameCFG{Least: 1}, patchFrames(false)).Module(module).
		Doc("Guides the last image fully, the ones before it less and less.")
	engine.Add(c, "VideoTriangleCFGGuidance", category, frameCFG{Least: 1}, patchFrames(true)).Module(module).
		Doc("Guides the middle image fully, the ones around it less and less.")
}

// addTestPatches declares the patches that ComfyUI offers for testing.
func addTestPatches(c *engine.Catalog) {
	const category = "_for_testing"
	engine.Add(c, "Mahiro", category, onlyModel{}, patchWith(diffusion.Mahiro)).V3().Module("comfy_extras.nodes_mahiro").Experimental().
		Title("Mahiro is so cute that she deserves a better guidance function!! (。・ω・。)").OutputNames("patched_model").
		Doc("Pulls the guided prediction towards the positive prompt.")
	engine.Add(c, "FreSca", category, frequencyScale{Low: 1, High: 1.25, Cutoff: 20}, patchFrequencies).V3().Module("comfy_extras.nodes_fresca").Experimental().
		Title("FreSca").Doc("Scales coarse and fine parts of the guidance by factors of their own.")
	engine.Add(c, "PerpNeg", category, perpNeg{Scale: 1}, patchPerpNeg).V3().Module(perpNegModule).Experimental().Deprecated().
		Title("Perp-Neg (DEPRECATED by PerpNegGuider)").Doc("Takes from the negative prompt only what the positive one does not say.")
	engine.Add(c, "DifferentialDiffusion", category, differential{Strength: 1}, patchDifferential).V3().Module("comfy_extras.nodes_differential_diffusion").Experimental().
		Title("Differential Diffusion").Doc("Lets grey parts of a noise mask be repainted in the later steps only.")
	engine.Add(c, "Epsilon Scaling", "model_patches/unet", epsilonScaling{Factor: 1.005}, patchEpsilon).V3().Module("comfy_extras.nodes_eps").
		Doc("Divides the predicted noise by a factor.")
}

type onlyModel struct {
	Model *diffusion.Model `in:"model"`
}

// patched is the model with a patch added.
func patched(m *diffusion.Model, p diffusion.Patch) (*diffusion.Model, error) {
	if m == nil {
		return nil, errNoModel
	}
	return m.WithPatch(p), nil
}

func patchWith(p func() diffusion.Patch) func(context.Context, onlyModel) (*diffusion.Model, error) {
	return func(_ context.Context, in onlyModel) (*diffusion.Model, error) { return patched(in.Model, p()) }
}

type rescaleCFG struct {
	Model      *diffusion.Model `in:"model"`
	Multiplier float64          `in:"multiplier" range:"0,1,0.01"`
}

func patchRescale(_ context.Context, in rescaleCFG) (*diffusion.Model, error) {
	return patched(in.Model, diffusion.RescaleCFG(in.Multiplier))
}

type renormCFG struct {
	Model *diffusion.Model `in:"model"`
	Begin float64          `in:"cfg_trunc" range:"0,100,0.01"`
	Limit float64          `in:"renorm_cfg" range:"0,100,0.01"`
}

func patchRenorm(_ context.Context, in renormCFG) (*diffusion.Model, error) {
	return patched(in.Model, diffusion.RenormCFG(in.Begin, in.Limit))
}

type cfgNorm struct {
	Model    *diffusion.Model `in:"model"`
	Strength float64          `in:"strength" range:"0,100,0.01"`
}

func patchNorm(_ context.Context, in cfgNorm) (*diffusion.Model, error) {
	return patched(in.Model, diffusion.CFGNorm(in.Strength))
}

type perpNeg struct {
	Model *diffusion.Model       `in:"model"`
	Empty diffusion.Conditioning `in:"empty_conditioning"`
	Scale float64                `in:"neg_scale" range:"0,100,0.01"`
}

func patchPerpNeg(_ context.Context, in perpNeg) (*diffusion.Model, error) {
	return patched(in.Model, diffusion.PerpNegPatch(in.Empty, in.Scale))
}

type differential struct {
	Model    *diffusion.Model `in:"model"`
	Strength float64          `in:"strength,optional" range:"0,1,0.01"`
}

func patchDifferential(_ context.Context, in differential) (*diffusion.Model, error) {
	return patched(in.Model, diffusion.DifferentialDiffusion(in.Strength))
}

type epsilonScaling struct {
	Model  *diffusion.Model `in:"model"`
	Factor float64          `in:"scaling_factor" range:"0.5,1.5,0.001" ui:"display=number"`
}

func patchEpsilon(_ context.Context, in epsilonScaling) (*diffusion.Model, error) {
	return patched(in.Model, diffusion.ScaleEpsilon(in.Factor))
}

type operationCFG struct {
	Model     *diffusion.Model `in:"model"`
	Operation latentOperation  `in:"operation"`
}

func patchOperation(_ context.Context, in operationCFG) (*diffusion.Model, error) {
	return patched(in.Model, diffusion.ChangeDirection(in.Operation))
}

type frameCFG struct {
	Model *diffusion.Model `in:"model"`
	Least float64          `in:"min_cfg" range:"0,100,0.5,0.01"`
}

func patchFrames(peak bool) func(context.Context, frameCFG) (*diffusion.Model, error) {
	return func(_ context.Context, in frameCFG) (*diffusion.Model, error) {
		return patched(in.Model, diffusion.FrameCFG(in.Least, peak))
	}
}

type adaptiveProjection struct {
	Model     *diffusion.Model `in:"model"`
	Eta       float64          `in:"eta" range:"-10,10,0.01" doc:"How much of the part along the positive prediction stays; 1 keeps all."`
	Threshold float64          `in:"norm_threshold" range:"0,50,0.1" doc:"The longest that guidance may be; 0 sets no limit."`
	Momentum  float64          `in:"momentum" range:"-5,1,0.01" doc:"How much of the steps before goes into guidance; 0 for none."`
}

func patchProjection(_ context.Context, in adaptiveProjection) (*diffusion.Model, error) {
	return patched(in.Model, diffusion.AdaptiveProjection(diffusion.APG{Along: in.Eta, Longest: in.Threshold, Momentum: in.Momentum}))
}

type frequencyScale struct {
	Model  *diffusion.Model `in:"model"`
	Low    float64          `in:"scale_low" range:"0,10,0.01" doc:"Factor of the coarse part."`
	High   float64          `in:"scale_high" range:"0,10,0.01" doc:"Factor of the fine part."`
	Cutoff int              `in:"freq_cutoff" range:"1,10000,1" doc:"How many waves across the latent count as coarse."`
}

func patchFrequencies(_ context.Context, in frequencyScale) (*diffusion.Model, error) {
	return patched(in.Model, diffusion.ScaleFrequencies(diffusion.FreSca{Low: in.Low, High: in.High, Cutoff: in.Cutoff}))
}
