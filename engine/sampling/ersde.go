package sampling

import (
	"context"
	"math"
)

// erSDE is the extended reverse-time SDE solver (Cui et al. 2023) in Λ, the
// noise-to-signal ratio of the state, with up to three stages.
func erSDE(s *state) step {
	s.lowerFirst()
	stages, scale := s.Options.Stages, s.Options.noiseScale()
	if stages <= 0 {
		stages = 3
	}
	f := erScaling(s.Options.ERSolver, s.Options.eta(1))
	ratio := make([]float64, len(s.sigmas))
	for i := range ratio {
		ratio[i] = math.Exp(-s.Model.lambda(s.sigma(i)))
	}
	var before []float32 // prediction of the last step
	d1, d1Before := s.buffer(), s.buffer()
	return func(_ context.Context, t turn) error {
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		from, to := ratio[t.i], ratio[t.i+1]
		alphaA, alphaB := t.a/from, t.b/to
		r := f(to) / f(from)
		mix(s.x, alphaB/alphaA*r, s.x, alphaB*(1-r), t.den)
		if stages >= 2 && t.i >= 1 {
			h := to - from
			s1, s2 := erIntegrals(f, from, to)
			d1, d1Before = d1Before, d1
			c := 1 / (from - ratio[t.i-1])
			mix(d1, c, t.den, -c, before)
			add(s.x, alphaB*(h+s1*f(to)), d1)
			if stages >= 3 && t.i >= 2 {
				c := alphaB * (h*h/2 + s2*f(to)) / ((from - ratio[t.i-2]) / 2)
				add(s.x, c, d1)
				add(s.x, -c, d1Before)
			}
		}
		before = t.den
		if scale > 0 && s.Options.ERSolver != ODE {
			add(s.x, alphaB*scale*math.Sqrt(max(0, to*to-from*from*r*r)), s.noise())
		}
		return nil
	}
}

// erScaling returns the noise scaling function φ of the paper.
func erScaling(solver ERSolver, eta float64) func(float64) float64 {
	switch solver {
	case ReverseTime:
		return func(v float64) float64 { return math.Pow(v, 1+eta) }
	case ODE:
		return func(v float64) float64 { return v }
	}
	return func(v float64) float64 { return v * (math.Exp(math.Pow(v, 0.3)) + 10) }
}

// erIntegrals returns ∫ 1/f and ∫ (v-from)/f from to to from, as sums of 200 terms.
func erIntegrals(f func(float64) float64, from, to float64) (s1, s2 float64) {
	const terms = 200
	w := (from - to) / terms
	for k := range terms {
		p := to + float64(k)*w
		s1 += w / f(p)
		s2 += w * (p - from) / f(p)
	}
	return s1, s2
}
