package sampling

import (
	"context"
	"math"
	"slices"
)

// dpm holds the single-step DPM-Solver (Lu et al. 2022) in the time t = -log σ:
// orders 1 to 3 share the first evaluations. It never steps to level 0 but ends
// at the level before.
type dpm struct {
	*state
	e, e1, e2 []float32 // noise predictions at the start and at two inner points
	u         []float32 // state at an inner point, then a difference of predictions
}

func newDPM(s *state) *dpm {
	return &dpm{s, s.buffer(), s.buffer(), s.buffer(), s.buffer()}
}

// span is a step from time t to t+h.
type span struct{ t, h float64 }

// part is the span up to a fraction of its step.
func (v span) part(r float64) span { return span{v.t, r * v.h} }

// sigma returns the level at the span's end.
func (v span) sigma() float64 { return sigmaAt(v.t + v.h) }

// weight returns σ·g(h) at the span's end, the factor of a noise prediction,
// rounded as often as the original rounds: the step control of dpm_adaptive sees
// the last bits.
func (v span) weight(g func(h float64) float64) float64 {
	return round32(v.sigma() * round32(g(round32(v.h))))
}

// ends returns the first and the last time of the run.
func (d *dpm) ends() (start, end float64) {
	n := d.count()
	if d.sigmas[n] == 0 {
		n--
	}
	return round32(-math.Log(d.sigma(0))), round32(-math.Log(d.sigma(n)))
}

// begin evaluates the model at the beginning of a step and reports it.
func (d *dpm) begin(ctx context.Context, t float64) (den []float32, err error) {
	den, _, err = d.denoise(ctx, d.x, sigmaAt(t))
	if err == nil {
		slope(d.e, d.x, den, sigmaAt(t))
	}
	return den, err
}

// sigmaAt returns the noise level at a time.
func sigmaAt(t float64) float64 { return round32(math.Exp(-round32(t))) }

// curve is (e^h-1)/h - 1, the factor of the noise's slope in order 3.
func curve(h float64) float64 { return round32(round32(math.Expm1(h))/h) - 1 }

// order1 sets dst to the state at the span's end, reached from x with the noise e.
func (d *dpm) order1(dst []float32, v span) {
	mix(dst, 1, d.x, -v.weight(math.Expm1), d.e)
}

// inner evaluates the noise at the fraction r of the span into d.e1.
func (d *dpm) inner(ctx context.Context, v span, r float64) error {
	d.order1(d.u, v.part(r))
	return d.slopeAt(ctx, d.e1, d.u, v.part(r).sigma())
}

// order2 needs inner at r.
func (d *dpm) order2(dst []float32, v span, r float64) {
	d.order1(dst, v)
	mix(d.u, 1, d.e1, -1, d.e)
	add(dst, -v.weight(math.Expm1)/(2*r), d.u)
}

// order3 needs inner at 1/3.
func (d *dpm) order3(ctx context.Context, dst []float32, v span) error {
	const r1, r2 = 1.0 / 3, 2.0 / 3
	two := v.part(r2)
	d.order1(d.u, two)
	mix(d.e2, 1, d.e1, -1, d.e)
	add(d.u, -two.weight(curve)*(r2/r1), d.e2)
	if err := d.slopeAt(ctx, d.e2, d.u, two.sigma()); err != nil {
		return err
	}
	d.order1(dst, v)
	mix(d.u, 1, d.e2, -1, d.e)
	add(dst, -v.weight(curve)/r2, d.u)
	return nil
}

// solve sets dst to the state at the span's end with the given order.
func (d *dpm) solve(ctx context.Context, dst []float32, v span, order int) error {
	switch order {
	case 1:
		d.order1(dst, v)
	case 2:
		if err := d.inner(ctx, v, .5); err != nil {
			return err
		}
		d.order2(dst, v, .5)
	default:
		if err := d.inner(ctx, v, 1.0/3); err != nil {
			return err
		}
		return d.order3(ctx, dst, v)
	}
	return nil
}

