package sampling

import (
	"context"
	"math"
)

// uniPCEnd replaces a last level of 0, where the log-SNR would be infinite.
const uniPCEnd = 0.001

// uniRun is UniPC (Zhao et al. 2023): a predictor of up to three past
// predictions with a corrector that reuses the prediction at the step's end. It
// works on the variance preserving state y = x/√(1+σ²), also for flows.
type uniRun struct {
	*state
	bh2   bool // the paper's second choice of B(h)
	known []uniPoint
	base  []float32 // y without the terms of higher order
	y     []float32
}

// uniPoint is a level with its prediction; the newest is the first.
type uniPoint struct {
	level uniLevel
	den   []float32
}

// uniLevel is a noise level in the terms of the method: signal and noise of y,
// and the log of their ratio. root is √(1+σ²), which turns y into the state. They
// are computed in float32 by way of logarithms, like the original's: near level
// 0 the noise comes out 2% too low, and that can be seen in the result.
type uniLevel struct{ sigma, root, alpha, noise, lambda float32 }

func newLevel(sigma float32) uniLevel {
	s2 := float32(sigma*sigma) + 1
	mean := 0.5 * log(1/s2)
	deviation := 0.5 * log(1-exp32(2*mean))
	return uniLevel{sigma, sqrt32(s2), exp32(mean), exp32(deviation), mean - deviation}
}

func uniPC(ctx context.Context, s *state) error {
	return (&uniRun{state: s, base: s.buffer(), y: s.buffer()}).run(ctx)
}

func uniPCBH2(ctx context.Context, s *state) error {
	return (&uniRun{state: s, bh2: true, base: s.buffer(), y: s.buffer()}).run(ctx)
}

func (u *uniRun) run(ctx context.Context) error {
	levels := make([]uniLevel, len(u.sigmas))
	for i := range levels {
		levels[i] = newLevel(u.sigmas[i])
	}
	n := u.count()
	if u.sigmas[n] == 0 {
		levels[n] = newLevel(uniPCEnd)
	}
	for i, x := range u.x {
		u.y[i] = x / levels[0].root
	}
	den, err := u.predict(ctx, u.y, levels[0])
	if err != nil {
		return err
	}
	u.known = []uniPoint{{levels[0], den}}
	u.report(0, u.sigma(0), u.y, den)
	order := min(3, n-1)
	for j := 1; j < n; j++ {
		p := min(order, n+1-j, j)
		if err := u.update(ctx, p, levels[j]); err != nil {
			return err
		}
		if j == n-1 {
			u.finish(levels[n])
		}
		u.report(j, u.sigma(j), u.y, u.known[0].den)
	}
	for i, y := range u.y {
		u.x[i] = y / levels[n].alpha
	}
	return nil
}

// predict asks the model at y. The prediction takes the way through the noise:
// at very high levels, what that loses in rounding is far more than all else.
func (u *uniRun) predict(ctx context.Context, y []float32, l uniLevel) ([]float32, error) {
	x := u.scratch()
	for i, v := range y {
		x[i] = v * l.root
	}
	den, _, err := u.denoise(ctx, x, float64(l.sigma))
	if err != nil {
		return nil, err
	}
	out := make([]float32, len(y))
	for i, v := range y {
		noise := (x[i] - den[i]) / l.sigma
		out[i] = (v - float32(l.noise*noise)) / l.alpha
	}
	return out, nil
}

// uniStep holds the numbers of a step to a level.
type uniStep struct {
	c    float64     // α·B(h)
	r    []float64   // places of the known predictions and of the end
	rows [][]float64 // the order conditions and
	v    []float64   // their right side
}

// begin sets u.base to the first order solution and returns the step's numbers.
func (u *uniRun) begin(p int, to uniLevel) uniStep {
	from := u.known[0]
	h := float64(to.lambda - from.level.lambda)
	z, alpha := -h, float64(to.alpha)
	phi := math.Expm1(z)
	bh := z
	if u.bh2 {
		bh = phi
	}
	mix(u.base, float64(to.noise/from.level.noise), u.y, -alpha*phi, from.den)
	t := uniStep{c: alpha * bh, r: make([]float64, p)}
	for k := 1; k < p; k++ {
		t.r[k-1] = float64(u.known[k].level.lambda-from.level.lambda) / h
	}
	t.r[p-1] = 1
	psi, f := phi/z-1, 1.0
	for i := 1; i <= p; i++ {
		row := make([]float64, p)
		for k, r := range t.r {
			row[k] = math.Pow(r, float64(i-1))
		}
		t.rows, t.v = append(t.rows, row), append(t.v, psi*f/bh)
		f *= float64(i + 1)
		psi = psi/z - 1/f
	}
	return t
}

// bend sets dst to the base with the weighted differences of past predictions.
func (u *uniRun) bend(dst []float32, t uniStep, rho []float64) {
	copy(dst, u.base)
	for k := range len(t.r) - 1 {
		c := t.c * rho[k] / t.r[k]
		add(dst, -c, u.known[k+1].den)
		add(dst, c, u.known[0].den)
	}
}

// update predicts the state at a level with order p, asks the model there, and
// corrects.
func (u *uniRun) update(ctx context.Context, p int, to uniLevel) error {
	t := u.begin(p, to)
	u.bend(u.y, t, t.predictor())
	den, err := u.predict(ctx, u.y, to)
	if err != nil {
		return err
	}
	rho := t.corrector()
	u.bend(u.y, t, rho)
	c := t.c * rho[p-1]
	add(u.y, -c, den)
	add(u.y, c, u.known[0].den)
	u.known = append([]uniPoint{{to, den}}, u.known[:min(2, len(u.known))]...)
	return nil
}

// finish is the last step: order 1, without a corrector.
func (u *uniRun) finish(to uniLevel) {
	u.begin(1, to)
	copy(u.y, u.base)
}

// predictor returns the weights of the past differences.
func (t uniStep) predictor() []float64 {
	p := len(t.r)
	if p == 2 {
		return []float64{.5}
	}
	rows := make([][]float64, p-1)
	for i := range rows {
		rows[i] = append([]float64(nil), t.rows[i][:p-1]...)
	}
	return solveLinear(rows, append([]float64(nil), t.v[:p-1]...))
}

// corrector returns the weights of the past differences and of the new one. It
// overwrites the step's rows.
func (t uniStep) corrector() []float64 {
	if len(t.r) == 1 {
		return []float64{.5}
	}
	return solveLinear(t.rows, t.v)
}
