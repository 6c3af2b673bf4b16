package sampling

import (
	"math"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// InputScale returns the factor between the state at sigma and the network's
// input.
func (m *Model) InputScale(sigma float32) float32 {
	if m.prediction == Flow || m.prediction == ImgToImg {
		return 1
	}
	s := float64(sigma)
	return float32(1 / math.Sqrt(s*s+m.sigmaData*m.sigmaData))
}

// Denoise turns the network's output, in out, into the prediction, in place. x
// is the state at sigma, of the same length.
func (m *Model) Denoise(x, out []float32, sigma float32) {
	if m.prediction == X0 || m.prediction == ImgToImg {
		return
	}
	keep, gain := m.weights(sigma)
	for i, o := range out {
		out[i] = float32(keep*x[i]) + float32(gain*o)
	}
}

// weights returns the factors of state and network output in the prediction.
func (m *Model) weights(sigma float32) (keep, gain float32) {
	s, sd := float64(sigma), m.sigmaData
	total := s*s + sd*sd
	switch m.prediction {
	case VPrediction:
		return float32(sd * sd / total), float32(-s * sd / math.Sqrt(total))
	case EDM:
		return float32(sd * sd / total), float32(s * sd / math.Sqrt(total))
	case LCM:
		t := 10 * float64(m.Timestep(sigma))
		skip, out := 0.25/(t*t+0.25), t/math.Sqrt(t*t+0.25)
		return float32(out + skip), float32(-out * s)
	}
	return 1, -sigma
}

// MaxDenoise reports whether a run that starts at this sigma starts from pure
// noise: at the model's highest level or above.
func (m *Model) MaxDenoise(sigma float32) bool {
	s, top := float64(sigma), float64(m.SigmaMax())
	return s > top || math.Abs(s-top) <= 1e-5*max(s, top)
}

// NoiseScaling returns the state at sigma that unit noise and a clean latent of
// the same shape make. maxDenoise (see MaxDenoise) accounts for the deviation of
// the data, which a run from pure noise has to bring along.
func (m *Model) NoiseScaling(sigma float32, noise, latent *tensor.Tensor, maxDenoise bool) *tensor.Tensor {
	out := tensor.New(noise.Shape...)
	m.addNoise(out.Data, sigma, noise.Data, latent.Data)
	if maxDenoise && m.prediction != Flow {
		mix(out.Data, math.Sqrt(float64(1+float32(sigma*sigma))), noise.Data, 1, latent.Data)
	}
	return out
}

// addNoise is NoiseScaling without maxDenoise, into dst.
func (m *Model) addNoise(dst []float32, sigma float32, noise, latent []float32) {
	keep := 1.0
	if m.prediction == Flow {
		keep = 1 - float64(sigma)
	}
	mix(dst, float64(sigma), noise, keep, latent)
}

// InverseNoiseScaling returns the latent of the state at which a run stopped, at
// noise level sigma (see FinalSigma).
func (m *Model) InverseNoiseScaling(sigma float32, x *tensor.Tensor) *tensor.Tensor {
	out := x.Clone()
	if m.prediction == Flow && sigma != 0 {
		for i := range out.Data {
			out.Data[i] /= 1 - sigma
		}
	}
	return out
}

// flow reports whether states mix noise and latent instead of adding them.
func (m *Model) flow() bool { return m.prediction == Flow }

// lambda returns half the log signal-to-noise ratio at sigma.
func (m *Model) lambda(sigma float64) float64 {
	if m.flow() {
		return math.Log((1 - sigma) / sigma)
	}
	return -math.Log(sigma)
}

// sigmaOf is the inverse of lambda.
func (m *Model) sigmaOf(lambda float64) float64 {
	if m.flow() {
		return 1 / (1 + math.Exp(lambda))
	}
	return math.Exp(-lambda)
}

// alpha returns the factor of the clean latent in the state at sigma.
func (m *Model) alpha(sigma float64) float64 {
	if m.flow() {
		return 1 - sigma
	}
	return 1
}
