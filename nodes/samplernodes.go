package nodes

import (
	"context"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/sampling"
)

// addSamplers declares the nodes that choose a sampler and its settings.
func addSamplers(c *engine.Catalog) {
	const category = "sampling/custom_sampling/samplers"
	both := etaNoise{1, 1}
	engine.Add(c, "KSamplerSelect", category, samplerChoice{}, chosenSampler).Module(customModule).
		Doc("A sampler with its usual settings.")
	engine.Add(c, "SamplerEulerAncestral", category, both, ancestralSampler("euler_ancestral")).Module(customModule).
		Doc("Euler steps with noise of their own.")
	engine.Add(c, "SamplerEulerAncestralCFGPP", category, etaNoiseCFG{1, 1}, eulerCFGSampler).Module(customModule).
		Title("SamplerEulerAncestralCFG++").Doc("Euler steps with noise of their own, along the unconditional prediction.")
	engine.Add(c, "SamplerEulerCFGpp", "_for_testing", eulerCFGVersion{}, eulerCFGOf).V3().Module(advancedModule).Experimental().
		Title("SamplerEulerCFG++").Doc("Euler steps along the unconditional prediction.")
	engine.Add(c, "SamplerDPMPP_2S_Ancestral", category, both, ancestralSampler("dpmpp_2s_ancestral")).Module(customModule).
		Doc("DPM-Solver++ of second order in single steps, with noise.")
	engine.Add(c, "SamplerLMS", category, lmsSettings{4}, lmsSampler).Module(customModule).
		Doc("Linear multistep method.")
	engine.Add(c, "SamplerDPMAdaptative", category, defaultAdaptive(), adaptiveSampler).Module(customModule).
		Doc("DPM-Solver that chooses its steps itself.")
	addSDESamplers(c, category)
}

func addSDESamplers(c *engine.Catalog, category string) {
	engine.Add(c, "SamplerDPMPP_2M_SDE", category, sde2M{Eta: 1, Noise: 1}, sde2MSampler).Module(customModule).
		Doc("DPM-Solver++ of second order over two steps, with noise.")
	engine.Add(c, "SamplerDPMPP_3M_SDE", category, sde3M{Eta: 1, Noise: 1}, sde3MSampler).Module(customModule).
		Doc("DPM-Solver++ of third order over three steps, with noise.")
	engine.Add(c, "SamplerDPMPP_SDE", category, sde{Eta: 1, Noise: 1, R: 0.5}, sdeSampler).Module(customModule).
		Doc("DPM-Solver++ with noise, two evaluations a step.")
	er := engine.Add(c, "SamplerER_SDE", category, erSDE{Stages: 3, Eta: 1, Noise: 1}, erSDESampler).Module(customModule).
		Doc("Extended reverse-time SDE solver.")
	er.Type().Inputs[0].Options = engine.Members{{Key: "options", Value: erSolvers()}}
	sa := sampling.DefaultSA()
	engine.Add(c, "SamplerSASolver", category, saSettings{
		Eta: 1, Start: sa.Start, End: sa.End, Noise: 1, Predictor: sa.Predictor, Corrector: sa.Corrector,
	}, saSampler).Module(customModule).Doc("Stochastic Adams solver with predictor and corrector.")
}

type samplerChoice struct {
	Name samplerName `in:"sampler_name"`
}

func chosenSampler(_ context.Context, in samplerChoice) (diffusion.Sampler, error) {
	return diffusion.Sampler{Name: string(in.Name)}, nil
}

type etaNoise struct {
	Eta   float64 `in:"eta" range:"0,100,0.01" ui:"round=false"`
	Noise float64 `in:"s_noise" range:"0,100,0.01" ui:"round=false"`
}

func ancestralSampler(name string) func(context.Context, etaNoise) (diffusion.Sampler, error) {
	return func(_ context.Context, in etaNoise) (diffusion.Sampler, error) {
		return diffusion.Sampler{Name: name, Options: stochastic(in.Eta, in.Noise)}, nil
	}
}

func stochastic(eta, noise float64) sampling.Options {
	return sampling.Options{Eta: &eta, NoiseScale: &noise}
}

type etaNoiseCFG struct {
	Eta   float64 `in:"eta" range:"0,1,0.01" ui:"round=false"`
	Noise float64 `in:"s_noise" range:"0,10,0.01" ui:"round=false"`
}

func eulerCFGSampler(_ context.Context, in etaNoiseCFG) (diffusion.Sampler, error) {
	return diffusion.Sampler{Name: "euler_ancestral_cfg_pp", Options: stochastic(in.Eta, in.Noise)}, nil
}

type eulerCFGVersion struct {
	Version cfgppVersion `in:"version"`
}

func eulerCFGOf(_ context.Context, in eulerCFGVersion) (diffusion.Sampler, error) {
	return diffusion.Sampler{Name: "euler_cfg_pp", Options: sampling.Options{Mirrored: in.Version == "alternative"}}, nil
}

type lmsSettings struct {
	Order int `in:"order" range:"1,100"`
}

func lmsSampler(_ context.Context, in lmsSettings) (diffusion.Sampler, error) {
	return diffusion.Sampler{Name: "lms", Options: sampling.Options{Order: in.Order}}, nil
}

