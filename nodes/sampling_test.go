package nodes

import (
	"math"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

func TestSetFirstSigma(t *testing.T) {
	given := diffusion.Sigmas{14, 6, 0}
	got, err := setFirstSigma(t.Context(), firstSigma{Sigmas: given, Sigma: 9.5})
	if err != nil || !slices.Equal(got, diffusion.Sigmas{9.5, 6, 0}) || given[0] != 14 {
		t.Errorf("%v of %v, %v", got, given, err)
	}
	if got, err := setFirstSigma(t.Context(), firstSigma{Sigma: 9.5}); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %v, %v", got, err)
	}
}

// sd15 is a model without a network.
func sd15() *diffusion.Model {
	return new(diffusion.Model).WithSchedule(sampling.NewDiscrete(sampling.EPS, false))
}

func TestSamplingPercentToSigma(t *testing.T) {
	for _, c := range []struct {
		percent float64
		actual  bool
		want    float64
	}{
		// Two numbers that ComfyUI gave, and the ends.
		{0, true, 14.614641189575195},
		{0.35, false, 2.7390825748443604},
		{0, false, 999999999.9},
		{1, true, float64(sd15().Schedule().SigmaMin())},
		{1, false, 0},
	} {
		got, err := sigmaOfPercent(t.Context(), percentToSigma{sd15(), c.percent, c.actual})
		if err != nil || math.Abs(got.Value-c.want) > 1e-6*c.want {
			t.Errorf("%g, actual %t: %v, %v, want %g", c.percent, c.actual, got.Value, err, c.want)
		}
	}
}

func TestNoiseDevices(t *testing.T) {
	for device, want := range map[noiseDevice]string{"cpu": "dpmpp_sde", "gpu": "dpmpp_sde_gpu"} {
		if got := device.onDevice("dpmpp_sde"); got != want || !slices.Contains(sampling.Samplers(), got) {
			t.Errorf("%s: %s, want %s", device, got, want)
		}
	}
}

// TestEveryChoiceOfModelSampling makes a schedule of every choice that is
// offered.
func TestEveryChoiceOfModelSampling(t *testing.T) {
	for _, name := range []discreteName{"eps", "v_prediction", "lcm", "x0", "img_to_img"} {
		m, err := sampleDiscrete(t.Context(), discreteSampling{Model: sd15(), Sampling: name})
		if err != nil || m.Schedule().Prediction().String() != string(name) {
			t.Errorf("%s: %v, %v", name, m.Schedule(), err)
		}
	}
	for name, want := range map[continuousName]string{"v_prediction": "v_prediction", "edm": "edm", "edm_playground_v2.5": "edm", "eps": "eps"} {
		m, err := sampleEDM(t.Context(), edmSampling{Model: sd15(), Sampling: name, Max: 120, Min: 0.002})
		if err != nil || m.Schedule().Prediction().String() != want || m.Schedule().SigmaMax() < 119 {
			t.Errorf("%s: %v, %v", name, m.Schedule(), err)
		}
	}
	if _, err := sampleEDM(t.Context(), edmSampling{Model: sd15(), Sampling: "cosmos_rflow", Max: 120, Min: 0.002}); err == nil {
		t.Error("cosmos_rflow: no error")
	}
}

// TestEmptyModel wants an error, not a crash, of every node that needs a model.
func TestEmptyModel(t *testing.T) {
	latent := diffusion.Latent{Samples: tensor.New(1, 4, 2, 2)}
	_, custom := new(Runtime).sampleCustom(t.Context(), samplerCustom{Latent: latent})
	_, advanced := new(Runtime).sampleCustomAdvanced(t.Context(), samplerCustomAdvanced{Latent: latent})
	_, noised := noiseLatent(t.Context(), addNoiseTo{Latent: latent})
	_, basic := basicSigmas(t.Context(), basicScheduler{Scheduler: "normal", Steps: 3, Denoise: 1})
	_, turbo := turboSigmas(t.Context(), turboScheduler{Steps: 1, Denoise: 1})
	_, beta := betaSigmas(t.Context(), betaScheduler{Steps: 3, Alpha: 1, Beta: 1})
	_, percent := sigmaOfPercent(t.Context(), percentToSigma{})
	_, patch := patchRescale(t.Context(), rescaleCFG{})
	_, discrete := sampleDiscrete(t.Context(), discreteSampling{Sampling: "eps"})
	_, apg := patchProjection(t.Context(), adaptiveProjection{Eta: 1})
	_, fresca := patchFrequencies(t.Context(), frequencyScale{Cutoff: 20})
	_, placed := patchPlacedAttention(t.Context(), placedAttention{})
	_, text := patchTextAttention(t.Context(), textAttention{})
	_, t5 := setT5Options(t.Context(), t5Options{})
	_, cascade := sampleCascade(t.Context(), flowSampling{Shift: 2})
	_, ltx := sampleTokens(t.Context(), tokenSampling{})
	for i, err := range []error{apg, fresca, placed, text, t5, cascade, ltx, custom, advanced, noised, basic, turbo, beta, percent, patch, discrete} {
		if err == nil {
			t.Errorf("node %d: no error", i)
		}
	}
}

func TestBetaRefusesZero(t *testing.T) {
	if _, err := betaSigmas(t.Context(), betaScheduler{Model: sd15(), Steps: 3}); err == nil {
		t.Error("no error")
	}
}

// TestTokens counts latent pixels for the levels of LTX-Video; without a latent
// the shift is the largest.
func TestTokens(t *testing.T) {
	latent := &diffusion.Latent{Samples: tensor.New(2, 4, 32, 32)}
	for _, c := range []struct {
		latent *diffusion.Latent
		mu     float64
	}{{nil, 2.05}, {latent, 0.95}} {
		m, err := sampleTokens(t.Context(), tokenSampling{Model: sd15(), MaxShift: 2.05, BaseShift: 0.95, Latent: c.latent})
		if want := sampling.NewFlux(c.mu).String(); err != nil || m.Schedule().String() != want {
			t.Errorf("%v: %v, %v, want %v", c.latent, m.Schedule(), err, want)
		}
		sigmas, err := ltxSigmas(t.Context(), ltxScheduler{Steps: 2, MaxShift: 2.05, BaseShift: 0.95, Latent: c.latent})
		want := math.Exp(c.mu) / (math.Exp(c.mu) + 1) // at half the way
		if err != nil || len(sigmas) != 3 || math.Abs(float64(sigmas[1])-want) > 1e-6 {
			t.Errorf("%v: %v, %v, want %g in the middle", c.latent, sigmas, err, want)
		}
	}
	if sigmas, err := optimalSigmas(t.Context(), optimalScheduler{Model: "FLUX", Steps: 20, Denoise: 0.25}); err != nil || len(sigmas) != 6 {
		t.Errorf("a quarter of 20 optimal steps: %v, %v", sigmas, err)
	}
}
