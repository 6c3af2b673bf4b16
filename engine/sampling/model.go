package sampling

import (
	"fmt"
	"math"
)

// Prediction says what the network's output means.
type Prediction int

// The kinds of network output. sd is the deviation of the data, 1 unless the
// model says otherwise; x the state, o the output.
const (
	EPS         Prediction = iota // noise: den = x - σ·o (Ho et al. 2020)
	VPrediction                   // velocity: den = x·sd²/(σ²+sd²) - o·σ·sd/√(σ²+sd²) (Salimans and Ho 2022)
	EDM                           // den = x·sd²/(σ²+sd²) + o·σ·sd/√(σ²+sd²) (Karras et al. 2022)
	X0                            // den = o, input scaled
	ImgToImg                      // den = o, input as it is
	Flow                          // rectified flow: den = x - σ·o, x = σ·noise + (1-σ)·latent (Liu et al. 2022)
	LCM                           // noise with the boundary condition of latent consistency models (Luo et al. 2023)
)

// String returns ComfyUI's name of the prediction.
func (p Prediction) String() string {
	names := []string{"eps", "v_prediction", "edm", "x0", "img_to_img", "flow", "lcm"}
	if p < 0 || int(p) >= len(names) {
		return fmt.Sprintf("prediction %d", int(p))
	}
	return names[p]
}

// timeScale is how a model's sigmas and timesteps relate.
type timeScale int

const (
	discrete    timeScale = iota // 1000 trained levels, integer timesteps
	distilled                    // 50 of them (LCM)
	logSigma                     // timestep = log(σ)/4
	arcTangent                   // timestep = atan(σ)·2/π
	shiftedFlow                  // σ = S(shift, t/multiplier)
	fluxFlow                     // σ = F(shift, t)
	cosine                       // σ² = (1-ā)/ā, ā a squared cosine of t
)

// Model is a network's model sampling: which sigmas it was trained for, how they
// relate to its timesteps, and what its input and output mean. It does not
// change once made; the zero value is not usable.
type Model struct {
	prediction Prediction
	scale      timeScale
	sigmaData  float64
	shift      float64 // of flows
	multiplier float64 // timesteps per unit of σ of flows
	sigmas     []float32
	logs       []float32 // log of sigmas; discrete and distilled only
}

// Levels of the training of Stable Diffusion (Rombach et al. 2022): 1000 betas,
// whose roots are spaced evenly.
const (
	trainSteps = 1000
	betaStart  = 0.00085
	betaEnd    = 0.012
)

// lcmStride is the distance of the levels that consistency distillation kept.
const lcmStride = 20

// NewDiscrete returns the model sampling of SD1, SD2 and SDXL: 1000 noise levels
// and integer timesteps. With zsnr the levels are rescaled so that the last one
// is nearly pure noise (Lin et al. 2023, zero terminal SNR). LCM keeps 50 of them.
func NewDiscrete(p Prediction, zsnr bool) *Model {
	sigmas := trainedSigmas()
	if zsnr {
		rescaleTerminal(sigmas)
	}
	m := &Model{prediction: p, scale: discrete, sigmaData: 1}
	if p == LCM {
		m.scale = distilled
		sigmas = everyNth(sigmas)
	}
	for _, s := range sigmas {
		m.sigmas = append(m.sigmas, float32(s))
		m.logs = append(m.logs, float32(math.Log(s)))
	}
	return m
}

// NewLCM returns the model sampling of latent consistency models.
func NewLCM(zsnr bool) *Model { return NewDiscrete(LCM, zsnr) }

// NewContinuousEDM returns the model sampling of networks that take log(σ)/4 as
// their timestep (Karras et al. 2022). CosXL: VPrediction, 0.002, 120, 1.
// Playground 2.5: EDM, 0.002, 80, 0.5.
func NewContinuousEDM(p Prediction, sigmaMin, sigmaMax, sigmaData float64) *Model {
	return continuous(&Model{prediction: p, scale: logSigma, sigmaData: sigmaData}, sigmaMin, sigmaMax)
}

// NewContinuousV returns the model sampling of networks that take atan(σ)·2/π as
// their timestep and predict the velocity.
func NewContinuousV(sigmaMin, sigmaMax float64) *Model {
	return continuous(&Model{prediction: VPrediction, scale: arcTangent, sigmaData: 1}, sigmaMin, sigmaMax)
}

// continuous fills the table of sigmas, which schedulers use.
func continuous(m *Model, sigmaMin, sigmaMax float64) *Model {
	m.sigmas = linspace(float32(math.Log(sigmaMin)), float32(math.Log(sigmaMax)), trainSteps)
	for i, v := range m.sigmas {
		m.sigmas[i] = exp32(v)
	}
	return m
}

