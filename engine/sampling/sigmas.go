package sampling

import (
	"math"
	"slices"
)

// This file holds the schedules that have nodes of their own, and what can be
// done to a schedule.

// Karras spaces the rho-th root of sigma evenly (Karras et al. 2022, formula 5).
func Karras(steps int, sigmaMin, sigmaMax, rho float64) []float32 {
	lo, hi := math.Pow(sigmaMin, 1/rho), math.Pow(sigmaMax, 1/rho)
	sigmas := append(linspace(0, 1, steps), 0)
	for i, r := range sigmas[:len(sigmas)-1] {
		v := float32(hi) + float32(r*float32(lo-hi))
		sigmas[i] = float32(math.Pow(float64(v), rho))
	}
	return sigmas
}

// Exponential spaces the logarithm of sigma evenly.
func Exponential(steps int, sigmaMin, sigmaMax float64) []float32 {
	sigmas := append(linspace(float32(math.Log(sigmaMax)), float32(math.Log(sigmaMin)), steps), 0)
	for i, v := range sigmas[:len(sigmas)-1] {
		sigmas[i] = exp32(v)
	}
	return sigmas
}

// Polyexponential spaces the rho-th root of the logarithm of sigma evenly.
func Polyexponential(steps int, sigmaMin, sigmaMax, rho float64) []float32 {
	lo, hi := math.Log(sigmaMin), math.Log(sigmaMax)
	sigmas := append(linspace(1, 0, steps), 0)
	for i, r := range sigmas[:len(sigmas)-1] {
		v := float32(math.Pow(float64(r), rho))
		sigmas[i] = exp32(float32(v*float32(hi-lo)) + float32(lo))
	}
	return sigmas
}

// Laplace is a Laplace distribution of log sigma (Hang and Gu 2024) with
// location Mu and scale Beta, cut to a range of sigma.
type Laplace struct{ SigmaMin, SigmaMax, Mu, Beta float64 }

// Schedule follows the distribution's quantiles. It does not end in 0.
func (l Laplace) Schedule(steps int) []float32 {
	sigmas := linspace(0, 1, steps)
	for i, x := range sigmas {
		d := 0.5 - float64(x)
		v := math.Log(1 - 2*math.Abs(d) + 1e-5)
		switch {
		case d < 0:
			v = -v
		case d == 0:
			v = 0
		}
		sigmas[i] = float32(min(max(math.Exp(l.Mu-l.Beta*v), l.SigmaMin), l.SigmaMax))
	}
	return sigmas
}

// VP spaces the time of a variance preserving process evenly, down to eps (Song
// et al. 2021).
func VP(steps int, betaD, betaMin, eps float64) []float32 {
	sigmas := append(linspace(1, float32(eps), steps), 0)
	for i, t := range sigmas[:len(sigmas)-1] {
		x := float64(t)
		sigmas[i] = float32(math.Sqrt(math.Expm1(betaD*x*x/2 + betaMin*x)))
	}
	return sigmas
}

// Beta follows the quantiles of a beta distribution over the model's table (Lee
// et al. 2024), without repetitions. alpha and beta must be positive.
func Beta(m *Model, steps int, alpha, beta float64) []float32 {
	sigmas, last := make([]float32, 0, steps+1), -1
	for j := range steps {
		q := betaQuantile(1-float64(j)/float64(steps), alpha, beta)
		i := int(math.RoundToEven(q * float64(len(m.sigmas)-1)))
		if i != last {
			sigmas = append(sigmas, m.sigmas[i])
		}
		last = i
	}
	return append(sigmas, 0)
}

// SDTurbo returns the levels of the timesteps 999, 899, … 99 that a distilled
// model was trained for; denoise below 1 leaves out the first ones.
func SDTurbo(m *Model, steps int, denoise float64) []float32 {
	start := max(0, 10-int(10*denoise))
	var sigmas []float32
	for i := start; i < min(10, start+steps); i++ {
		sigmas = append(sigmas, m.Sigma(float32(999-100*i)))
	}
	return append(sigmas, 0)
}

// alignedSteps are the published levels of Align Your Steps (Sabour et al. 2024).
func alignedSteps(model string) []float64 {
	switch model {
	case "SD1":
		return []float64{14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177,
			1.3943805092, 0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582}
	case "SDXL":
		return []float64{14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945,
			0.8620721141, 0.5550693289, 0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582}
	case "SVD":
		return []float64{700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002}
	}
	return nil
}

// AlignYourSteps returns the optimised levels for "SD1", "SDXL" or "SVD",
// interpolated by logarithm for other numbers of steps than 10; denoise below 1
// keeps the end only. An unknown model, denoise 0 and no steps
// give an empty list.
func AlignYourSteps(model string, steps int, denoise float64) []float32 {
	return interpolated(alignedSteps(model), steps, denoise)
}

// OptimalSteps returns the published schedule of a flow model, FLUX, Wan or
// Chroma, as AlignYourSteps does.
// Source: Pei et al., Optimal Stepsize for Diffusion Sampling, 2025,
// https://github.com/bebebe666/OptimalSteps.
func OptimalSteps(model string, steps int, denoise float64) []float32 {
	return interpolated(optimalSteps(model), steps, denoise)
}

