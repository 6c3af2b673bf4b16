package sampling

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// state is what all samplers share: the current state, the levels, the model
// and the sources of noise. A sampler overwrites x.
type state struct {
	Run
	sampler sampler
	ask     Denoiser
	sigmas  []float32 // own copy
	shape   tensor.Shape
	x       []float32
	gen     *Generator // noise of ancestral steps, made at the first draw
	churn   *Generator // noise of churn, likewise
	path    *brownian  // noise of SDE steps, likewise
	drawn   []float32  // the last noise drawn
}

func newState(r Run, alg sampler, d Denoiser) *state {
	return &state{
		Run: r, sampler: alg, ask: d,
		sigmas: slices.Clone(r.Sigmas),
		shape:  slices.Clone(r.X.Shape),
		x:      slices.Clone(r.X.Data),
	}
}

func (s *state) result() *tensor.Tensor { return &tensor.Tensor{Shape: s.shape, Data: s.x} }

// count returns the number of steps.
func (s *state) count() int { return len(s.sigmas) - 1 }

// sigma returns level i.
func (s *state) sigma(i int) float64 { return float64(s.sigmas[i]) }

// last reports whether step i ends in level 0.
func (s *state) last(i int) bool { return s.sigmas[i+1] == 0 }

func (s *state) buffer() []float32 { return make([]float32, len(s.x)) }

// denoise is one model call at a state of the run's shape. Both results belong
// to the caller.
func (s *state) denoise(ctx context.Context, x []float32, sigma float64) (den, unc []float32, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	d, err := s.ask(ctx, &tensor.Tensor{Shape: s.shape, Data: x}, float32(sigma))
	if err != nil {
		return nil, nil, err
	}
	if d.X == nil || len(d.X.Data) != len(x) {
		return nil, nil, fmt.Errorf("denoise at sigma %g: the prediction does not have the state's shape %v", sigma, s.shape)
	}
	if !s.sampler.uncond {
		return d.X.Data, nil, nil
	}
	if d.Uncond == nil || len(d.Uncond.Data) != len(x) {
		return nil, nil, fmt.Errorf("denoise at sigma %g: no unconditional prediction", sigma)
	}
	return d.X.Data, d.Uncond.Data, nil
}

// report calls OnStep.
func (s *state) report(i int, sigma float64, x, den []float32) {
	if s.OnStep == nil {
		return
	}
	s.OnStep(Step{
		Index: i, Total: s.count(), Sigma: float32(sigma),
		X:        &tensor.Tensor{Shape: s.shape, Data: x},
		Denoised: &tensor.Tensor{Shape: s.shape, Data: den},
	})
}

// turn is one step from level a to level b with the prediction at a.
type turn struct {
	i        int
	a, b     float64
	den, unc []float32
}

// step moves the state from t.a to t.b. It may ask the model again.
type step func(ctx context.Context, t turn) error

// steps makes a solver of a sampler that asks the model at the current state
// and then moves on. The sampler's constructor sets up what it remembers.
func steps(sampler func(s *state) step) func(context.Context, *state) error {
	return func(ctx context.Context, s *state) error {
		move := sampler(s)
		for i := range s.count() {
			t := turn{i: i, a: s.sigma(i), b: s.sigma(i + 1)}
			if s.sampler.churn {
				t.a = s.stir(t.a)
			}
			var err error
			if t.den, t.unc, err = s.denoise(ctx, s.x, t.a); err != nil {
				return err
			}
			s.report(i, t.a, s.x, t.den)
			if err := move(ctx, t); err != nil {
				return err
			}
		}
		return nil
	}
}

// stir adds churn noise at sigma and returns the raised sigma.
func (s *state) stir(sigma float64) float64 {
	factor := s.Options.Churn.factor(sigma, s.count())
	if factor == 1 {
		return sigma
	}
	if s.churn == nil {
		// torch's global generator, which made the initial noise before.
		s.churn = NewGenerator(s.Seed)
		s.churn.Normal(s.buffer())
	}
	raised := sigma * factor
	noise := s.scratch()
	s.churn.Normal(noise)
	add(s.x, s.Options.noiseScale()*math.Sqrt(raised*raised-sigma*sigma), noise)
	return raised
}

// scratch returns the buffer of the last noise.
func (s *state) scratch() []float32 {
	if s.drawn == nil {
		s.drawn = s.buffer()
	}
	return s.drawn
}

// noise draws the next noise of an ancestral sampler, valid until the next draw.
// Its generator starts with the seed of the initial noise, so on a CPU the first
// draw of a run is that very noise again, as in ComfyUI 0.3.64 (its issue 9819).
func (s *state) noise() []float32 {
	if s.gen == nil {
		s.gen = NewGenerator(s.Seed)
	}
	noise := s.scratch()
	s.gen.Normal(noise)
	return noise
}

// sdeNoise returns the Brownian noise of a step from a to b, valid until the
// next one. The path spans the run's original levels.
func (s *state) sdeNoise(a, b float64) []float32 {
	if s.path == nil {
		low, high := float32(math.Inf(1)), float32(0)
		for _, v := range s.Sigmas {
			high = max(high, v)
			if v > 0 {
				low = min(low, v)
			}
		}
		s.path = newBrownian(s.Seed, low, high, len(s.x))
	}
	return s.path.noise(float32(a), float32(b))
}

// lowerFirst keeps the log-SNR of flows finite: a first level of 1 or more
// becomes the one after 0.01% of the denoising.
func (s *state) lowerFirst() {
	if s.Model.flow() && s.sigmas[0] >= 1 {
		s.sigmas[0] = float32(s.Model.PercentToSigma(1e-4))
	}
}

// mix sets dst = a·x + b·y; dst may be x or y.
func mix(dst []float32, a float64, x []float32, b float64, y []float32) {
	fa, fb := float32(a), float32(b)
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = float32(fa*x[i]) + float32(fb*y[i])
	}
}

// add sets dst += a·x.
func add(dst []float32, a float64, x []float32) {
	f := float32(a)
	x = x[:len(dst)]
	for i := range dst {
		dst[i] += float32(f * x[i])
	}
}

// slope sets dst = (x-den)/sigma, the derivative of the probability flow; dst
// may be x or den.
func slope(dst, x, den []float32, sigma float64) {
	f := float32(sigma)
	x, den = x[:len(dst)], den[:len(dst)]
	for i := range dst {
		dst[i] = (x[i] - den[i]) / f
	}
}

// ancestral splits a step from a to b into a deterministic one down to down and
// noise of deviation up (Karras et al. 2022). eta scales the noise. It computes
// in float32: where a is far above b, down is what rounding leaves of b²-up².
func ancestral(a, b, eta float64) (down, up float64) {
	if eta == 0 {
		return b, 0
	}
	a2, b2 := float32(a)*float32(a), float32(b)*float32(b)
	v := float32(eta) * sqrt32(float32(b2*(a2-b2))/a2)
	if !(v < float32(b)) { // also when a is infinite
		v = float32(b)
	}
	return float64(sqrt32(b2 - float32(v*v))), float64(v)
}

func sqrt32(v float32) float32 { return float32(math.Sqrt(float64(v))) }

// renoise is ancestral for flows: after a step down to down, the state is
// multiplied by scale and gets noise of deviation up to be one at level b.
func renoise(a, b, eta float64) (down, scale, up float64) {
	down = b * (1 + (b/a-1)*eta)
	scale = (1 - b) / (1 - down)
	return down, scale, math.Sqrt(max(0, b*b-down*down*scale*scale))
}
