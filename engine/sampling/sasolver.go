package sampling

import (
	"context"
	"math"
)

// saRun is the stochastic Adams solver (Xue et al. 2023): a predictor of several
// past predictions, and a corrector that repeats the step once the prediction
// at its end is known. The noise strength τ is a function of the level.
type saRun struct {
	*state
	o      SA
	tau    func(sigma float64) float64
	lambda []float64   // log-SNR of every level
	preds  [][]float32 // last predictions, oldest first
}

func saSolver(ctx context.Context, s *state) error {
	o := DefaultSA()
	if s.Options.SA != nil {
		o = *s.Options.SA
	}
	return newSA(s, o).run(ctx)
}

func saSolverPECE(ctx context.Context, s *state) error {
	o := DefaultSA()
	if s.Options.SA != nil {
		o = *s.Options.SA
	}
	o.PECE = true
	return newSA(s, o).run(ctx)
}

func newSA(s *state, o SA) *saRun {
	s.lowerFirst()
	e := &saRun{state: s, o: o, lambda: make([]float64, len(s.sigmas))}
	for i := range e.lambda {
		e.lambda[i] = s.Model.lambda(s.sigma(i))
	}
	eta := s.Options.eta(1)
	first, last := s.Model.PercentToSigma(o.Start), s.Model.PercentToSigma(o.End)
	e.tau = func(sigma float64) float64 {
		if eta > 0 && first >= sigma && sigma >= last {
			return eta
		}
		return 0
	}
	return e
}

// saStep is a predictor or corrector step from level from to level to with the
// predictions of the q levels that end with level newest.
type saStep struct {
	from, to, newest, q int
	tau                 float64
}

func (e *saRun) run(ctx context.Context) error {
	predicted, noise := append([]float32(nil), e.x...), e.buffer()
	var tau float64 // of the last predictor step
	for i := range e.count() {
		den, _, err := e.denoise(ctx, predicted, e.sigma(i))
		if err != nil {
			return err
		}
		e.report(i, e.sigma(i), predicted, den)
		e.remember(den)
		p, c := e.orders(i)
		if c == 0 {
			copy(e.x, predicted)
		} else if err := e.correct(ctx, saStep{i - 1, i, i, c, tau}, noise); err != nil {
			return err
		}
		if e.last(i) {
			copy(e.x, e.preds[len(e.preds)-1])
			return nil
		}
		tau = e.tau(e.sigma(i + 1))
		e.advance(predicted, saStep{i, i + 1, i, p, tau})
		if tau > 0 {
			h := e.lambda[i+1] - e.lambda[i]
			up := e.sigma(i+1) * math.Sqrt(-math.Expm1(-2*tau*tau*h)) * e.Options.noiseScale()
			mix(noise, up, e.noise(), 0, noise)
			add(predicted, 1, noise)
		}
	}
	copy(e.x, predicted)
	return nil
}

// correct moves the state to the level of the newest prediction.
func (e *saRun) correct(ctx context.Context, t saStep, noise []float32) error {
	e.advance(e.x, t)
	if t.tau > 0 {
		add(e.x, 1, noise)
	}
	if !e.o.PECE {
		return nil
	}
	den, _, err := e.denoise(ctx, e.x, e.sigma(t.to))
	if err != nil {
		return err
	}
	e.preds[len(e.preds)-1] = den
	return nil
}

// remember appends a prediction and forgets those that no order reaches.
func (e *saRun) remember(den []float32) {
	e.preds = append(e.preds, den)
	if limit := max(e.o.Predictor, e.o.Corrector, 1); len(e.preds) > limit {
		e.preds = e.preds[1:]
	}
}

// orders returns the orders of predictor and corrector at level i; both fall
// towards a last level 0.
func (e *saRun) orders(i int) (p, c int) {
	n := e.count()
	p, c = min(e.o.Predictor, len(e.preds)), min(e.o.Corrector, len(e.preds))
	if i == 0 || e.last(i) && !e.o.PECE {
		c = 0
	}
	if e.last(n - 1) {
		p, c = min(p, n-1-i), min(c, n-i)
	}
	return p, c
}

// advance sets dst to the state at level t.to.
func (e *saRun) advance(dst []float32, t saStep) {
	h := e.lambda[t.to] - e.lambda[t.from]
	keep := e.sigma(t.to) / e.sigma(t.from) * math.Exp(-t.tau*t.tau*h)
	mix(dst, keep, e.x, 0, e.x)
	preds := e.preds[len(e.preds)-t.q:]
	for k, b := range e.weights(t) {
		add(dst, b, preds[k])
	}
}

// weights integrates the polynomial through the predictions, exactly.
func (e *saRun) weights(t saStep) []float64 {
	if e.o.SimpleOrder2 && t.q == 2 {
		return e.simpleWeights(t)
	}
	points := e.lambda[t.newest-t.q+1 : t.newest+1]
	u, v, m := e.lambda[t.from], e.lambda[t.to], 1+t.tau*t.tau
	rows, moments := make([][]float64, t.q), make([]float64, t.q)
	var moment float64
	for k := range rows {
		// ∫ λ^k·M·e^{-M(v-λ)} dλ, by parts from the one before.
		p := math.Pow(v, float64(k)) - math.Pow(u, float64(k))*math.Exp(-m*(v-u))
		moment = p - float64(k)/m*moment
		moments[k] = moment
		rows[k] = make([]float64, t.q)
		for j, l := range points {
			rows[k][j] = math.Pow(l, float64(k))
		}
	}
	b := solveLinear(rows, moments)
	for k := range b {
		b[k] *= e.sigma(t.to) * math.Exp(v)
	}
	return b
}

// simpleWeights are the weights of order 2 with the slope's integral cut after
// its first term, M·h²/2.
func (e *saRun) simpleWeights(t saStep) []float64 {
	u, v, m := e.lambda[t.from], e.lambda[t.to], 1+t.tau*t.tau
	h, alpha := v-u, e.sigma(t.to)*math.Exp(v)
	sum := -alpha * math.Expm1(-m*h)
	if t.newest == t.to { // corrector: the predictions at both ends
		b := alpha * .5 * m * h
		return []float64{sum - b, b}
	}
	b := alpha * .5 * m * h * h / (e.lambda[t.newest-1] - u)
	return []float64{b, sum - b}
}
