package nodes

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/sampling"
)

// addSchedulers declares the nodes that make a list of noise levels.
func addSchedulers(c *engine.Catalog) {
	const category = "sampling/custom_sampling/schedulers"
	r := sigmaRange{20, 14.614642, 0.0291675}
	engine.Add(c, "BasicScheduler", category, basicScheduler{Steps: 20, Denoise: 1}, basicSigmas).Module(customModule).
		Doc("The noise levels that KSampler would take.")
	engine.Add(c, "KarrasScheduler", category, karrasScheduler{r.Steps, r.Max, r.Min, 7}, karrasSigmas).Module(customModule).
		Doc("Spaces the rho-th root of the noise level evenly.")
	engine.Add(c, "ExponentialScheduler", category, r, exponentialSigmas).Module(customModule).
		Doc("Spaces the logarithm of the noise level evenly.")
	engine.Add(c, "PolyexponentialScheduler", category, polyScheduler{r.Steps, r.Max, r.Min, 1}, polySigmas).Module(customModule).
		Doc("Spaces the rho-th root of the logarithm of the noise level evenly.")
	engine.Add(c, "LaplaceScheduler", category, laplaceScheduler{r.Steps, r.Max, r.Min, 0, 0.5}, laplaceSigmas).Module(customModule).
		Doc("Noise levels that gather around one level.")
	engine.Add(c, "VPScheduler", category, vpScheduler{20, 19.9, 0.1, 0.001}, vpSigmas).Module(customModule).
		Doc("Noise levels of a variance preserving process.")
	engine.Add(c, "SDTurboScheduler", category, turboScheduler{Steps: 1, Denoise: 1}, turboSigmas).Module(customModule).
		Doc("The noise levels that SD Turbo models were trained for.")
	engine.Add(c, "BetaSamplingScheduler", category, betaScheduler{Steps: 20, Alpha: 0.6, Beta: 0.6}, betaSigmas).Module(customModule).
		Doc("Noise levels by the quantiles of a beta distribution.")
	engine.Add(c, "AlignYourStepsScheduler", category, alignedScheduler{Steps: 10, Denoise: 1}, alignedSigmas).V3().Module("comfy_extras.nodes_align_your_steps").
		Doc("Noise levels that were optimised for a family of models.")
	engine.Add(c, "OptimalStepsScheduler", category, optimalScheduler{Steps: 20, Denoise: 1}, optimalSigmas).V3().Module("comfy_extras.nodes_optimalsteps").
		Doc("Noise levels that were optimised for a family of flow models.")
	engine.Add(c, "LTXVScheduler", category, ltxScheduler{Steps: 20, MaxShift: 2.05, BaseShift: 0.95, Stretch: true, Terminal: 0.1}, ltxSigmas).V3().Module(ltxModule).
		Doc("Noise levels of a flow model, shifted by the number of latent pixels.")
}

type basicScheduler struct {
	Model     *diffusion.Model `in:"model"`
	Scheduler schedulerName    `in:"scheduler"`
	Steps     int              `in:"steps" range:"1,10000"`
	Denoise   float64          `in:"denoise" range:"0,1,0.01"`
}

func basicSigmas(_ context.Context, in basicScheduler) (diffusion.Sigmas, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	return sampling.BasicSchedule(in.Model.Schedule(), string(in.Scheduler), in.Steps, in.Denoise)
}

type sigmaRange struct {
	Steps int     `in:"steps" range:"1,10000"`
	Max   float64 `in:"sigma_max" range:"0,5000,0.01" ui:"round=false"`
	Min   float64 `in:"sigma_min" range:"0,5000,0.01" ui:"round=false"`
}

func exponentialSigmas(_ context.Context, in sigmaRange) (diffusion.Sigmas, error) {
	return sampling.Exponential(in.Steps, in.Min, in.Max), nil
}

type karrasScheduler struct {
	Steps int     `in:"steps" range:"1,10000"`
	Max   float64 `in:"sigma_max" range:"0,5000,0.01" ui:"round=false"`
	Min   float64 `in:"sigma_min" range:"0,5000,0.01" ui:"round=false"`
	Rho   float64 `in:"rho" range:"0,100,0.01" ui:"round=false"`
}

func karrasSigmas(_ context.Context, in karrasScheduler) (diffusion.Sigmas, error) {
	return sampling.Karras(in.Steps, in.Min, in.Max, in.Rho), nil
}

type polyScheduler struct {
	Steps int     `in:"steps" range:"1,10000"`
	Max   float64 `in:"sigma_max" range:"0,5000,0.01" ui:"round=false"`
	Min   float64 `in:"sigma_min" range:"0,5000,0.01" ui:"round=false"`
	Rho   float64 `in:"rho" range:"0,100,0.01" ui:"round=false"`
}

