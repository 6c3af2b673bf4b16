package sampling

import (
	"context"
	"math"
)

// heun averages the slopes at both ends of the step (Karras et al. 2022).
func heun(s *state) step {
	d, d2, x2 := s.buffer(), s.buffer(), s.buffer()
	return func(ctx context.Context, t turn) error {
		slope(d, s.x, t.den, t.a)
		h := t.b - t.a
		if t.b == 0 {
			add(s.x, h, d)
			return nil
		}
		mix(x2, 1, s.x, h, d)
		den2, _, err := s.denoise(ctx, x2, t.b)
		if err != nil {
			return err
		}
		slope(d2, x2, den2, t.b)
		mix(d, .5, d, .5, d2)
		add(s.x, h, d)
		return nil
	}
}

// heun3 looks two levels ahead and weighs the slopes by their sigmas; it is
// ComfyUI's heunpp2.
func heun3(s *state) step {
	d, d2, d3 := s.buffer(), s.buffer(), s.buffer()
	end := s.sigma(s.count())
	return func(ctx context.Context, t turn) error {
		slope(d, s.x, t.den, t.a)
		h := t.b - t.a
		if t.b == end {
			add(s.x, h, d)
			return nil
		}
		x := s.scratch()
		mix(x, 1, s.x, h, d)
		if err := s.slopeAt(ctx, d2, x, t.b); err != nil {
			return err
		}
		c := s.sigma(t.i + 2)
		if c == end {
			w2 := t.b / (2 * s.sigma(0))
			mix(d, 1-w2, d, w2, d2)
			add(s.x, h, d)
			return nil
		}
		add(x, c-t.b, d2)
		if err := s.slopeAt(ctx, d3, x, c); err != nil {
			return err
		}
		w := 3 * s.sigma(0)
		mix(d, 1-t.b/w-c/w, d, t.b/w, d2)
		add(d, c/w, d3)
		add(s.x, h, d)
		return nil
	}
}

// slopeAt asks the model at x and sets dst to the slope there.
func (s *state) slopeAt(ctx context.Context, dst, x []float32, sigma float64) error {
	den, _, err := s.denoise(ctx, x, sigma)
	if err != nil {
		return err
	}
	slope(dst, x, den, sigma)
	return nil
}

// dpm2 takes the slope in the middle of the step, by logarithm (DPM-Solver-2, Lu
// et al. 2022, in the form of Karras et al. 2022).
func dpm2(s *state) step {
	d := s.buffer()
	return func(ctx context.Context, t turn) error {
		slope(d, s.x, t.den, t.a)
		if t.b == 0 {
			add(s.x, t.b-t.a, d)
			return nil
		}
		return s.midpoint(ctx, d, t.a, t.b)
	}
}

// midpoint moves the state from a to b with the slope in the middle; d is the
// slope at a and is overwritten.
func (s *state) midpoint(ctx context.Context, d []float32, a, b float64) error {
	mid := math.Sqrt(a * b)
	x := s.scratch()
	mix(x, 1, s.x, mid-a, d)
	if err := s.slopeAt(ctx, d, x, mid); err != nil {
		return err
	}
	add(s.x, b-a, d)
	return nil
}

func dpm2Ancestral(s *state) step {
	d := s.buffer()
	eta, scale := s.Options.eta(1), s.Options.noiseScale()
	return func(ctx context.Context, t turn) error {
		down, up := ancestral(t.a, t.b, eta)
		keep := 1.0
		if s.Model.flow() {
			down, keep, up = renoise(t.a, t.b, eta)
		}
		slope(d, s.x, t.den, t.a)
		if down == 0 {
			add(s.x, down-t.a, d)
			return nil
		}
		if err := s.midpoint(ctx, d, t.a, down); err != nil {
			return err
		}
		mix(s.x, keep, s.x, scale*up, s.noise())
		return nil
	}
}
