package nodes

import (
	"context"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// downscaleMethod is a way to resize inside a network.
type downscaleMethod string

func graphPatchKinds() []engine.Kind {
	return []engine.Kind{
		engine.Combo[downscaleMethod](engine.Choices(tensor.Bicubic, tensor.NearestExact, tensor.Bilinear, tensor.AreaMean, tensor.Bislerp)),
	}
}

// addGraphPatches declares the nodes that change what a model computes inside.
func addGraphPatches(c *engine.Catalog) {
	const category = "model_patches/unet"
	first := freeU{Deep: 1.1, Shallow: 1.2, DeepSkip: 0.9, ShallowSkip: 0.2}
	engine.Add(c, "FreeU", category, first, patchFreeU(false)).Module("comfy_extras.nodes_freelunch").
		Doc("Strengthens what the model draws from its depth, and quiets the coarse part of what it is reminded of.")
	second := freeU{Deep: 1.3, Shallow: 1.4, DeepSkip: 0.9, ShallowSkip: 0.2}
	engine.Add(c, "FreeU_V2", category, second, patchFreeU(true)).Module("comfy_extras.nodes_freelunch").
		Doc("FreeU with a strength that follows the picture.")
	engine.Add(c, "PatchModelAddDownscale", category, addDownscale{Block: 3, Factor: 2, End: 0.35, AfterSkip: true}, patchDownscale).
		V3().Module("comfy_extras.nodes_model_downscale").Title("PatchModelAddDownscale (Kohya Deep Shrink)").
		Doc("Has the model lay out a large picture at a smaller size during the first steps.")
	engine.Add(c, "PerturbedAttentionGuidance", category, perturbedAttention{Scale: 3}, patchPerturbed).
		V3().Module("comfy_extras.nodes_pag").
		Doc("Leads away from what the model makes when its deepest attention is switched off.")
	engine.Add(c, "SelfAttentionGuidance", "_for_testing", selfAttention{Scale: 0.5, Blur: 2}, patchSelfAttention).
		V3().Module("comfy_extras.nodes_sag").Experimental().Title("Self-Attention Guidance").
		Doc("Leads away from what the model makes of a picture whose striking parts are blurred.")
	const experiments, module = "_for_testing/attention_experiments", "comfy_extras.nodes_attention_multiply"
	one := multiplyAttention{Q: 1, K: 1, V: 1, Out: 1}
	engine.Add(c, "UNetSelfAttentionMultiply", experiments, one, patchAttention(diffusion.SelfAttention)).
		V3().Module(module).Experimental().Doc("Multiplies the weights with which the picture attends to itself.")
	engine.Add(c, "UNetCrossAttentionMultiply", experiments, one, patchAttention(diffusion.CrossAttention)).
		V3().Module(module).Experimental().Doc("Multiplies the weights with which the picture attends to the prompt.")
	engine.Add(c, "UNetTemporalAttentionMultiply", experiments, placedAttention{SelfStructural: 1, SelfTemporal: 1, CrossStructural: 1, CrossTemporal: 1}, patchPlacedAttention).
		V3().Module(module).Experimental().Doc("Multiplies what attentions give, apart for those within a picture and those between the pictures of a video.")
	engine.Add(c, "CLIPAttentionMultiply", experiments, textAttention{Q: 1, K: 1, V: 1, Out: 1}, patchTextAttention).
		V3().Module(module).Experimental().Doc("Multiplies the weights with which the words of a prompt attend to each other.")
}

type freeU struct {
	Model       *diffusion.Model `in:"model"`
	Deep        float64          `in:"b1" range:"0,10,0.01"`
	Shallow     float64          `in:"b2" range:"0,10,0.01"`
	DeepSkip    float64          `in:"s1" range:"0,10,0.01"`
	ShallowSkip float64          `in:"s2" range:"0,10,0.01"`
}

func patchFreeU(normalised bool) func(context.Context, freeU) (*diffusion.Model, error) {
	return func(_ context.Context, in freeU) (*diffusion.Model, error) {
		if in.Model == nil {
			return nil, errNoModel
		}
		return in.Model.WithFreeU(diffusion.FreeU{
			Deep:       diffusion.FreeUScale{Backbone: in.Deep, Skip: in.DeepSkip},
			Shallow:    diffusion.FreeUScale{Backbone: in.Shallow, Skip: in.ShallowSkip},
			Normalised: normalised,
		}), nil
	}
}

type addDownscale struct {
	Model     *diffusion.Model `in:"model"`
	Block     int              `in:"block_number" range:"1,32,1"`
	Factor    float64          `in:"downscale_factor" range:"0.1,9,0.001"`
	Start     float64          `in:"start_percent" range:"0,1,0.001"`
	End       float64          `in:"end_percent" range:"0,1,0.001"`
	AfterSkip bool             `in:"downscale_after_skip"`
	Down      downscaleMethod  `in:"downscale_method"`
	Up        downscaleMethod  `in:"upscale_method"`
}

func patchDownscale(_ context.Context, in addDownscale) (*diffusion.Model, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	return in.Model.WithDownscale(diffusion.Downscale{
		Block: in.Block, Factor: in.Factor, AfterSkip: in.AfterSkip,
		Down: string(in.Down), Up: string(in.Up), Start: in.Start, End: in.End,
	})
}

type perturbedAttention struct {
	Model *diffusion.Model `in:"model"`
	Scale float64          `in:"scale" range:"0,100,0.01,0.01"`
}

func patchPerturbed(_ context.Context, in perturbedAttention) (*diffusion.Model, error) {
	return patched(in.Model, diffusion.PerturbedAttention(in.Scale))
}

type selfAttention struct {
	Model *diffusion.Model `in:"model"`
	Scale float64          `in:"scale" range:"-2,5,0.01"`
	Blur  float64          `in:"blur_sigma" range:"0,10,0.1"`
}

func patchSelfAttention(_ context.Context, in selfAttention) (*diffusion.Model, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	return in.Model.WithSelfAttention(in.Scale, in.Blur), nil
}

type multiplyAttention struct {
	Model *diffusion.Model `in:"model"`
	Q     float64          `in:"q" range:"0,10,0.01"`
	K     float64          `in:"k" range:"0,10,0.01"`
	V     float64          `in:"v" range:"0,10,0.01"`
	Out   float64          `in:"out" range:"0,10,0.01"`
}

func patchAttention(a diffusion.Attention) func(context.Context, multiplyAttention) (*diffusion.Model, error) {
	return func(_ context.Context, in multiplyAttention) (*diffusion.Model, error) {
		if in.Model == nil {
			return nil, errNoModel
		}
		return in.Model.WithAttention(a, diffusion.AttentionScale{Q: in.Q, K: in.K, V: in.V, Out: in.Out})
	}
}

type placedAttention struct {
	Model           *diffusion.Model `in:"model"`
	SelfStructural  float64          `in:"self_structural" range:"0,10,0.01"`
	SelfTemporal    float64          `in:"self_temporal" range:"0,10,0.01"`
	CrossStructural float64          `in:"cross_structural" range:"0,10,0.01"`
	CrossTemporal   float64          `in:"cross_temporal" range:"0,10,0.01"`
}

// patchPlacedAttention leaves the temporal factors aside: models that are
// supported attend within a picture only.
func patchPlacedAttention(_ context.Context, in placedAttention) (*diffusion.Model, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	m, err := in.Model.WithAttention(diffusion.SelfAttention, diffusion.AttentionScale{Q: 1, K: 1, V: 1, Out: in.SelfStructural})
	if err != nil {
		return nil, err
	}
	return m.WithAttention(diffusion.CrossAttention, diffusion.AttentionScale{Q: 1, K: 1, V: 1, Out: in.CrossStructural})
}

type textAttention struct {
	CLIP *diffusion.CLIP `in:"clip"`
	Q    float64         `in:"q" range:"0,10,0.01"`
	K    float64         `in:"k" range:"0,10,0.01"`
	V    float64         `in:"v" range:"0,10,0.01"`
	Out  float64         `in:"out" range:"0,10,0.01"`
}

func patchTextAttention(_ context.Context, in textAttention) (*diffusion.CLIP, error) {
	if in.CLIP == nil {
		return nil, errNoCLIP
	}
	return in.CLIP.WithAttention(diffusion.AttentionScale{Q: in.Q, K: in.K, V: in.V, Out: in.Out})
}
