package sampling

import (
	"context"
	"math"
)

// The exponential SDE solvers SEEDS-2 and SEEDS-3 (Gonzalez et al. 2023) in the
// log-SNR λ. Noise that was added at an inner point is carried on to the next,
// weakened, so that it is one path of the process.

// seedsRun holds what both share.
type seedsRun struct {
	*state
	eta, scale float64
	w          []float32 // noise of the process since the step's beginning
}

func newSeeds(s *state) *seedsRun {
	s.lowerFirst()
	return &seedsRun{s, s.Options.eta(1), s.Options.noiseScale(), s.buffer()}
}

// leg describes a point of a step of length h in λ: the level there and the
// place r in it (1 is the end).
type leg struct{ sigma, r, h float64 }

// base sets dst to the first order terms at the leg: the decayed state.
func (e *seedsRun) base(dst []float32, l leg, a float64) {
	c := l.sigma / a * math.Exp(-l.r*e.eta*l.h)
	mix(dst, c, e.x, 0, e.x)
}

// wander moves the noise on from place prev to the leg and adds it to x.
func (e *seedsRun) wander(x []float32, l leg, prev float64) {
	if e.eta <= 0 || e.scale <= 0 {
		return
	}
	k := (prev - l.r) * e.eta * l.h
	mix(e.w, math.Exp(k), e.w, math.Sqrt(-math.Expm1(2*k)), e.noise())
	add(x, l.sigma*e.scale, e.w)
}

func seeds2(s *state) step {
	e := newSeeds(s)
	m, r := s.Model, orDefault(s.Options.R, .5)
	x2 := s.buffer()
	return func(ctx context.Context, t turn) error {
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		clear(e.w)
		la := m.lambda(t.a)
		h := m.lambda(t.b) - la
		hh := (1 + e.eta) * h
		l1, end := leg{m.sigmaOf(la + r*h), r, h}, leg{t.b, 1, h}

		e.base(x2, l1, t.a)
		add(x2, -m.alpha(l1.sigma)*math.Expm1(-r*hh), t.den)
		e.wander(x2, l1, 0)
		den2, _, err := s.denoise(ctx, x2, l1.sigma)
		if err != nil {
			return err
		}
		e.base(s.x, end, t.a)
		c := -m.alpha(t.b) * math.Expm1(-hh)
		add(s.x, c*(1-1/(2*r)), t.den)
		add(s.x, c/(2*r), den2)
		e.wander(s.x, end, r)
		return nil
	}
}

func seeds3(s *state) step {
	e := newSeeds(s)
	m, r1, r2 := s.Model, orDefault(s.Options.R, 1.0/3), orDefault(s.Options.R2, 2.0/3)
	u := s.buffer()
	return func(ctx context.Context, t turn) error {
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		clear(e.w)
		la := m.lambda(t.a)
		h := m.lambda(t.b) - la
		hh := (1 + e.eta) * h
		l1, l2 := leg{m.sigmaOf(la + r1*h), r1, h}, leg{m.sigmaOf(la + r2*h), r2, h}
		end := leg{t.b, 1, h}

		e.base(u, l1, t.a)
		add(u, -m.alpha(l1.sigma)*math.Expm1(-r1*hh), t.den)
		e.wander(u, l1, 0)
		den2, _, err := s.denoise(ctx, u, l1.sigma)
		if err != nil {
			return err
		}
		e.base(u, l2, t.a)
		addSecond(u, t.den, den2, secondOrder{m.alpha(l2.sigma), -r2 * hh, r2 / r1})
		e.wander(u, l2, r1)
		den3, _, err := s.denoise(ctx, u, l2.sigma)
		if err != nil {
			return err
		}
		e.base(s.x, end, t.a)
		addSecond(s.x, t.den, den3, secondOrder{m.alpha(t.b), -hh, 1 / r2})
		e.wander(s.x, end, r2)
		return nil
	}
}

// secondOrder weighs two predictions over a step of length -z in the process's λ;
// gain is how far the second one lies from the first, inverted.
type secondOrder struct{ alpha, z, gain float64 }

// addSecond adds the terms of first and second order.
func addSecond(dst, den, den2 []float32, b secondOrder) {
	p1 := math.Expm1(b.z)
	c := b.gain * (p1 - b.z) / b.z
	add(dst, -b.alpha*(p1-c), den)
	add(dst, -b.alpha*c, den2)
}
