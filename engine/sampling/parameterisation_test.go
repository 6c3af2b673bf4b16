package sampling

import (
	"math"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

func TestDenoise(t *testing.T) {
	const x, o, sigma = 2.0, 0.5, 3.0
	root := math.Sqrt(10)
	half := math.Sqrt(9.25) // σ² + 0.5²
	lcm := 10 * 619.0       // the kept level next to σ is number 30 of 50
	tests := []struct {
		name       string
		m          *Model
		scale, den float64
	}{
		{"eps", NewDiscrete(EPS, false), 1 / root, x - sigma*o},
		{"v", NewDiscrete(VPrediction, false), 1 / root, x/10 - o*sigma/root},
		{"x0", NewDiscrete(X0, false), 1 / root, o},
		{"img_to_img", NewDiscrete(ImgToImg, false), 1, o},
		{"edm", NewContinuousEDM(EDM, .002, 80, .5), 1 / half, x*.25/9.25 + o*sigma*.5/half},
		{"v-edm", NewContinuousEDM(VPrediction, .002, 120, 1), 1 / root, x/10 - o*sigma/root},
		{"continuous v", NewContinuousV(.03, 500), 1 / root, x/10 - o*sigma/root},
		{"flow", NewDiscreteFlow(3, 1000), 1, x - sigma*o},
		{"flux", NewFlux(1.15), 1, x - sigma*o},
		{"lcm", NewLCM(false), 1 / root, lcm/math.Sqrt(lcm*lcm+.25)*(x-sigma*o) + .25/(lcm*lcm+.25)*x},
	}
	for _, c := range tests {
		out := []float32{o}
		c.m.Denoise([]float32{x}, out, sigma)
		if math.Abs(float64(out[0])-c.den) > 1e-6 {
			t.Errorf("%s: prediction %v, want %v", c.name, out[0], c.den)
		}
		if got := c.m.InputScale(sigma); math.Abs(float64(got)-c.scale) > 1e-7 {
			t.Errorf("%s: input scale %v, want %v", c.name, got, c.scale)
		}
	}
}

func TestNoiseScaling(t *testing.T) {
	noise, latent := tensor.Full(2, 1, 1, 1, 1), tensor.Full(3, 1, 1, 1, 1)
	eps, flow := NewDiscrete(EPS, false), NewDiscreteFlow(3, 1000)
	top := eps.SigmaMax()
	tests := []struct {
		name  string
		m     *Model
		sigma float32
		most  bool
		want  float64
	}{
		{"eps", eps, 4, false, 4*2 + 3},
		{"eps from pure noise", eps, top, true, 2*14.648813 + 3},
		{"flow", flow, .25, false, .25*2 + .75*3},
		{"flow from pure noise", flow, 1, true, 2},
	}
	for _, c := range tests {
		got := c.m.NoiseScaling(c.sigma, noise, latent, c.most).Data[0]
		if math.Abs(float64(got)-c.want) > 1e-5 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := c.m.MaxDenoise(c.sigma); got != c.most {
			t.Errorf("%s: max denoise %t", c.name, got)
		}
	}
	if !eps.MaxDenoise(14.6146431) || eps.MaxDenoise(14.614) {
		t.Error("max denoise: wrong near the highest level")
	}
	x := tensor.Full(3, 1)
	if got := flow.InverseNoiseScaling(.25, x).Data[0]; got != 4 || x.Data[0] != 3 {
		t.Errorf("flow: inverse %v, argument %v", got, x.Data)
	}
	if got := eps.InverseNoiseScaling(.25, x).Data[0]; got != 3 {
		t.Errorf("eps: inverse %v", got)
	}
}

func TestLCMLevels(t *testing.T) {
	m, full := NewLCM(false), NewDiscrete(EPS, false)
	if len(m.sigmas) != 50 || m.SigmaMax() != full.SigmaMax() || m.SigmaMin() != full.sigmas[19] {
		t.Fatalf("%d levels from %g to %g", len(m.sigmas), m.SigmaMin(), m.SigmaMax())
	}
	for i, s := range m.sigmas {
		step := m.Timestep(s)
		if step != float32(20*i+19) {
			t.Errorf("level %d: timestep %g", i, step)
		}
		if e := math.Abs(float64(m.Sigma(step)/s - 1)); e > 1e-6 {
			t.Errorf("level %d: comes back off by %.2g", i, e)
		}
	}
	if m.Sigma(0) != m.Sigma(19) || m.Sigma(2000) != m.Sigma(999) {
		t.Error("timesteps beyond the ends are not clamped")
	}
}

func TestFluxMu(t *testing.T) {
	tests := []struct {
		w, h int
		want float64
	}{{1024, 1024, 1.15}, {256, 256, .5}, {96, 80, .5 + (30-256)*(.65/3840)}}
	for _, c := range tests {
		if got := FluxMu(1.15, .5, c.w, c.h); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%dx%d: %v, want %v", c.w, c.h, got, c.want)
		}
	}
}

func TestTimestepIsNearestByLogarithm(t *testing.T) {
	m := NewDiscrete(EPS, false)
	for sigma, want := range map[float32]float32{1: 354, .0291: 0, 14.614643: 999, 5000: 999, 0: 0} {
		if got := m.Timestep(sigma); got != want {
			t.Errorf("sigma %g: timestep %g, want %g", sigma, got, want)
		}
	}
}

func TestPredictionNames(t *testing.T) {
	if s := EPS.String() + " " + LCM.String() + " " + Prediction(99).String(); s != "eps lcm prediction 99" {
		t.Error(s)
	}
}

// TestCascade checks the cosine schedule at its ends, that times and levels are
// inverse without a shift, and what a shift does to the signal-to-noise ratio.
func TestCascade(t *testing.T) {
	m, shifted := NewCascade(1), NewCascade(2)
	// σ = √((1-ā)/ā), ā from 0.9999 to 0.0001.
	if lo, hi := m.SigmaMin(), m.SigmaMax(); math.Abs(float64(lo)-0.0100005) > 1e-6 || math.Abs(float64(hi)-99.995) > 1e-3 {
		t.Errorf("levels %v to %v", lo, hi)
	}
	for _, at := range []float32{0.1, 0.35, 0.5, 0.9} {
		sigma := m.Sigma(at)
		if back := m.Timestep(sigma); math.Abs(float64(back-at)) > 1e-5 {
			t.Errorf("time %v has the level %v, whose time is %v", at, sigma, back)
		}
		// log(1/σ²) falls by 2·log 2: σ doubles.
		if got := shifted.Sigma(at); math.Abs(float64(got/sigma)-2) > 1e-5 {
			t.Errorf("shifted level %v of %v", got, sigma)
		}
		if got := m.PercentToSigma(float64(1 - at)); math.Abs(got/float64(sigma)-1) > 1e-5 {
			t.Errorf("after %v: %v, want %v", 1-at, got, sigma)
		}
	}
	if m.String() == shifted.String() {
		t.Error("both have the same name")
	}
}
