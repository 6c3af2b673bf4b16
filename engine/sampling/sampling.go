// Package sampling turns noise into a picture's latent: it makes the noise,
// the list of noise levels, and walks down that list with a sampler, asking a
// Denoiser at every level what the clean latent looks like.
//
// Vocabulary:
//
//   - sigma (σ): noise level of a state, the standard deviation of its noise.
//   - state (x): the noisy latent, float32, usually [batch, channel, height, width].
//   - prediction (den): the Denoiser's guess of the clean latent, also called x0.
//   - unconditional prediction (unc): the same guess without the prompt; only
//     the CFG++ samplers look at it.
//   - model sampling: what a network's input and output mean at a sigma, and how
//     sigmas relate to its timesteps; here the type Model.
//   - schedule: a descending list of sigmas, normally ending in 0. A list of
//     n+1 sigmas means n steps.
//   - eta (η): how much of each step is random; noise scale: a factor on that noise.
//
// States are float32 and are changed in float32. Scalars that are derived from
// sigmas (log-SNR, step weights) are computed in float64 and rounded once when
// they meet the state.
//
// Everything here reproduces ComfyUI 0.3.64 on a CPU; the tests compare with
// numbers that it gave.
package sampling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Denoised is the answer of one guided model call.
type Denoised struct {
	X      *tensor.Tensor // prediction, shape of the state
	Uncond *tensor.Tensor // unconditional prediction; set when NeedsUncond says so
}

// Denoiser is one guided model call: it predicts the clean latent from state x
// at noise level sigma. It must not keep or change x. The tensors it returns
// belong to the sampler from then on, which may keep them until the run ends.
type Denoiser func(ctx context.Context, x *tensor.Tensor, sigma float32) (Denoised, error)

// Step is reported after the first model call of every step.
type Step struct {
	Index, Total int
	Sigma        float32        // level at which the model was asked
	X            *tensor.Tensor // state; valid only during the callback
	Denoised     *tensor.Tensor // prediction; must not be changed
}

// Run is one sampling run.
type Run struct {
	Model   *Model
	Sampler string // one of Samplers()
	Options Options
	Sigmas  []float32      // descending; not modified
	X       *tensor.Tensor // state at Sigmas[0] (see Model.NoiseScaling); not modified
	Seed    uint64         // seed of the initial noise, reused for the noise of the steps
	OnStep  func(Step)     // nil: nobody listens
}

// sampler is one entry of the list of samplers.
type sampler struct {
	name   string
	churn  bool // honours Options.Churn
	uncond bool // asks for the unconditional prediction
	solve  func(ctx context.Context, s *state) error
}