func optimalSteps(model string) []float64 {
	switch model {
	case "FLUX":
		return []float64{0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808, 0.001}
	case "Wan":
		return []float64{1, 0.997, 0.995, 0.993, 0.991, 0.989, 0.987, 0.985, 0.98, 0.975,
			0.973, 0.968, 0.96, 0.946, 0.927, 0.902, 0.864, 0.776, 0.539, 0.208, 0.001}
	case "Chroma":
		return []float64{0.992, 0.99, 0.988, 0.985, 0.982, 0.978, 0.973, 0.968, 0.961, 0.953,
			0.943, 0.931, 0.917, 0.9, 0.881, 0.858, 0.832, 0.802, 0.769, 0.731,
			0.69, 0.646, 0.599, 0.55, 0.501, 0.451, 0.402, 0.355, 0.311, 0.27,
			0.232, 0.199, 0.169, 0.143, 0.12, 0.101, 0.084, 0.07, 0.058, 0.048, 0.001}
	}
	return nil
}

// interpolated returns the last part of a published schedule, whose logarithm
// is interpolated for other numbers of steps.
func interpolated(published []float64, steps int, denoise float64) []float32 {
	total := steps
	if denoise < 1 {
		total = int(math.RoundToEven(float64(steps) * denoise))
	}
	if published == nil || denoise <= 0 || steps < 1 {
		return nil
	}
	last := len(published) - 1
	sigmas := make([]float32, steps+1)
	for i := range sigmas {
		at := float64(i) * float64(last) / float64(steps)
		lo := min(int(at), last-1)
		w := at - float64(lo)
		sigmas[i] = float32(math.Exp((1-w)*math.Log(published[lo]) + w*math.Log(published[lo+1])))
	}
	sigmas[steps] = 0
	return sigmas[steps-total:]
}

// LTX is the schedule of LTX-Video: levels of a flow, evenly spaced and shifted.
// https://github.com/Lightricks/LTX-Video
type LTX struct {
	Mu float64 // see TokenMu
	// Stretch spreads the levels below 1 so that the last one above 0 is Terminal.
	Stretch  bool
	Terminal float64
}

// Schedule returns the levels of a number of steps, and 0.
func (l LTX) Schedule(steps int) []float32 {
	if steps < 1 {
		return nil
	}
	sigmas := make([]float32, steps+1)
	e := math.Exp(l.Mu)
	at := func(i int) float64 { return e / (e + (float64(steps)/float64(steps-i) - 1)) }
	spread := 1.0
	if l.Stretch {
		spread = (1 - at(steps-1)) / (1 - l.Terminal)
	}
	for i := range steps {
		sigmas[i] = float32(1 - (1-at(i))/spread)
	}
	return sigmas
}

// Split cuts a schedule at a step; the level there belongs to both parts.
func Split(sigmas []float32, step int) (high, low []float32) {
	step = max(step, 0)
	return sigmas[:min(step+1, len(sigmas))], sigmas[min(step, len(sigmas)):]
}

// SplitDenoise cuts a schedule so that the low part is that fraction of the steps.
func SplitDenoise(sigmas []float32, denoise float64) (high, low []float32) {
	n := max(len(sigmas)-1, 0)
	keep := min(max(int(math.RoundToEven(float64(n)*denoise)), 0), n)
	if keep == 0 {
		return nil, sigmas[n:]
	}
	return sigmas[:len(sigmas)-keep], sigmas[n-keep:]
}

// Flip reverses a schedule, for turning a picture into noise; a first level of 0
// becomes 0.0001.
func Flip(sigmas []float32) []float32 {
	out := slices.Clone(sigmas)
	slices.Reverse(out)
	if len(out) > 0 && out[0] == 0 {
		out[0] = 0.0001
	}
	return out
}

// Spacing is how levels are put between two others.
type Spacing string

// The spacings; cosine starts with large steps, sine with small ones.
const (
	Linear Spacing = "linear"
	Cosine Spacing = "cosine"
	Sine   Spacing = "sine"
)

// Extension makes several steps of one.
type Extension struct {
	Steps      int     // in the place of one
	Start, End float64 // only steps that begin at a level in [End, Start]; a negative Start is no limit
	Spacing    Spacing
}

// Extend returns the schedule with more levels.
func (e Extension) Extend(sigmas []float32) []float32 {
	start := e.Start
	if start < 0 {
		start = math.Inf(1)
	}
	var out []float32
	for i, v := range sigmas {
		out = append(out, v)
		if i == len(sigmas)-1 || float64(v) > start || float64(v) < e.End {
			continue
		}
		for k := 1; k < e.Steps; k++ {
			w := e.Spacing.at(float64(k) / float64(e.Steps))
			out = append(out, float32(float64(v)+w*(float64(sigmas[i+1])-float64(v))))
		}
	}
	return out
}

// at maps [0, 1] to [0, 1].
func (s Spacing) at(x float64) float64 {
	switch s {
	case Cosine:
		return math.Sin(x * math.Pi / 2)
	case Sine:
		return 1 - math.Cos(x*math.Pi/2)
	}
	return x
}
