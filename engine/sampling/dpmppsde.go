package sampling

import (
	"context"
	"math"
)

// The SDE members of DPM-Solver++ (Lu et al. 2022b), in the log-SNR λ; their
// noise is a Brownian path over sigma.

// dpmppSDE evaluates a second time within the step, at the place Options.R.
func dpmppSDE(s *state) step {
	s.lowerFirst()
	m, o := s.Model, s.Options
	eta, scale, r := o.eta(1), o.noiseScale(), orDefault(o.R, .5)
	d := s.buffer()
	return func(ctx context.Context, t turn) error {
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		// Rounded like this because the path's time is cut to 6 decimal
		// places: the last bit of the middle decides which noise it gets.
		la, lb := round32(m.lambda(t.a)), round32(m.lambda(t.b))
		l1 := round32(la + round32(r*round32(lb-la)))
		mid := round32(m.sigmaOf(l1))
		s.sdeStep(d, sdeLeg{la, l1, t.a, mid, eta, scale}, t.den)
		den2, _, err := s.denoise(ctx, d, mid)
		if err != nil {
			return err
		}
		mix(d, 1-1/(2*r), t.den, 1/(2*r), den2)
		s.sdeStep(s.x, sdeLeg{la, lb, t.a, t.b, eta, scale}, d)
		return nil
	}
}

// sdeLeg is one first order SDE step between two log-SNRs.
type sdeLeg struct{ from, to, a, b, eta, scale float64 }

// sdeStep sets dst to the state after the leg.
func (s *state) sdeStep(dst []float32, leg sdeLeg, den []float32) {
	down, up := ancestral(math.Exp(-leg.from), math.Exp(-leg.to), leg.eta)
	h := -math.Log(down) - leg.from
	alphaA, alphaB := s.Model.alpha(leg.a), s.Model.alpha(leg.b)
	mix(dst, alphaB/alphaA*math.Exp(-h), s.x, -alphaB*math.Expm1(-h), den)
	if c := alphaB * leg.scale * up; c > 0 {
		add(dst, c, s.sdeNoise(leg.a, leg.b))
	}
}

// sdeBase moves the state by the first order term of a step and returns its
// length h in log-SNR, H = (1+η)·h, and α at the end.
func (s *state) sdeBase(t turn, eta float64) (h, hh, alpha float64) {
	h = s.Model.lambda(t.b) - s.Model.lambda(t.a)
	hh, alpha = (1+eta)*h, s.Model.alpha(t.b)
	mix(s.x, t.b/t.a*math.Exp(-eta*h), s.x, -alpha*math.Expm1(-hh), t.den)
	return h, hh, alpha
}

// sdeEnd adds the noise of a step of length h.
func (s *state) sdeEnd(t turn, eta, h float64) {
	if c := t.b * math.Sqrt(-math.Expm1(-2*eta*h)) * s.Options.noiseScale(); c > 0 {
		add(s.x, c, s.sdeNoise(t.a, t.b))
	}
}

// dpmpp2mSDE corrects with the last prediction.
func dpmpp2mSDE(s *state) step { return multistepSDE(s, s.Options.Heun) }

func dpmpp2mSDEHeun(s *state) step { return multistepSDE(s, true) }

func multistepSDE(s *state, heun bool) step {
	s.lowerFirst()
	eta := s.Options.eta(1)
	var before []float32
	var hBefore float64
	return func(_ context.Context, t turn) error {
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		h, hh, alpha := s.sdeBase(t, eta)
		if before != nil {
			c := -.5 * alpha * math.Expm1(-hh)
			if heun {
				c = alpha * (math.Expm1(-hh)/hh + 1)
			}
			c *= h / hBefore
			add(s.x, c, t.den)
			add(s.x, -c, before)
		}
		s.sdeEnd(t, eta, h)
		before, hBefore = t.den, h
		return nil
	}
}

// dpmpp3mSDE corrects with the last two predictions.
func dpmpp3mSDE(s *state) step {
	s.lowerFirst()
	eta := s.Options.eta(1)
	var den1, den2 []float32 // predictions of the last and the second last step
	var h1, h2 float64
	return func(_ context.Context, t turn) error {
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		h, hh, alpha := s.sdeBase(t, eta)
		phi2 := math.Expm1(-hh)/hh + 1
		phi3 := phi2/hh - .5
		switch {
		case den2 != nil:
			r0, r1 := h1/h, h2/h
			// den + weights of the differences D10 = (den-den1)/r0 and D11 = (den1-den2)/r1.
			c := alpha * (phi2*r0 - phi3) / (r0 + r1)
			w10, w11 := (alpha*phi2+c)/r0, -c/r1
			add(s.x, w10, t.den)
			add(s.x, w11-w10, den1)
			add(s.x, -w11, den2)
		case den1 != nil:
			c := alpha * phi2 * h / h1
			add(s.x, c, t.den)
			add(s.x, -c, den1)
		}
		s.sdeEnd(t, eta, h)
		den1, den2, h1, h2 = t.den, den1, h, h1
		return nil
	}
}

// round32 rounds to the nearest float32.
func round32(v float64) float64 { return float64(float32(v)) }
