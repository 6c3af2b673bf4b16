package nodes

import (
	"context"
	"slices"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/sampling"
)

const (
	customModule   = "comfy_extras.nodes_custom_sampler"
	advancedModule = "comfy_extras.nodes_advanced_samplers"
)

// The kinds of choice inputs of custom sampling.
type (
	alignedModel string
	optimalModel string
	spacingName  string
	solverName   string
	erSolverName string
	noiseDevice  string
	guiderStyle  string
	cfgppVersion string
)

// samplingKinds are the kinds that only custom sampling has.
func samplingKinds() []engine.Kind {
	return append(modelSamplingKinds(),
		engine.Socket[diffusion.Noise]("NOISE"),
		engine.Socket[diffusion.Sampler]("SAMPLER"),
		engine.Socket[diffusion.Sigmas]("SIGMAS"),
		engine.Socket[diffusion.Guider]("GUIDER"),
		engine.Combo[alignedModel](engine.Choices("SD1", "SDXL", "SVD")),
		engine.Combo[optimalModel](engine.Choices("FLUX", "Wan", "Chroma")),
		engine.Combo[placing](engine.Choices("offset", "index", "uxo/uno")),
		engine.Combo[loraForm](engine.Choices("standard", "full_diff")),
		engine.Combo[spacingName](engine.Choices(string(sampling.Linear), string(sampling.Cosine), string(sampling.Sine))),
		engine.Combo[solverName](engine.Choices("midpoint", "heun")),
		engine.Combo[erSolverName](erSolvers),
		engine.Combo[noiseDevice](engine.Choices("gpu", "cpu")),
		engine.Combo[guiderStyle](engine.Choices("regular", "nested")),
		engine.Combo[cfgppVersion](engine.Choices("regular", "alternative")),
	)
}

// addCustomSampling declares the nodes that run a sampler over a list of
// levels, and those that make its noise.
func (r *Runtime) addCustomSampling(c *engine.Catalog) {
	const category = "sampling/custom_sampling"
	engine.Add(c, "SamplerCustom", category, samplerCustom{AddNoise: true, CFG: 8}, r.sampleCustom).Device().Module(customModule).
		Doc("Samples with a sampler and noise levels of your own.")
	engine.Add(c, "SamplerCustomAdvanced", category, samplerCustomAdvanced{}, r.sampleCustomAdvanced).Device().Module(customModule).
		Doc("Samples with noise, guidance, a sampler and noise levels of your own.")
	engine.Add(c, "RandomNoise", category+"/noise", randomNoise{}, newRandomNoise).Module(customModule).
		Doc("Noise that depends on the seed only.")
	engine.Add(c, "DisableNoise", category+"/noise", struct{}{}, noNoise).Module(customModule).
		Doc("No noise: sampling goes on from the latent as it is.")
	engine.Add(c, "AddNoise", "_for_testing/custom_sampling/noise", addNoiseTo{}, noiseLatent).Module(customModule).
		Doc("Adds noise to a latent, as much as a list of levels falls by.")
}

// sampledOut are the outputs of the custom samplers.
type sampledOut struct {
	Output   diffusion.Latent `out:"output"`
	Denoised diffusion.Latent `out:"denoised_output"`
}

type samplerCustom struct {
	Model    *diffusion.Model       `in:"model"`
	AddNoise bool                   `in:"add_noise"`
	Seed     uint64                 `in:"noise_seed" range:"0,0xffffffffffffffff" ui:"control_after_generate"`
	CFG      float64                `in:"cfg" range:"0,100,0.1,0.01"`
	Positive diffusion.Conditioning `in:"positive"`
	Negative diffusion.Conditioning `in:"negative"`
	Sampler  diffusion.Sampler      `in:"sampler"`
	Sigmas   diffusion.Sigmas       `in:"sigmas"`
	Latent   diffusion.Latent       `in:"latent_image"`
}

func (r *Runtime) sampleCustom(ctx context.Context, in samplerCustom) (sampledOut, error) {
	out, err := r.runJob(ctx, diffusion.Job{
		Guider:  diffusion.CFGGuider(in.Model, in.Positive, in.Negative, in.CFG),
		Sampler: in.Sampler, Sigmas: in.Sigmas, Latent: in.Latent,
		Noise: diffusion.Noise{Seed: in.Seed, Off: !in.AddNoise},
	})
	return sampledOut{out.Latent, out.Denoised}, err
}

type samplerCustomAdvanced struct {
	Noise   diffusion.Noise   `in:"noise"`
	Guider  diffusion.Guider  `in:"guider"`
	Sampler diffusion.Sampler `in:"sampler"`
	Sigmas  diffusion.Sigmas  `in:"sigmas"`
	Latent  diffusion.Latent  `in:"latent_image"`
}

func (r *Runtime) sampleCustomAdvanced(ctx context.Context, in samplerCustomAdvanced) (sampledOut, error) {
	out, err := r.runJob(ctx, diffusion.Job{Guider: in.Guider, Sampler: in.Sampler, Sigmas: in.Sigmas, Noise: in.Noise, Latent: in.Latent})
	return sampledOut{out.Latent, out.Denoised}, err
}

type randomNoise struct {
	Seed uint64 `in:"noise_seed" range:"0,0xffffffffffffffff" ui:"control_after_generate"`
}

func newRandomNoise(_ context.Context, in randomNoise) (diffusion.Noise, error) {
	return diffusion.Noise{Seed: in.Seed}, nil
}

