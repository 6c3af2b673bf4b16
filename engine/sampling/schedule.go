package sampling

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// scheduler is one entry of the list of schedulers.
type scheduler struct {
	name string
	list func(m *Model, n int) []float32
}

// schedulers lists all schedulers in the order in which ComfyUI offers them.
func schedulers() []scheduler {
	return []scheduler{
		{"simple", simple},
		{"sgm_uniform", func(m *Model, n int) []float32 { return uniform(m, n, true) }},
		{"karras", func(m *Model, n int) []float32 {
			return Karras(n, float64(m.SigmaMin()), float64(m.SigmaMax()), 7)
		}},
		{"exponential", func(m *Model, n int) []float32 {
			return Exponential(n, float64(m.SigmaMin()), float64(m.SigmaMax()))
		}},
		{"ddim_uniform", ddimUniform},
		{"beta", func(m *Model, n int) []float32 { return Beta(m, n, 0.6, 0.6) }},
		{"normal", func(m *Model, n int) []float32 { return uniform(m, n, false) }},
		{"linear_quadratic", linearQuadratic},
		{"kl_optimal", klOptimal},
	}
}

// Schedulers lists the scheduler names in the order in which ComfyUI offers them.
func Schedulers() []string {
	all := schedulers()
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.name
	}
	return names
}

// Schedule returns the sigmas of the model at that many steps: descending,
// steps+1 of them and 0 at the end, except that ddim_uniform may give more, and
// beta fewer.
func Schedule(m *Model, name string, steps int) ([]float32, error) {
	if steps < 1 {
		return nil, fmt.Errorf("schedule %d steps: at least 1 is needed", steps)
	}
	all := schedulers()
	i := slices.IndexFunc(all, func(s scheduler) bool { return s.name == name })
	if i < 0 {
		return nil, fmt.Errorf("find scheduler %q: allowed are %s", name, strings.Join(Schedulers(), ", "))
	}
	return all[i].list(m, steps), nil
}

// simple picks evenly spaced entries of the model's table, from the top.
func simple(m *Model, n int) []float32 {
	stride := float64(len(m.sigmas)) / float64(n)
	sigmas := make([]float32, n+1)
	for j := range n {
		sigmas[j] = m.sigmas[len(m.sigmas)-1-int(float64(j)*stride)]
	}
	return sigmas
}

// uniform spaces timesteps evenly. With sgm the last timestep is the one after
// the schedule's end; otherwise it is the lowest trained one, and 0 follows.
func uniform(m *Model, n int, sgm bool) []float32 {
	start, end := m.Timestep(m.SigmaMax()), m.Timestep(m.SigmaMin())
	points := n
	whole := !sgm && math.Abs(float64(m.Sigma(end))) < 1e-5 // the list ends in 0 by itself
	if sgm || whole {
		points++
	}
	sigmas := linspace(start, end, points)
	for i, t := range sigmas {
		sigmas[i] = m.Sigma(t)
	}
	switch {
	case sgm:
		sigmas[n] = 0
	case !whole:
		sigmas = append(sigmas, 0)
	}
	return sigmas
}

// ddimUniform picks every k-th entry of the table, from the bottom.
func ddimUniform(m *Model, n int) []float32 {
	var sigmas []float32
	if math.Abs(float64(m.sigmas[1])) < 1e-5 {
		n++
	} else {
		sigmas = []float32{0}
	}
	stride := max(len(m.sigmas)/n, 1)
	for i := 1; i < len(m.sigmas); i += stride {
		sigmas = append(sigmas, m.sigmas[i])
	}
	slices.Reverse(sigmas)
	return sigmas
}

// linearQuadratic removes the first 2.5% of the noise in even steps and the
// rest in growing ones.
func linearQuadratic(m *Model, n int) []float32 {
	if n == 1 {
		return []float32{m.SigmaMax(), 0}
	}
	const threshold = 0.025
	linear, q := n/2, float64(n-n/2)
	l := float64(linear)
	d := l - threshold*float64(n)
	a := d / (l * q * q)
	b := threshold/l - 2*d/(q*q)
	c := a * l * l
	sigmas := make([]float32, n+1)
	for i := range n {
		x := float64(i)
		v := x * threshold / l
		if i >= linear {
			v = a*x*x + b*x + c
		}
		sigmas[i] = float32(1-v) * m.SigmaMax()
	}
	return sigmas
}

// klOptimal spaces the arc tangent of sigma evenly (Sabour et al. 2024, Align
// Your Steps, theorem 3.1). A single step gives NaN, as in ComfyUI.
func klOptimal(m *Model, n int) []float32 {
	lo, hi := arctan32(m.SigmaMin()), arctan32(m.SigmaMax())
	sigmas := make([]float32, n+1)
	for i := range n {
		u := float32(i) / float32(n-1)
		v := float32(u*lo) + float32((1-u)*hi)
		sigmas[i] = float32(math.Tan(float64(v)))
	}
	return sigmas
}

func arctan32(v float32) float32 { return float32(math.Atan(float64(v))) }

// linspace returns n evenly spaced numbers from a to b, computed from the nearer
// end, as torch does.
func linspace(a, b float32, n int) []float32 {
	out := make([]float32, max(n, 0))
	if n == 1 {
		out[0] = a
		return out
	}
	step := (b - a) / float32(n-1)
	for i := range out {
		if i < n/2 {
			out[i] = a + float32(step*float32(i))
		} else {
			out[i] = b - float32(step*float32(n-1-i))
		}
	}
	return out
}
