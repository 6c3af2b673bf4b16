package sampling

import (
	"context"
	"math"
)

// ddpm is ancestral sampling in the variance preserving form (Ho et al. 2020).
func ddpm(s *state) step {
	e := s.buffer()
	return func(_ context.Context, t turn) error {
		slope(e, s.x, t.den, t.a)
		signalA, signalB := 1/(t.a*t.a+1), 1/(t.b*t.b+1)
		ratio := signalA / signalB
		grow, back := math.Sqrt(1/ratio), 1.0
		if t.b > 0 {
			back = math.Sqrt(t.b*t.b + 1)
		}
		c := grow * (1 - ratio) / math.Sqrt(1-signalA)
		mix(s.x, back*grow*math.Sqrt(signalA), s.x, -back*c, e)
		if t.b > 0 {
			up := math.Sqrt((1 - ratio) * (1 - signalB) / (1 - signalA))
			add(s.x, back*up, s.noise())
		}
		return nil
	}
}

// lcm jumps to the prediction and adds noise of the next level (Luo et al. 2023).
func lcm(s *state) step {
	return func(_ context.Context, t turn) error {
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		s.Model.addNoise(s.x, float32(t.b), s.noise(), t.den)
		return nil
	}
}
