package sampling

import (
	"context"
	"math"
)

// ipndm extrapolates the slope with the weights of Adams and Bashforth, as if
// the levels were spaced evenly (Liu et al. 2022, Zhang and Chen 2022).
func ipndm(s *state) step {
	past := newHistory(s, min(4, s.Options.order(4)))
	weights := [][]float64{
		{1},
		{3. / 2, -1. / 2},
		{23. / 12, -16. / 12, 5. / 12},
		{55. / 24, -59. / 24, 37. / 24, -9. / 24},
	}
	return func(_ context.Context, t turn) error {
		slope(past.push(), s.x, t.den, t.a)
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		for j, w := range weights[past.len()-1] {
			add(s.x, (t.b-t.a)*w, past.at(j))
		}
		return nil
	}
}

// ipndmV is ipndm with weights for the real spacing.
func ipndmV(s *state) step {
	past := newHistory(s, min(4, s.Options.order(4)))
	return func(_ context.Context, t turn) error {
		slope(past.push(), s.x, t.den, t.a)
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		h := make([]float64, past.len()) // this step, then the past ones
		for j := range h {
			h[j] = s.sigma(t.i-j+1) - s.sigma(t.i-j)
		}
		for j, w := range adamsWeights(h) {
			add(s.x, (t.b-t.a)*w, past.at(j))
		}
		return nil
	}
}

// adamsWeights returns the weights of the slopes for a step of length h[0] after
// steps of length h[1], h[2], h[3].
func adamsWeights(h []float64) []float64 {
	if len(h) == 1 {
		return []float64{1}
	}
	hn, h1 := h[0], h[1]
	q := hn / h1
	if len(h) == 2 {
		return []float64{(2 + q) / 2, -q / 2}
	}
	h2 := h[2]
	t1 := (1 - (hn/(3*(hn+h1)))*(hn*(hn+h1))/(h1*(h1+h2))) / 2
	if len(h) == 3 {
		return []float64{(2+q)/2 + t1, -q/2 - (1+h1/h2)*t1, t1 * h1 / h2}
	}
	h3 := h[3]
	u := (1-hn/(3*(hn+h1)))/2 + (1-hn/(2*(hn+h1)))*hn/(6*(hn+h1+h2))
	t2 := u * (hn * (hn + h1) * (hn + h1 + h2)) / (h1 * (h1 + h2) * (h1 + h2 + h3))
	g := h1 * (h1 + h2) / (h2 * (h2 + h3))
	return []float64{
		(2+q)/2 + t1 + t2,
		-q/2 - (1+h1/h2)*t1 - (1+h1/h2+g)*t2,
		t1*h1/h2 + (h1/h2+g*(1+h2/h3))*t2,
		-t2 * g * h1 / h2,
	}
}

// gradientEstimation extrapolates the slope from the last one (Permenter and
// Yuan 2023), Options.Gamma times.
func gradientEstimation(s *state) step {
	past := newHistory(s, 2)
	gamma := orDefault(s.Options.Gamma, 2)
	return func(_ context.Context, t turn) error {
		d, guide := past.push(), t.den
		if t.unc != nil {
			guide = t.unc
		}
		slope(d, s.x, guide, t.a)
		switch {
		case t.b == 0:
			copy(s.x, t.den)
			return nil
		case t.unc != nil:
			mix(s.x, 1, t.den, t.b, d)
		default:
			add(s.x, t.b-t.a, d)
		}
		if past.len() == 2 {
			c := (gamma - 1) * (t.b - t.a)
			add(s.x, c, d)
			add(s.x, -c, past.at(1))
		}
		return nil
	}
}

// deis integrates the polynomial through the last slopes over the time of a
// variance preserving process (Zhang and Chen 2022, "tab").
func deis(s *state) step {
	past := newHistory(s, min(3, s.Options.order(3)))
	clock := newVPClock()
	times := make([]float64, len(s.sigmas))
	for i := range times {
		times[i] = clock.time(s.sigma(i))
	}
	return func(_ context.Context, t turn) error {
		slope(past.push(), s.x, t.den, t.a)
		k := past.len()
		if k == 1 || t.b <= 0 {
			add(s.x, t.b-t.a, past.at(0))
			return nil
		}
		points := make([]float64, k)
		for j := range points {
			points[j] = times[t.i-j]
		}
		for j, c := range clock.weights(points, times[t.i+1]) {
			add(s.x, c, past.at(j))
		}
		return nil
	}
}

// vpClock maps sigma to the time of a variance preserving process (Song et al.
// 2021) that reaches sigma 0.002 at time 0.001 and sigma 80 at time 1.
type vpClock struct{ betaD, betaMin float64 }

func newVPClock() vpClock {
	const eps, low, high = 1e-3, 0.002, 80.0
	top := math.Log(high*high + 1)
	d := 2 * (math.Log(low*low+1)/eps - top) / (eps - 1)
	return vpClock{betaD: d, betaMin: top - d/2}
}

func (c vpClock) time(sigma float64) float64 {
	return (math.Sqrt(c.betaMin*c.betaMin+2*c.betaD*math.Log(sigma*sigma+1)) - c.betaMin) / c.betaD
}

// rate is dσ/dt in the units of the slope.
func (c vpClock) rate(t float64) float64 {
	signal := math.Exp(-t*t*c.betaD/2 - t*c.betaMin)
	return 0.5 * (t*c.betaD + c.betaMin) / math.Sqrt(signal*(1-signal))
}

// weights integrates every basis polynomial of points from points[0] to end: a
// sum of 10000 terms, of the same places as the original's.
func (c vpClock) weights(points []float64, end float64) []float64 {
	const terms = 10000
	sums := make([]float64, len(points))
	for i := range terms {
		t := points[0] + (end-points[0])*float64(i)/(terms-1)
		rate := c.rate(t)
		for j := range sums {
			sums[j] += rate * basis(points, j, t)
		}
	}
	for j := range sums {
		sums[j] *= (end - points[0]) / terms
	}
	return sums
}