type adaptiveSettings struct {
	Order  int     `in:"order" range:"2,3"`
	RTol   float64 `in:"rtol" range:"0,100,0.01" ui:"round=false"`
	ATol   float64 `in:"atol" range:"0,100,0.01" ui:"round=false"`
	Step   float64 `in:"h_init" range:"0,100,0.01" ui:"round=false"`
	P      float64 `in:"pcoeff" range:"0,100,0.01" ui:"round=false"`
	I      float64 `in:"icoeff" range:"0,100,0.01" ui:"round=false"`
	D      float64 `in:"dcoeff" range:"0,100,0.01" ui:"round=false"`
	Safety float64 `in:"accept_safety" range:"0,100,0.01" ui:"round=false"`
	Eta    float64 `in:"eta" range:"0,100,0.01" ui:"round=false"`
	Noise  float64 `in:"s_noise" range:"0,100,0.01" ui:"round=false"`
}

func defaultAdaptive() adaptiveSettings {
	a := sampling.DefaultAdaptive()
	return adaptiveSettings{a.Order, a.RTol, a.ATol, a.Step, a.P, a.I, a.D, a.Safety, 0, 1}
}

func adaptiveSampler(_ context.Context, in adaptiveSettings) (diffusion.Sampler, error) {
	o := stochastic(in.Eta, in.Noise)
	o.Adaptive = &sampling.Adaptive{
		Order: in.Order, RTol: in.RTol, ATol: in.ATol, Step: in.Step, P: in.P, I: in.I, D: in.D, Safety: in.Safety,
	}
	return diffusion.Sampler{Name: "dpm_adaptive", Options: o}, nil
}

type sde2M struct {
	Solver solverName  `in:"solver_type"`
	Eta    float64     `in:"eta" range:"0,100,0.01" ui:"round=false"`
	Noise  float64     `in:"s_noise" range:"0,100,0.01" ui:"round=false"`
	Device noiseDevice `in:"noise_device"`
}

// onDevice is the name of a sampler whose noise is drawn on that device.
func (d noiseDevice) onDevice(name string) string {
	return strings.TrimSuffix(name+"_"+string(d), "_cpu")
}

func sde2MSampler(_ context.Context, in sde2M) (diffusion.Sampler, error) {
	o := stochastic(in.Eta, in.Noise)
	o.Heun = in.Solver == "heun"
	return diffusion.Sampler{Name: in.Device.onDevice("dpmpp_2m_sde"), Options: o}, nil
}

type sde3M struct {
	Eta    float64     `in:"eta" range:"0,100,0.01" ui:"round=false"`
	Noise  float64     `in:"s_noise" range:"0,100,0.01" ui:"round=false"`
	Device noiseDevice `in:"noise_device"`
}

func sde3MSampler(_ context.Context, in sde3M) (diffusion.Sampler, error) {
	return diffusion.Sampler{Name: in.Device.onDevice("dpmpp_3m_sde"), Options: stochastic(in.Eta, in.Noise)}, nil
}

type sde struct {
	Eta    float64     `in:"eta" range:"0,100,0.01" ui:"round=false"`
	Noise  float64     `in:"s_noise" range:"0,100,0.01" ui:"round=false"`
	R      float64     `in:"r" range:"0,100,0.01" ui:"round=false"`
	Device noiseDevice `in:"noise_device"`
}

func sdeSampler(_ context.Context, in sde) (diffusion.Sampler, error) {
	o := stochastic(in.Eta, in.Noise)
	o.R = in.R
	return diffusion.Sampler{Name: in.Device.onDevice("dpmpp_sde"), Options: o}, nil
}

func erSolvers() []string { return []string{"ER-SDE", "Reverse-time SDE", "ODE"} }

type erSDE struct {
	Solver erSolverName `in:"solver_type"`
	Stages int          `in:"max_stage" range:"1,3"`
	Eta    float64      `in:"eta" range:"0,100,0.01" ui:"round=false" doc:"Strength of the noise of the reverse-time SDE; the other kinds do not use it."`
	Noise  float64      `in:"s_noise" range:"0,100,0.01" ui:"round=false"`
}

func erSDESampler(_ context.Context, in erSDE) (diffusion.Sampler, error) {
	o := stochastic(in.Eta, in.Noise)
	o.Stages = in.Stages
	switch in.Solver {
	case "Reverse-time SDE":
		o.ERSolver = sampling.ReverseTime
	case "ODE":
		o.ERSolver = sampling.ODE
	}
	return diffusion.Sampler{Name: "er_sde", Options: o}, nil
}

type saSettings struct {
	Model     *diffusion.Model `in:"model"`
	Eta       float64          `in:"eta" range:"0,10,0.01" ui:"round=false"`
	Start     float64          `in:"sde_start_percent" range:"0,1,0.001"`
	End       float64          `in:"sde_end_percent" range:"0,1,0.001"`
	Noise     float64          `in:"s_noise" range:"0,100,0.01" ui:"round=false"`
	Predictor int              `in:"predictor_order" range:"1,6"`
	Corrector int              `in:"corrector_order" range:"0,6"`
	PECE      bool             `in:"use_pece" ui:"nodefault"`
	Simple    bool             `in:"simple_order_2" ui:"nodefault"`
}

// saSampler leaves the model aside: the run's own says what the percentages
// mean.
func saSampler(_ context.Context, in saSettings) (diffusion.Sampler, error) {
	o := stochastic(in.Eta, in.Noise)
	o.SA = &sampling.SA{
		Start: in.Start, End: in.End, Predictor: in.Predictor, Corrector: in.Corrector, SimpleOrder2: in.Simple, PECE: in.PECE,
	}
	return diffusion.Sampler{Name: "sa_solver", Options: o}, nil
}