func noNoise(context.Context, struct{}) (diffusion.Noise, error) {
	return diffusion.Noise{Off: true}, nil
}

type addNoiseTo struct {
	Model  *diffusion.Model `in:"model"`
	Noise  diffusion.Noise  `in:"noise"`
	Sigmas diffusion.Sigmas `in:"sigmas"`
	Latent diffusion.Latent `in:"latent_image"`
}

func noiseLatent(_ context.Context, in addNoiseTo) (diffusion.Latent, error) {
	if in.Model == nil {
		return diffusion.Latent{}, errNoModel
	}
	return in.Model.AddNoise(in.Latent, in.Noise, in.Sigmas)
}

// splitSigmas are the outputs of the nodes that cut a list of levels.
type splitSigmas struct {
	High diffusion.Sigmas `out:"high_sigmas"`
	Low  diffusion.Sigmas `out:"low_sigmas"`
}

// addSigmas declares the nodes that change a list of levels.
func addSigmas(c *engine.Catalog) {
	const category = "sampling/custom_sampling/sigmas"
	engine.Add(c, "SplitSigmas", category, splitAt{}, splitSigmasAt).Module(customModule).
		Doc("Cuts a list of levels at a step.")
	engine.Add(c, "SplitSigmasDenoise", category, splitDenoise{Denoise: 1}, splitSigmasDenoise).Module(customModule).
		Doc("Cuts a list of levels so that the second part is that fraction of the steps.")
	engine.Add(c, "FlipSigmas", category, oneSigmas{}, flipSigmas).Module(customModule).
		Doc("Reverses a list of levels, for turning a picture into noise.")
	engine.Add(c, "SetFirstSigma", category, firstSigma{Sigma: 136}, setFirstSigma).Module(customModule).
		Doc("Replaces the first level of a list.")
	engine.Add(c, "ExtendIntermediateSigmas", category, extendSigmas{Steps: 2, Start: -1, End: 12}, extendedSigmas).Module(customModule).
		Doc("Puts further levels between those of a list.")
	engine.Add(c, "SamplingPercentToSigma", category, percentToSigma{}, sigmaOfPercent).Module(customModule).
		Doc("The noise level of a model after a part of the denoising.")
}

type splitAt struct {
	Sigmas diffusion.Sigmas `in:"sigmas"`
	Step   int              `in:"step" range:"0,10000"`
}

func splitSigmasAt(_ context.Context, in splitAt) (splitSigmas, error) {
	high, low := sampling.Split(in.Sigmas, in.Step)
	return splitSigmas{high, low}, nil
}

type splitDenoise struct {
	Sigmas  diffusion.Sigmas `in:"sigmas"`
	Denoise float64          `in:"denoise" range:"0,1,0.01"`
}

func splitSigmasDenoise(_ context.Context, in splitDenoise) (splitSigmas, error) {
	high, low := sampling.SplitDenoise(in.Sigmas, in.Denoise)
	return splitSigmas{high, low}, nil
}

type oneSigmas struct {
	Sigmas diffusion.Sigmas `in:"sigmas"`
}

func flipSigmas(_ context.Context, in oneSigmas) (diffusion.Sigmas, error) {
	return sampling.Flip(in.Sigmas), nil
}

type firstSigma struct {
	Sigmas diffusion.Sigmas `in:"sigmas"`
	Sigma  float64          `in:"sigma" range:"0,20000,0.001" ui:"round=false"`
}

func setFirstSigma(_ context.Context, in firstSigma) (diffusion.Sigmas, error) {
	if len(in.Sigmas) == 0 {
		return nil, nil
	}
	out := slices.Clone(in.Sigmas)
	out[0] = float32(in.Sigma)
	return out, nil
}

type extendSigmas struct {
	Sigmas  diffusion.Sigmas `in:"sigmas"`
	Steps   int              `in:"steps" range:"1,100"`
	Start   float64          `in:"start_at_sigma" range:"-1,20000,0.01" ui:"round=false"`
	End     float64          `in:"end_at_sigma" range:"0,20000,0.01" ui:"round=false"`
	Spacing spacingName      `in:"spacing"`
}

func extendedSigmas(_ context.Context, in extendSigmas) (diffusion.Sigmas, error) {
	e := sampling.Extension{Steps: in.Steps, Start: in.Start, End: in.End, Spacing: sampling.Spacing(in.Spacing)}
	return e.Extend(in.Sigmas), nil
}

type percentToSigma struct {
	Model   *diffusion.Model `in:"model"`
	Percent float64          `in:"sampling_percent" range:"0,1,0.0001"`
	Actual  bool             `in:"return_actual_sigma" doc:"At the two ends give the model's highest and lowest level instead of numbers beyond all levels."`
}

type sigmaValue struct {
	Value float64 `out:"sigma_value"`
}

func sigmaOfPercent(_ context.Context, in percentToSigma) (sigmaValue, error) {
	if in.Model == nil {
		return sigmaValue{}, errNoModel
	}
	m := in.Model.Schedule()
	switch {
	case in.Actual && in.Percent == 0:
		return sigmaValue{float64(m.SigmaMax())}, nil
	case in.Actual && in.Percent == 1:
		return sigmaValue{float64(m.SigmaMin())}, nil
	}
	return sigmaValue{m.PercentToSigma(in.Percent)}, nil
}
