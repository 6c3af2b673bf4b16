package sampling

import "context"

// euler follows the slope in one straight step (Karras et al. 2022, algorithm
// 2). ddim is the same for noise levels as they are defined here.
func euler(s *state) step {
	d := s.buffer()
	return func(_ context.Context, t turn) error {
		slope(d, s.x, t.den, t.a)
		add(s.x, t.b-t.a, d)
		return nil
	}
}

// eulerAncestral steps below the next level and adds noise up to it.
func eulerAncestral(s *state) step {
	eta, scale := s.Options.eta(1), s.Options.noiseScale()
	if s.Model.flow() {
		return eulerAncestralFlow(s, eta, scale)
	}
	d := s.buffer()
	return func(_ context.Context, t turn) error {
		down, up := ancestral(t.a, t.b, eta)
		if down == 0 {
			copy(s.x, t.den)
			return nil
		}
		slope(d, s.x, t.den, t.a)
		add(s.x, down-t.a, d)
		add(s.x, scale*up, s.noise())
		return nil
	}
}

func eulerAncestralFlow(s *state, eta, scale float64) step {
	return func(_ context.Context, t turn) error {
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		down, keep, up := renoise(t.a, t.b, eta)
		mix(s.x, down/t.a, s.x, 1-down/t.a, t.den)
		if eta > 0 {
			mix(s.x, keep, s.x, scale*up, s.noise())
		}
		return nil
	}
}

// eulerCFG is euler with the slope of the unconditional prediction, so that
// strong guidance does not leave the data (Chung et al. 2024, CFG++).
func eulerCFG(s *state) step {
	if s.Options.Mirrored {
		return eulerMirrored(s)
	}
	return eulerGuided(s, 0, 0)
}

// eulerMirrored is the first published form of eulerCFG, which ComfyUI keeps as
// the "alternative" one.
func eulerMirrored(s *state) step {
	d := s.buffer()
	return func(_ context.Context, t turn) error {
		mix(d, 1/t.a, s.x, -2/t.a, t.den)
		add(d, 1/t.a, t.unc)
		add(s.x, t.b-t.a, d)
		return nil
	}
}

func eulerAncestralCFG(s *state) step {
	return eulerGuided(s, s.Options.eta(1), s.Options.noiseScale())
}

func eulerGuided(s *state, eta, scale float64) step {
	d := s.buffer()
	return func(_ context.Context, t turn) error {
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		alphaA, alphaB := s.Model.alpha(t.a), s.Model.alpha(t.b)
		mix(d, 1/t.a, s.x, -alphaA/t.a, t.unc)
		down, up := ancestral(t.a/alphaA, t.b/alphaB, eta)
		mix(s.x, alphaB, t.den, alphaB*down, d)
		if eta > 0 && scale > 0 {
			add(s.x, alphaB*scale*up, s.noise())
		}
		return nil
	}
}
