package sampling

import "math"

// Options are the settings of samplers. The zero value means what ComfyUI's
// KSampler node means. A sampler ignores the settings that it does not have.
type Options struct {
	// Eta is the share of randomness of ancestral and SDE samplers; nil is the
	// sampler's default: 1, but 0 for dpm_adaptive and res_multistep.
	Eta *float64
	// NoiseScale multiplies the noise of the steps (s_noise); nil is 1.
	NoiseScale *float64
	// Churn adds noise before a step of euler, heun, heunpp2 and dpm_2.
	Churn Churn
	// Order limits how many past predictions lms, ipndm, ipndm_v and deis
	// use; 0 is the default: 4, for deis 3.
	Order int
	// R is the place of the first inner evaluation of dpmpp_sde, seeds_2
	// (default 1/2) and seeds_3 (default 1/3), in (0, 1]; 0 is the default.
	R float64
	// R2 is the second place for seeds_3; 0 is 2/3.
	R2 float64
	// Heun makes dpmpp_2m_sde correct with Heun's weights instead of the midpoint's.
	Heun bool
	// Mirrored makes euler_cfg_pp follow the slope of the state moved from the
	// prediction to the unconditional one, down to the prediction.
	Mirrored bool
	// Stages limits er_sde to 1, 2 or 3 stages; 0 is 3.
	Stages int
	// ERSolver selects the noise of er_sde.
	ERSolver ERSolver
	// Gamma is the extrapolation of gradient_estimation; 0 is 2.
	Gamma float64
	// Adaptive steers dpm_adaptive; nil is DefaultAdaptive.
	Adaptive *Adaptive
	// SA steers sa_solver; nil is DefaultSA.
	SA *SA
}

// Churn is the stochasticity of Karras et al. 2022, algorithm 2: before a step
// from a sigma in [Min, Max] the state gets noise that raises sigma by the
// factor 1+min(Amount/steps, √2-1).
type Churn struct {
	Amount float64
	Min    float64
	Max    float64 // 0: no upper limit
}

// Adaptive holds the settings of dpm_adaptive.
type Adaptive struct {
	Order      int     // 2 or 3
	RTol, ATol float64 // relative and absolute error per step
	Step       float64 // first step, in log sigma
	P, I, D    float64 // coefficients of the step size controller
	Safety     float64 // a step is accepted from this factor on
}

// DefaultAdaptive returns the settings of the sampler name dpm_adaptive.
func DefaultAdaptive() Adaptive {
	return Adaptive{Order: 3, RTol: .05, ATol: .0078, Step: .05, I: 1, Safety: .81}
}

// SA holds the settings of sa_solver: noise is added between two places of the
// denoising, given as fractions of it. Its strength is Options.Eta.
type SA struct {
	Start, End           float64 // fractions in [0, 1]
	Predictor, Corrector int     // orders; Corrector 0 leaves it out
	SimpleOrder2         bool    // simpler weights where the order is 2
	PECE                 bool    // evaluate again after correcting
}

// DefaultSA returns the settings of the sampler name sa_solver.
func DefaultSA() SA { return SA{Start: .2, End: .8, Predictor: 3, Corrector: 4} }

// ERSolver selects the noise scaling function of er_sde (Cui et al. 2023).
type ERSolver int

// The noise scaling functions of er_sde.
const (
	ERSDE       ERSolver = iota // v·(exp(v^0.3)+10), the paper's best
	ReverseTime                 // v^(1+η): the reverse-time SDE
	ODE                         // v: no noise
)

func (o Options) eta(fallback float64) float64 {
	if o.Eta == nil {
		return fallback
	}
	return *o.Eta
}

func (o Options) noiseScale() float64 {
	if o.NoiseScale == nil {
		return 1
	}
	return *o.NoiseScale
}

func (o Options) order(fallback int) int {
	if o.Order <= 0 {
		return fallback
	}
	return o.Order
}

func orDefault(v, fallback float64) float64 {
	if v == 0 {
		return fallback
	}
	return v
}

// factor returns by how much a step of a run of n steps raises sigma.
func (c Churn) factor(sigma float64, n int) float64 {
	limit := orDefault(c.Max, math.Inf(1))
	if c.Amount <= 0 || sigma < c.Min || sigma > limit {
		return 1
	}
	return 1 + min(c.Amount/float64(n), math.Sqrt2-1)
}