func polySigmas(_ context.Context, in polyScheduler) (diffusion.Sigmas, error) {
	return sampling.Polyexponential(in.Steps, in.Min, in.Max, in.Rho), nil
}

type laplaceScheduler struct {
	Steps int     `in:"steps" range:"1,10000"`
	Max   float64 `in:"sigma_max" range:"0,5000,0.01" ui:"round=false"`
	Min   float64 `in:"sigma_min" range:"0,5000,0.01" ui:"round=false"`
	Mu    float64 `in:"mu" range:"-10,10,0.1" ui:"round=false"`
	Beta  float64 `in:"beta" range:"0,10,0.1" ui:"round=false"`
}

func laplaceSigmas(_ context.Context, in laplaceScheduler) (diffusion.Sigmas, error) {
	l := sampling.Laplace{SigmaMin: in.Min, SigmaMax: in.Max, Mu: in.Mu, Beta: in.Beta}
	return l.Schedule(in.Steps), nil
}

type vpScheduler struct {
	Steps   int     `in:"steps" range:"1,10000"`
	BetaD   float64 `in:"beta_d" range:"0,5000,0.01" ui:"round=false"`
	BetaMin float64 `in:"beta_min" range:"0,5000,0.01" ui:"round=false"`
	Eps     float64 `in:"eps_s" range:"0,1,0.0001" ui:"round=false"`
}

func vpSigmas(_ context.Context, in vpScheduler) (diffusion.Sigmas, error) {
	return sampling.VP(in.Steps, in.BetaD, in.BetaMin, in.Eps), nil
}

type turboScheduler struct {
	Model   *diffusion.Model `in:"model"`
	Steps   int              `in:"steps" range:"1,10"`
	Denoise float64          `in:"denoise" range:"0,1,0.01"`
}

func turboSigmas(_ context.Context, in turboScheduler) (diffusion.Sigmas, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	return sampling.SDTurbo(in.Model.Schedule(), in.Steps, in.Denoise), nil
}

type betaScheduler struct {
	Model *diffusion.Model `in:"model"`
	Steps int              `in:"steps" range:"1,10000"`
	Alpha float64          `in:"alpha" range:"0,50,0.01" ui:"round=false"`
	Beta  float64          `in:"beta" range:"0,50,0.01" ui:"round=false"`
}

func betaSigmas(_ context.Context, in betaScheduler) (diffusion.Sigmas, error) {
	if in.Model == nil {
		return nil, errNoModel
	}
	if in.Alpha <= 0 || in.Beta <= 0 {
		return nil, fmt.Errorf("beta schedule: alpha %g and beta %g must be above 0", in.Alpha, in.Beta)
	}
	return sampling.Beta(in.Model.Schedule(), in.Steps, in.Alpha, in.Beta), nil
}

type alignedScheduler struct {
	Model   alignedModel `in:"model_type"`
	Steps   int          `in:"steps" range:"1,10000"`
	Denoise float64      `in:"denoise" range:"0,1,0.01"`
}

func alignedSigmas(_ context.Context, in alignedScheduler) (diffusion.Sigmas, error) {
	return sampling.AlignYourSteps(string(in.Model), in.Steps, in.Denoise), nil
}

type optimalScheduler struct {
	Model   optimalModel `in:"model_type"`
	Steps   int          `in:"steps" range:"3,1000"`
	Denoise float64      `in:"denoise" range:"0,1,0.01"`
}

func optimalSigmas(_ context.Context, in optimalScheduler) (diffusion.Sigmas, error) {
	return sampling.OptimalSteps(string(in.Model), in.Steps, in.Denoise), nil
}

type ltxScheduler struct {
	Steps     int               `in:"steps" range:"1,10000"`
	MaxShift  float64           `in:"max_shift" range:"0,100,0.01"`
	BaseShift float64           `in:"base_shift" range:"0,100,0.01"`
	Stretch   bool              `in:"stretch" doc:"Spread the levels so that the last one is the terminal one."`
	Terminal  float64           `in:"terminal" range:"0,0.99,0.01" doc:"The last level before 0, when spread."`
	Latent    *diffusion.Latent `in:"latent,optional"`
}

func ltxSigmas(_ context.Context, in ltxScheduler) (diffusion.Sigmas, error) {
	mu := sampling.TokenMu(in.MaxShift, in.BaseShift, tokens(in.Latent))
	return sampling.LTX{Mu: mu, Stretch: in.Stretch, Terminal: in.Terminal}.Schedule(in.Steps), nil
}