// table lists all samplers in the order in which ComfyUI offers them.
func table() []sampler {
	return []sampler{
		{name: "euler", churn: true, solve: steps(euler)},
		{name: "euler_cfg_pp", uncond: true, solve: steps(eulerCFG)},
		{name: "euler_ancestral", solve: steps(eulerAncestral)},
		{name: "euler_ancestral_cfg_pp", uncond: true, solve: steps(eulerAncestralCFG)},
		{name: "heun", churn: true, solve: steps(heun)},
		{name: "heunpp2", churn: true, solve: steps(heun3)},
		{name: "dpm_2", churn: true, solve: steps(dpm2)},
		{name: "dpm_2_ancestral", solve: steps(dpm2Ancestral)},
		{name: "lms", solve: steps(lms)},
		{name: "dpm_fast", solve: dpmFast},
		{name: "dpm_adaptive", solve: dpmAdaptive},
		{name: "dpmpp_2s_ancestral", solve: steps(dpmpp2s)},
		{name: "dpmpp_2s_ancestral_cfg_pp", uncond: true, solve: steps(dpmpp2sCFG)},
		{name: "dpmpp_sde", solve: steps(dpmppSDE)},
		{name: "dpmpp_sde_gpu", solve: steps(dpmppSDE)},
		{name: "dpmpp_2m", solve: steps(dpmpp2m)},
		{name: "dpmpp_2m_cfg_pp", uncond: true, solve: steps(dpmpp2mCFG)},
		{name: "dpmpp_2m_sde", solve: steps(dpmpp2mSDE)},
		{name: "dpmpp_2m_sde_gpu", solve: steps(dpmpp2mSDE)},
		{name: "dpmpp_2m_sde_heun", solve: steps(dpmpp2mSDEHeun)},
		{name: "dpmpp_2m_sde_heun_gpu", solve: steps(dpmpp2mSDEHeun)},
		{name: "dpmpp_3m_sde", solve: steps(dpmpp3mSDE)},
		{name: "dpmpp_3m_sde_gpu", solve: steps(dpmpp3mSDE)},
		{name: "ddpm", solve: steps(ddpm)},
		{name: "lcm", solve: steps(lcm)},
		{name: "ipndm", solve: steps(ipndm)},
		{name: "ipndm_v", solve: steps(ipndmV)},
		{name: "deis", solve: steps(deis)},
		{name: "res_multistep", solve: steps(resMultistep)},
		{name: "res_multistep_cfg_pp", uncond: true, solve: steps(resMultistep)},
		{name: "res_multistep_ancestral", solve: steps(resMultistepAncestral)},
		{name: "res_multistep_ancestral_cfg_pp", uncond: true, solve: steps(resMultistepAncestral)},
		{name: "gradient_estimation", solve: steps(gradientEstimation)},
		{name: "gradient_estimation_cfg_pp", uncond: true, solve: steps(gradientEstimation)},
		{name: "er_sde", solve: steps(erSDE)},
		{name: "seeds_2", solve: steps(seeds2)},
		{name: "seeds_3", solve: steps(seeds3)},
		{name: "sa_solver", solve: saSolver},
		{name: "sa_solver_pece", solve: saSolverPECE},
		{name: "ddim", churn: true, solve: steps(euler)},
		{name: "uni_pc", solve: uniPC},
		{name: "uni_pc_bh2", solve: uniPCBH2},
	}
}

// Samplers lists the sampler names in the order in which ComfyUI offers them.
// A name that ends in _gpu means the same as without: it chose the device of
// the noise.
func Samplers() []string {
	all := table()
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.name
	}
	return names
}

// find returns the sampler of that name.
func find(name string) (sampler, error) {
	all := table()
	i := slices.IndexFunc(all, func(s sampler) bool { return s.name == name })
	if i < 0 {
		return sampler{}, fmt.Errorf("find sampler %q: allowed are %s", name, strings.Join(Samplers(), ", "))
	}
	return all[i], nil
}

// NeedsUncond reports whether the sampler reads Denoised.Uncond. The
// unconditional prediction is then wanted at every guidance scale, also at 1.
func NeedsUncond(name string) bool {
	s, err := find(name)
	return err == nil && s.uncond
}

// FinalSigma returns the noise level at which a sampler really stops, the
// argument of Model.InverseNoiseScaling: the last sigma, except that the uni_pc
// samplers stop at 0.001 instead of 0. An empty list gives 0.
func FinalSigma(name string, sigmas []float32) float32 {
	if len(sigmas) == 0 {
		return 0
	}
	last := sigmas[len(sigmas)-1]
	if last == 0 && strings.HasPrefix(name, "uni_pc") {
		return uniPCEnd
	}
	return last
}

// Sample walks from r.X at the first sigma to the last one and returns the
// state there, in a tensor of its own, before inverse noise scaling. Fewer than
// two sigmas mean no step: the result is a copy of r.X. The context is looked
// at before every model call.
func Sample(ctx context.Context, r Run, d Denoiser) (*tensor.Tensor, error) {
	alg, err := find(r.Sampler)
	if err != nil {
		return nil, err
	}
	if r.Model == nil || r.X == nil || d == nil {
		return nil, errors.New("sample: model, state and denoiser are needed")
	}
	if len(r.X.Data) != r.X.Shape.Elements() {
		return nil, fmt.Errorf("sample: state has %d elements for shape %v", len(r.X.Data), r.X.Shape)
	}
	s := newState(r, alg, d)
	if len(s.sigmas) < 2 {
		return s.result(), nil
	}
	if err := alg.solve(ctx, s); err != nil {
		return nil, fmt.Errorf("sample with %s: %w", r.Sampler, err)
	}
	return s.result(), nil
}
