package nodes

import (
	"context"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

func addMerging(c *engine.Catalog) {
	const category, module = "advanced/model_merging", "comfy_extras.nodes_model_merging"
	engine.Add(c, "ModelMergeSimple", category, mergeModels{Ratio: 1}, mergeModelsByRatio).Module(module).
		Doc("Mixes the weights of two denoisers of one architecture: ratio 1 is the first, 0 the second.")
	engine.Add(c, "ModelMergeBlocks", category, mergeBlocks{Input: 1, Middle: 1, Out: 1}, mergeModelBlocks).Module(module).
		Doc("Mixes two denoisers with a ratio for each part of the network.")
	engine.Add(c, "ModelMergeAdd", category, addModels{}, addModelWeights).Module(module).
		Doc("Adds the weights of the second denoiser to those of the first.")
	engine.Add(c, "ModelMergeSubtract", category, subtractModels{Multiplier: 1}, subtractModelWeights).Module(module).
		Doc("Takes the weights of the second denoiser from those of the first and multiplies the difference.")
	engine.Add(c, "CLIPMergeSimple", category, mergeCLIPs{Ratio: 1}, mergeCLIPsByRatio).Module(module).
		Doc("Mixes the weights of two text encoders of one architecture: ratio 1 is the first, 0 the second.")
	engine.Add(c, "CLIPMergeAdd", category, addCLIPs{}, addCLIPWeights).Module(module).
		Doc("Adds the weights of the second text encoder to those of the first.")
	engine.Add(c, "CLIPMergeSubtract", category, subtractCLIPs{Multiplier: 1}, subtractCLIPWeights).Module(module).
		Doc("Takes the weights of the second text encoder from those of the first and multiplies the difference.")
}

type mergeModels struct {
	First  *diffusion.Model `in:"model1"`
	Second *diffusion.Model `in:"model2"`
	Ratio  float64          `in:"ratio" range:"0,1,0.01"`
}

func byRatio(ratio float64) diffusion.Mix { return diffusion.Mix{Keep: ratio, Add: 1 - ratio} }

func ofDifference(multiplier float64) diffusion.Mix {
	return diffusion.Mix{Keep: multiplier, Add: -multiplier}
}

// same gives every weight the same share.
func same(m diffusion.Mix) func(string) diffusion.Mix {
	return func(string) diffusion.Mix { return m }
}

func mergeModelsByRatio(ctx context.Context, in mergeModels) (*diffusion.Model, error) {
	return in.First.Merge(in.Second, same(byRatio(in.Ratio)))
}

type mergeBlocks struct {
	First  *diffusion.Model `in:"model1"`
	Second *diffusion.Model `in:"model2"`
	Input  float64          `in:"input" range:"0,1,0.01"`
	Middle float64          `in:"middle" range:"0,1,0.01"`
	Out    float64          `in:"out" range:"0,1,0.01"`
}

// mergeModelBlocks gives weights outside the blocks, those of the timestep
// among them, the ratio of the input.
func mergeModelBlocks(ctx context.Context, in mergeBlocks) (*diffusion.Model, error) {
	return in.First.Merge(in.Second, func(weight string) diffusion.Mix {
		switch {
		case strings.HasPrefix(weight, "middle"):
			return byRatio(in.Middle)
		case strings.HasPrefix(weight, "out"):
			return byRatio(in.Out)
		}
		return byRatio(in.Input)
	})
}

type addModels struct {
	First  *diffusion.Model `in:"model1"`
	Second *diffusion.Model `in:"model2"`
}

func addModelWeights(ctx context.Context, in addModels) (*diffusion.Model, error) {
	return in.First.Merge(in.Second, same(diffusion.Mix{Keep: 1, Add: 1}))
}

type subtractModels struct {
	First      *diffusion.Model `in:"model1"`
	Second     *diffusion.Model `in:"model2"`
	Multiplier float64          `in:"multiplier" range:"-10,10,0.01"`
}

func subtractModelWeights(ctx context.Context, in subtractModels) (*diffusion.Model, error) {
	return in.First.Merge(in.Second, same(ofDifference(in.Multiplier)))
}

type mergeCLIPs struct {
	First  *diffusion.CLIP `in:"clip1"`
	Second *diffusion.CLIP `in:"clip2"`
	Ratio  float64         `in:"ratio" range:"0,1,0.01"`
}

func mergeCLIPsByRatio(ctx context.Context, in mergeCLIPs) (*diffusion.CLIP, error) {
	return in.First.Merge(in.Second, byRatio(in.Ratio))
}

type addCLIPs struct {
	First  *diffusion.CLIP `in:"clip1"`
	Second *diffusion.CLIP `in:"clip2"`
}

func addCLIPWeights(ctx context.Context, in addCLIPs) (*diffusion.CLIP, error) {
	return in.First.Merge(in.Second, diffusion.Mix{Keep: 1, Add: 1})
}

type subtractCLIPs struct {
	First      *diffusion.CLIP `in:"clip1"`
	Second     *diffusion.CLIP `in:"clip2"`
	Multiplier float64         `in:"multiplier" range:"-10,10,0.01"`
}

func subtractCLIPWeights(ctx context.Context, in subtractCLIPs) (*diffusion.CLIP, error) {
	return in.First.Merge(in.Second, ofDifference(in.Multiplier))
}
