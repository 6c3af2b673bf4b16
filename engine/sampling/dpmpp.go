package sampling

import (
	"context"
	"math"
)

// The deterministic and ancestral members of DPM-Solver++ (Lu et al. 2022b) in
// the time t = -log σ, and their CFG++ forms.

// dpmpp2m extrapolates from the last prediction.
func dpmpp2m(s *state) step {
	var before []float32
	d := s.buffer()
	return func(_ context.Context, t turn) error {
		h := math.Log(t.a / t.b)
		if before == nil || t.b == 0 {
			mix(s.x, t.b/t.a, s.x, -math.Expm1(-h), t.den)
		} else {
			r := math.Log(s.sigma(t.i-1)/t.a) / h
			mix(d, 1+1/(2*r), t.den, -1/(2*r), before)
			mix(s.x, t.b/t.a, s.x, -math.Expm1(-h), d)
		}
		before = t.den
		return nil
	}
}

func dpmpp2mCFG(s *state) step {
	var before []float32
	d := s.buffer()
	return func(_ context.Context, t turn) error {
		h, keep := math.Log(t.a/t.b), t.b/t.a
		mix(d, 1, t.den, -keep, t.unc)
		if before != nil && t.b != 0 {
			r := math.Log(s.sigma(t.i-1)/t.a) / h
			c := -math.Expm1(-h) / (2 * r)
			add(d, c, t.den)
			add(d, -c, before)
		}
		mix(s.x, 1, d, keep, s.x)
		before = t.unc
		return nil
	}
}

// dpmpp2s evaluates once more in the middle of the step and adds noise after it.
func dpmpp2s(s *state) step {
	if s.Model.flow() {
		return dpmpp2sFlow(s)
	}
	eta, scale, d := s.Options.eta(1), s.Options.noiseScale(), s.buffer()
	return func(ctx context.Context, t turn) error {
		down, up := ancestral(t.a, t.b, eta)
		if down == 0 {
			slope(d, s.x, t.den, t.a)
			add(s.x, down-t.a, d)
		} else {
			mid := math.Sqrt(t.a * down)
			mix(d, mid/t.a, s.x, 1-mid/t.a, t.den)
			den2, _, err := s.denoise(ctx, d, mid)
			if err != nil {
				return err
			}
			mix(s.x, down/t.a, s.x, 1-down/t.a, den2)
		}
		if t.b > 0 {
			add(s.x, scale*up, s.noise())
		}
		return nil
	}
}

// dpmpp2sFlow takes the middle by the log-SNR of flows.
func dpmpp2sFlow(s *state) step {
	eta, scale, d := s.Options.eta(1), s.Options.noiseScale(), s.buffer()
	return func(ctx context.Context, t turn) error {
		if t.b == 0 {
			slope(d, s.x, t.den, t.a)
			add(s.x, -t.a, d)
			return nil
		}
		down, keep, up := renoise(t.a, t.b, eta)
		mid := .9999
		if t.a != 1 {
			mid = s.Model.sigmaOf((s.Model.lambda(t.a) + s.Model.lambda(down)) / 2)
		}
		mix(d, mid/t.a, s.x, 1-mid/t.a, t.den)
		den2, _, err := s.denoise(ctx, d, mid)
		if err != nil {
			return err
		}
		mix(s.x, down/t.a, s.x, 1-down/t.a, den2)
		if eta > 0 {
			mix(s.x, keep, s.x, scale*up, s.noise())
		}
		return nil
	}
}

func dpmpp2sCFG(s *state) step {
	eta, scale, d := s.Options.eta(1), s.Options.noiseScale(), s.buffer()
	return func(ctx context.Context, t turn) error {
		down, up := ancestral(t.a, t.b, eta)
		if down == 0 {
			slope(d, s.x, t.unc, t.a)
			mix(s.x, 1, t.den, down, d)
		} else if err := s.guided2s(ctx, t, d, down); err != nil {
			return err
		}
		if t.b > 0 {
			add(s.x, scale*up, s.noise())
		}
		return nil
	}
}

// guided2s is the step of dpmpp2sCFG down to level down.
func (s *state) guided2s(ctx context.Context, t turn, d []float32, down float64) error {
	mid := math.Sqrt(t.a * down)
	q := mid / t.a
	mix(d, q, s.x, 1, t.den)
	add(d, -q, t.unc)
	den2, unc2, err := s.denoise(ctx, d, mid)
	if err != nil {
		return err
	}
	q = down / t.a
	mix(s.x, q, s.x, q, t.den)
	add(s.x, -q, unc2)
	add(s.x, 1-q, den2)
	return nil
}