// dpmFast spends one model call per level of the schedule, of which it uses
// only the ends: as many steps of order 3 as fit, then one or two of lower order.
func dpmFast(ctx context.Context, s *state) error {
	d := newDPM(s)
	start, end := d.ends()
	n := s.count()
	m := n/3 + 1
	for i := range m {
		order := 3
		switch {
		case n%3 == 0 && i >= m-2:
			order = m - i // 2, then 1
		case i == m-1:
			order = n % 3
		}
		t := start + (end-start)*float64(i)/float64(m)
		den, err := d.begin(ctx, t)
		if err != nil {
			return err
		}
		s.report(i, sigmaAt(t), s.x, den)
		if err := d.solve(ctx, s.x, span{t, (end - start) / float64(m)}, order); err != nil {
			return err
		}
	}
	return nil
}

// dpmAdaptive chooses its steps itself: it compares two orders and lets a PID
// controller set the step. The schedule gives it only the ends.
func dpmAdaptive(ctx context.Context, s *state) error {
	o := DefaultAdaptive()
	if s.Options.Adaptive != nil {
		o = *s.Options.Adaptive
	}
	d, c := newDPM(s), newController(o, s.Options.eta(0))
	t, end := d.ends()
	p := pair{s.buffer(), s.buffer()}
	before := slices.Clone(s.x)
	for i := 0; t < end-1e-5; i++ {
		next := min(end, round32(t+c.step))
		target, up := d.lower(t, next, end)
		den, err := d.try(ctx, p, span{t, round32(target - t)}, o.Order)
		if err != nil {
			return err
		}
		if c.propose(p.distance(before, o)) {
			copy(before, p.low)
			copy(s.x, p.high)
			if up > 0 {
				add(s.x, up*s.Options.noiseScale(), s.noise())
			}
			t = next
		}
		s.report(i, sigmaAt(t), s.x, den)
	}
	return nil
}

// lower returns how far a step from t to next goes when part of it is noise, and
// the deviation of that noise.
func (d *dpm) lower(t, next, end float64) (target, up float64) {
	eta := d.Options.eta(0)
	if eta == 0 {
		return next, 0
	}
	a, b := sigmaAt(t), sigmaAt(next)
	down, _ := ancestral(a, b, eta)
	target = min(end, round32(-math.Log(down)))
	c := sigmaAt(target)
	return target, math.Sqrt(max(0, b*b-c*c))
}

// pair is a state reached with two orders.
type pair struct{ low, high []float32 }

// try computes a step with the order and with the one below.
func (d *dpm) try(ctx context.Context, p pair, v span, order int) (den []float32, err error) {
	if den, err = d.begin(ctx, v.t); err != nil {
		return nil, err
	}
	if order == 2 {
		d.order1(p.low, v)
		return den, d.solve(ctx, p.high, v, 2)
	}
	if err := d.inner(ctx, v, 1.0/3); err != nil {
		return nil, err
	}
	d.order2(p.low, v, 1.0/3)
	return den, d.order3(ctx, p.high, v)
}

// distance is the root mean square of the difference, measured in tolerances.
func (p pair) distance(before []float32, o Adaptive) float64 {
	var sum float64
	for i, l := range p.low {
		size := max(math.Abs(float64(l)), math.Abs(float64(before[i])))
		e := float64(l-p.high[i]) / max(o.ATol, o.RTol*size)
		sum += e * e
	}
	return math.Sqrt(sum / float64(len(p.low)))
}

// controller sets the step size from the errors of the last three steps.
type controller struct {
	step   float64
	b      [3]float64
	errs   [3]float64
	safety float64
	begun  bool
}

func newController(o Adaptive, eta float64) *controller {
	order := float64(o.Order)
	if eta != 0 {
		order = 1.5
	}
	b := [3]float64{(o.P + o.I + o.D) / order, -(o.P + 2*o.D) / order, o.D / order}
	return &controller{step: o.Step, b: b, safety: o.Safety}
}

// propose sets the next step and reports whether the last one was good enough.
func (c *controller) propose(err float64) bool {
	inv := 1 / (err + 1e-8)
	if !c.begun {
		c.errs, c.begun = [3]float64{inv, inv, inv}, true
	}
	c.errs[0] = inv
	factor := 1.0
	for i, e := range c.errs {
		factor *= math.Pow(e, c.b[i])
	}
	factor = 1 + math.Atan(factor-1)
	c.step *= factor
	if factor < c.safety {
		return false
	}
	c.errs[2], c.errs[1] = c.errs[1], c.errs[0]
	return true
}
