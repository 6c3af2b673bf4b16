package nodes

import (
	"context"
	"errors"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/sampling"
)

const modelModule = "comfy_extras.nodes_model_advanced"

type (
	discreteName   string
	continuousName string
	velocityName   string
)

func modelSamplingKinds() []engine.Kind {
	return []engine.Kind{
		engine.Combo[discreteName](engine.Choices("eps", "v_prediction", "lcm", "x0", "img_to_img")),
		engine.Combo[continuousName](engine.Choices("v_prediction", "edm", "edm_playground_v2.5", "eps", "cosmos_rflow")),
		engine.Combo[velocityName](engine.Choices("v_prediction")),
	}
}

// addModelSampling declares the nodes that say what a model's output means and
// on which noise levels it was trained.
func addModelSampling(c *engine.Catalog) {
	const category = "advanced/model"
	engine.Add(c, "ModelSamplingDiscrete", category, discreteSampling{}, sampleDiscrete).Module(modelModule).
		Doc("Treats the model as trained on 1000 noise levels.")
	engine.Add(c, "ModelSamplingContinuousEDM", category, edmSampling{Max: 120, Min: 0.002}, sampleEDM).Module(modelModule).
		Doc("Treats the model as trained on the logarithm of the noise level.")
	engine.Add(c, "ModelSamplingContinuousV", category, velocitySampling{Max: 500, Min: 0.03}, sampleVelocity).Module(modelModule).
		Doc("Treats the model as trained on the angle of the noise level.")
	engine.Add(c, "ModelSamplingSD3", category, flowSampling{Shift: 3}, sampleFlow(1000)).Module(modelModule).
		Doc("Shifts the noise levels of a flow model.")
	engine.Add(c, "ModelSamplingAuraFlow", category, flowSampling{Shift: 1.73}, sampleFlow(1)).Module(modelModule).
		Doc("Shifts the noise levels of a flow model with times between 0 and 1.")
	engine.Add(c, "ModelSamplingFlux", category, fluxSampling{MaxShift: 1.15, BaseShift: 0.5, Width: 1024, Height: 1024}, sampleFlux).Module(modelModule).
		Doc("Shifts the noise levels of Flux by the size of the picture.")
	engine.Add(c, "ModelSamplingLTXV", category, tokenSampling{MaxShift: 2.05, BaseShift: 0.95}, sampleTokens).V3().Module(ltxModule).
		Doc("Shifts the noise levels of a flow model by the number of latent pixels.")
	engine.Add(c, "ModelSamplingStableCascade", category, flowSampling{Shift: 2}, sampleCascade).Module(modelModule).
		Doc("Treats the model as trained on a cosine schedule, shifted for larger pictures.")
}

type discreteSampling struct {
	Model    *diffusion.Model `in:"model"`
	Sampling discreteName     `in:"sampling"`
	ZSNR     bool             `in:"zsnr"`
}

func sampleDiscrete(_ context.Context, in discreteSampling) (*diffusion.Model, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	for _, p := range []sampling.Prediction{sampling.EPS, sampling.VPrediction, sampling.LCM, sampling.X0, sampling.ImgToImg} {
		if p.String() == string(in.Sampling) {
			return in.Model.WithSchedule(sampling.NewDiscrete(p, in.ZSNR)), nil
		}
	}
	return in.Model, nil
}

type edmSampling struct {
	Model    *diffusion.Model `in:"model"`
	Sampling continuousName   `in:"sampling"`
	Max      float64          `in:"sigma_max" range:"0,1000,0.001" ui:"round=false"`
	Min      float64          `in:"sigma_min" range:"0,1000,0.001" ui:"round=false"`
}

func sampleEDM(_ context.Context, in edmSampling) (*diffusion.Model, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	m, prediction, deviation := in.Model, sampling.VPrediction, 1.0
	switch in.Sampling {
	case "eps":
		prediction = sampling.EPS
	case "edm":
		prediction, deviation = sampling.EDM, 0.5
	case "edm_playground_v2.5":
		prediction, deviation = sampling.EDM, 0.5
		m = m.WithPlaygroundLatents()
	case "cosmos_rflow":
		return nil, errors.New(`sampling "cosmos_rflow" is for Cosmos models, which are not supported`)
	}
	return m.WithSchedule(sampling.NewContinuousEDM(prediction, in.Min, in.Max, deviation)), nil
}

type velocitySampling struct {
	Model    *diffusion.Model `in:"model"`
	Sampling velocityName     `in:"sampling"`
	Max      float64          `in:"sigma_max" range:"0,1000,0.001" ui:"round=false"`
	Min      float64          `in:"sigma_min" range:"0,1000,0.001" ui:"round=false"`
}

func sampleVelocity(_ context.Context, in velocitySampling) (*diffusion.Model, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	return in.Model.WithSchedule(sampling.NewContinuousV(in.Min, in.Max)), nil
}

type flowSampling struct {
	Model *diffusion.Model `in:"model"`
	Shift float64          `in:"shift" range:"0,100,0.01"`
}

func sampleFlow(multiplier float64) func(context.Context, flowSampling) (*diffusion.Model, error) {
	return func(_ context.Context, in flowSampling) (*diffusion.Model, error) {
		if in.Model == nil {
			return nil, errNoModel
		}
		return in.Model.WithSchedule(sampling.NewDiscreteFlow(in.Shift, multiplier)), nil
	}
}

type fluxSampling struct {
	Model     *diffusion.Model `in:"model"`
	MaxShift  float64          `in:"max_shift" range:"0,100,0.01"`
	BaseShift float64          `in:"base_shift" range:"0,100,0.01"`
	Width     int              `in:"width" range:"16,16384,8"`
	Height    int              `in:"height" range:"16,16384,8"`
}

func sampleFlux(_ context.Context, in fluxSampling) (*diffusion.Model, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	return in.Model.WithSchedule(sampling.NewFlux(sampling.FluxMu(in.MaxShift, in.BaseShift, in.Width, in.Height))), nil
}

func sampleCascade(_ context.Context, in flowSampling) (*diffusion.Model, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	return in.Model.WithSchedule(sampling.NewCascade(in.Shift)), nil
}

const ltxModule = "comfy_extras.nodes_lt"

type tokenSampling struct {
	Model     *diffusion.Model  `in:"model"`
	MaxShift  float64           `in:"max_shift" range:"0,100,0.01"`
	BaseShift float64           `in:"base_shift" range:"0,100,0.01"`
	Latent    *diffusion.Latent `in:"latent,optional"`
}

func sampleTokens(_ context.Context, in tokenSampling) (*diffusion.Model, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	return in.Model.WithSchedule(sampling.NewFlux(sampling.TokenMu(in.MaxShift, in.BaseShift, tokens(in.Latent)))), nil
}

// tokens counts the latent pixels; without a latent they are those of the
// largest picture that counts.
func tokens(l *diffusion.Latent) int {
	if l == nil || l.Samples == nil {
		return 4096
	}
	return l.Samples.Shape[2:].Elements()
}