// NewDiscreteFlow returns the model sampling of rectified flows with shifted
// levels (Esser et al. 2024): SD3 3 and 1000, Flux schnell 1 and 1, AuraFlow
// 1.73 and 1.
func NewDiscreteFlow(shift, multiplier float64) *Model {
	m := &Model{prediction: Flow, scale: shiftedFlow, sigmaData: 1, shift: shift, multiplier: multiplier}
	return m.fillFlow(trainSteps)
}

// NewFlux returns the model sampling of Flux dev; mu is 1.15 for the released
// model at every resolution.
func NewFlux(mu float64) *Model {
	m := &Model{prediction: Flow, scale: fluxFlow, sigmaData: 1, shift: mu, multiplier: 1}
	return m.fillFlow(10000)
}

// cascadeLevels is how many levels the table of NewCascade has.
const cascadeLevels = 10000

// NewCascade returns the model sampling of Stable Cascade: a cosine schedule
// whose logarithmic signal-to-noise ratio is lowered by 2·log(shift), times
// between 0 and 1 (Nichol and Dhariwal 2021; Pernias et al., Würstchen, 2023;
// Hoogeboom et al. 2023 for the shift). The shift does not reach the times.
func NewCascade(shift float64) *Model {
	m := &Model{prediction: EPS, scale: cosine, sigmaData: 1, shift: shift, sigmas: make([]float32, cascadeLevels)}
	for i := range m.sigmas {
		m.sigmas[i] = float32(m.cosineSigma(float64(i+1) / cascadeLevels))
	}
	return m
}

// cosineOffset keeps the noise of the first steps from being too small.
const cosineOffset = 0.008

// cosineStart is ā at time 0, by which that of other times is divided.
func cosineStart() float64 {
	c := math.Cos(cosineOffset / (1 + cosineOffset) * math.Pi / 2)
	return c * c
}

func (m *Model) cosineSigma(t float64) float64 {
	const least = 0.0001 // of what is signal, and of what is noise
	c := math.Cos((t + cosineOffset) / (1 + cosineOffset) * math.Pi / 2)
	signal := c * c / cosineStart()
	if m.shift != 1 {
		ratio := math.Log(signal/(1-signal)) + 2*math.Log(1/m.shift)
		signal = 1 / (1 + math.Exp(-ratio))
	}
	signal = min(max(signal, least), 1-least)
	return math.Sqrt((1 - signal) / signal)
}

func cosineTime(sigma float64) float64 {
	signal := 1 / (sigma*sigma + 1)
	return math.Acos(math.Sqrt(signal*cosineStart()))/(math.Pi/2)*(1+cosineOffset) - cosineOffset
}

// FluxMu returns the mu that the ModelSamplingFlux node derives from the size of
// the picture in pixels: base at 256×256, max at 1024×1024, linear in the area.
func FluxMu(maxShift, baseShift float64, width, height int) float64 {
	m := (maxShift - baseShift) / (4096 - 256)
	b := baseShift - m*256
	return float64(width)*float64(height)/(8*8*2*2)*m + b
}

// TokenMu returns the mu that LTX-Video derives from the number of latent pixels:
// base at 1024, max at 4096, linear.
// https://github.com/Lightricks/LTX-Video
func TokenMu(maxShift, baseShift float64, tokens int) float64 {
	m := (maxShift - baseShift) / (4096 - 1024)
	return float64(tokens)*m + baseShift - m*1024
}

func (m *Model) fillFlow(n int) *Model {
	m.sigmas = make([]float32, n)
	for i := range m.sigmas {
		m.sigmas[i] = m.shifted(float32(i+1) / float32(n))
	}
	return m
}

// shifted moves a time in [0, 1] towards 1. It works in float32 because its
// results are entries of the table.
func (m *Model) shifted(t float32) float32 {
	if m.scale == fluxFlow {
		e := math.Exp(m.shift)
		return float32(e) / float32(float32(e)+(1/t-1))
	}
	if m.shift == 1 {
		return t
	}
	return float32(float32(m.shift)*t) / (1 + float32(float32(m.shift-1)*t))
}

// trainedSigmas returns √((1-ā)/ā), ā the running product of 1-beta.
func trainedSigmas() []float64 {
	sigmas := make([]float64, trainSteps)
	lo, hi := math.Sqrt(betaStart), math.Sqrt(betaEnd)
	step, product := (hi-lo)/(trainSteps-1), 1.0
	for i := range sigmas {
		root := lo + float64(step*float64(i))
		if i >= trainSteps/2 {
			root = hi - float64(step*float64(trainSteps-1-i))
		}
		product *= 1 - float64(root*root)
		sigmas[i] = math.Sqrt((1 - product) / product)
	}
	return sigmas
}

