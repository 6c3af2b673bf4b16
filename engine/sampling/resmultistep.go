package sampling

import (
	"context"
	"math"
)

// resMultistep is the second order exponential integrator RES (Zhang et al.
// 2023, "refined exponential solver") with the last prediction as second stage.
func resMultistep(s *state) step { return resSteps(s, s.Options.eta(0)) }

func resMultistepAncestral(s *state) step { return resSteps(s, s.Options.eta(1)) }

func resSteps(s *state, eta float64) step {
	scale, d := s.Options.noiseScale(), s.buffer()
	var old []float32
	var downBefore float64
	return func(_ context.Context, t turn) error {
		down, up := ancestral(t.a, t.b, eta)
		guide := t.den
		if t.unc != nil {
			guide = t.unc
		}
		if down == 0 || old == nil {
			slope(d, s.x, guide, t.a)
			mix(s.x, 1, t.den, down, d)
		} else {
			h := math.Log(t.a / down)
			b1, b2 := resWeights(h, math.Log(s.sigma(t.i-1)/downBefore)/h)
			q := math.Exp(-h)
			mix(s.x, q, s.x, h*b1, guide)
			add(s.x, h*b2, old)
			if t.unc != nil {
				add(s.x, q, t.den)
				add(s.x, -q, t.unc)
			}
		}
		if t.b > 0 && eta > 0 {
			add(s.x, scale*up, s.noise())
		}
		old, downBefore = guide, down
		return nil
	}
}

// resWeights returns the weights of the current and the last prediction; back is
// how far the last step went, in units of this step h.
func resWeights(h, back float64) (b1, b2 float64) {
	c2 := -back
	phi1 := math.Expm1(-h) / -h
	phi2 := (phi1 - 1) / -h
	b1, b2 = phi1-phi2/c2, phi2/c2
	return zeroNaN(b1), zeroNaN(b2)
}

func zeroNaN(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}
