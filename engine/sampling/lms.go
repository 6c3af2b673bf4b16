package sampling

import (
	"context"
	"math"
)

// lms is the linear multistep method: the slope between the levels is the
// polynomial through the last slopes, 4 unless Options.Order says otherwise.
func lms(s *state) step {
	past := newHistory(s, s.Options.order(4))
	return func(_ context.Context, t turn) error {
		slope(past.push(), s.x, t.den, t.a)
		if t.b == 0 {
			copy(s.x, t.den)
			return nil
		}
		k := past.len()
		points := make([]float64, k)
		for j := range points {
			points[j] = s.sigma(t.i - j)
		}
		for j := range points {
			add(s.x, basisIntegral(points, j, t.a, t.b), past.at(j))
		}
		return nil
	}
}

// history keeps the last states of a multistep sampler.
type history struct {
	ring  [][]float32
	count int
	alloc func() []float32
}

func newHistory(s *state, limit int) *history {
	return &history{ring: make([][]float32, limit), alloc: s.buffer}
}

// push makes room for a new newest entry and returns it, to be filled.
func (h *history) push() []float32 {
	i := h.count % len(h.ring)
	if h.ring[i] == nil {
		h.ring[i] = h.alloc()
	}
	h.count++
	return h.ring[i]
}

// len returns how many entries are kept.
func (h *history) len() int { return min(h.count, len(h.ring)) }

// at returns the entry of j pushes ago; 0 is the newest.
func (h *history) at(j int) []float32 { return h.ring[(h.count-1-j)%len(h.ring)] }

// basisIntegral integrates the Lagrange polynomial that is 1 at points[j] and 0
// at the others from a to b, exactly: Gauss-Legendre quadrature of that degree.
func basisIntegral(points []float64, j int, a, b float64) float64 {
	nodes := len(points)/2 + 1
	var sum float64
	for i := range nodes {
		x, w := legendre(nodes, i)
		sum += w * basis(points, j, a+(b-a)*(x+1)/2)
	}
	return sum * (b - a) / 2
}

// basis evaluates the Lagrange polynomial of points[j] at x.
func basis(points []float64, j int, x float64) float64 {
	p := 1.0
	for m, q := range points {
		if m != j {
			p *= (x - q) / (points[j] - q)
		}
	}
	return p
}

// legendre returns node i and its weight of the Gauss-Legendre rule with n nodes
// on [-1, 1], by Newton's method on the Legendre polynomial.
func legendre(n, i int) (x, w float64) {
	x = math.Cos(math.Pi * (float64(i) + 0.75) / (float64(n) + 0.5))
	var slope float64
	for range 8 {
		p, before := 1.0, 0.0
		for k := 1; k <= n; k++ {
			p, before = (float64(2*k-1)*x*p-float64(k-1)*before)/float64(k), p
		}
		slope = float64(n) * (x*p - before) / (x*x - 1)
		x -= p / slope
	}
	return x, 2 / ((1 - x*x) * slope * slope)
}