// rescaleTerminal makes the last sigma nearly infinite and keeps the first.
func rescaleTerminal(sigmas []float64) {
	const last = 4.8973451890853435e-08 // the squared signal that is left at the end
	root := func(s float64) float64 { return math.Sqrt(1 / (s*s + 1)) }
	n := len(sigmas)
	first, end := root(sigmas[0]), root(sigmas[n-1])
	for i, s := range sigmas {
		r := (root(s) - end) * first / (first - end)
		signal := r * r
		if i == n-1 {
			signal = last
		}
		sigmas[i] = math.Sqrt((1 - signal) / signal)
	}
}

// everyNth keeps the levels 19, 39, … 999.
func everyNth(sigmas []float64) []float64 {
	var kept []float64
	for i := lcmStride - 1; i < len(sigmas); i += lcmStride {
		kept = append(kept, sigmas[i])
	}
	return kept
}

// Prediction returns what the network's output means.
func (m *Model) Prediction() Prediction { return m.prediction }

// String names the model sampling with its numbers; two of the same name are
// the same.
func (m *Model) String() string {
	return fmt.Sprintf("%s %d %g..%g data %g shift %g·%g", m.prediction, m.scale, m.SigmaMin(), m.SigmaMax(), m.sigmaData, m.shift, m.multiplier)
}

// SigmaMin returns the lowest trained noise level.
func (m *Model) SigmaMin() float32 { return m.sigmas[0] }

// SigmaMax returns the highest trained noise level.
func (m *Model) SigmaMax() float32 { return m.sigmas[len(m.sigmas)-1] }

// Timestep returns what the network gets as its time at a noise level. Discrete
// models round to the nearest trained level.
func (m *Model) Timestep(sigma float32) float32 {
	switch m.scale {
	case discrete:
		return float32(m.nearest(sigma))
	case distilled:
		return float32(m.nearest(sigma)*lcmStride + lcmStride - 1)
	case logSigma:
		return 0.25 * log(sigma)
	case arcTangent:
		return float32(math.Atan(float64(sigma)) / math.Pi * 2)
	case cosine:
		return float32(cosineTime(float64(sigma)))
	}
	return sigma * float32(m.multiplier)
}

// nearest returns the index of the trained level next to sigma, by logarithm.
func (m *Model) nearest(sigma float32) int {
	want, best, index := log(sigma), float32(math.Inf(1)), 0
	for i, l := range m.logs {
		if d := float32(math.Abs(float64(want - l))); d < best {
			best, index = d, i
		}
	}
	return index
}

// Sigma returns the noise level at timestep t, which may lie between trained
// ones. It is not the inverse of Timestep for shifted flows.
func (m *Model) Sigma(t float32) float32 {
	switch m.scale {
	case discrete:
		return m.between(t)
	case distilled:
		return m.between((t - (lcmStride - 1)) / lcmStride)
	case logSigma:
		return exp32(t / 0.25)
	case arcTangent:
		return float32(math.Tan(float64(t * math.Pi / 2)))
	case cosine:
		return float32(m.cosineSigma(float64(t)))
	}
	return m.shifted(t / float32(m.multiplier))
}

// between interpolates the logarithm at a fractional index of the table.
func (m *Model) between(t float32) float32 {
	t = min(max(t, 0), float32(len(m.logs)-1))
	lo := float32(math.Floor(float64(t)))
	hi, w := float32(math.Ceil(float64(t))), t-lo
	return exp32(float32((1-w)*m.logs[int(lo)]) + float32(w*m.logs[int(hi)]))
}

// PercentToSigma returns the noise level after a fraction p of the denoising. At
// p <= 0 that is a number above every sigma, at p >= 1 it is 0.
func (m *Model) PercentToSigma(p float64) float64 {
	flow := m.prediction == Flow
	switch {
	case p <= 0 && flow:
		return 1
	case p <= 0:
		return 999999999.9
	case p >= 1:
		return 0
	case flow:
		return m.shifted64(1 - p)
	case m.scale == logSigma || m.scale == arcTangent:
		lo, hi := math.Log(float64(m.SigmaMin())), math.Log(float64(m.SigmaMax()))
		return math.Exp((1-p)*(hi-lo) + lo)
	}
	if m.scale == cosine {
		return m.cosineSigma(1 - p)
	}
	return float64(m.Sigma(float32((1 - p) * (trainSteps - 1))))
}

// shifted64 is shifted for numbers that are not entries of the table.
func (m *Model) shifted64(t float64) float64 {
	if m.scale == fluxFlow {
		e := math.Exp(m.shift)
		return e / (e + (1/t - 1))
	}
	return m.shift * t / (1 + (m.shift-1)*t)
}

func exp32(v float32) float32 { return float32(math.Exp(float64(v))) }

func log(v float32) float32 { return float32(math.Log(float64(v))) }
