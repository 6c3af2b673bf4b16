package diffusion

import (
	"context"
	"errors"

	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Sigmas is a list of noise levels to go through, usually descending to 0.
type Sigmas []float32

// Sampler is a way through the noise levels, one of sampling.Samplers, with its
// settings.
type Sampler struct {
	Name    string
	Options sampling.Options
}

// Noise is what a run starts with. Its seed is also that of the sampler's own
// noise.
type Noise struct {
	Seed uint64
	// Off starts from the latent as it is.
	Off bool
}

// For returns the noise for a latent, standard normal or zeros.
func (n Noise) For(l Latent) *tensor.Tensor {
	if n.Off {
		return tensor.New(l.Samples.Shape...)
	}
	return sampling.Noise(l.Samples.Shape, n.Seed, l.BatchIndex)
}

// Job describes one sampling run.
type Job struct {
	Guider  Guider
	Sampler Sampler
	// Sigmas are the noise levels; without any the latent stays as it is.
	Sigmas Sigmas
	Noise  Noise
	Latent Latent
	// OnStep is called after each step; Denoised is in the model's scaled latent
	// space, see Model.Glimpse, and stays as it is. Nil is fine.
	OnStep func(sampling.Step)
}

// Sampled is what a run leaves: the latent at the last noise level, and the
// last prediction of the clean one. Both are unscaled like the input and keep
// its mask and batch index.
type Sampled struct{ Latent, Denoised Latent }

// Sample adds noise to a latent and removes it again, as the guider says.
// Cancelling ctx stops within one evaluation of the network.
func Sample(ctx context.Context, j Job) (Sampled, error) {
	m := j.Guider.model
	if m == nil {
		return Sampled{}, errors.New("sample: the guider has no model")
	}
	var err error
	if j.Latent.Samples, err = m.fit(j.Latent.Samples); err != nil {
		return Sampled{}, err
	}
	out := Sampled{j.Latent, j.Latent}
	if len(j.Sigmas) == 0 {
		return out, nil
	}
	r := &run{Job: j, model: m, noise: j.Noise.For(j.Latent), latent: m.scaled(j.Latent.Samples)}
	x, err := r.sample(ctx)
	if err != nil {
		return Sampled{}, err
	}
	out.Latent.Samples = m.unscaled(x)
	out.Denoised = out.Latent
	if r.last != nil {
		out.Denoised.Samples = m.unscaled(r.last)
	}
	return out, nil
}

// run is a job under way.
type run struct {
	Job
	model         *Model
	noise, latent *tensor.Tensor // unit noise; the latent, scaled
	mask          *tensor.Tensor // noise mask [batch, 1, height, width], or nil
	last          *tensor.Tensor // newest prediction, scaled
}

func (r *run) sample(ctx context.Context) (*tensor.Tensor, error) {
	schedule, first := r.model.schedule, r.Sigmas[0]
	x := schedule.NoiseScaling(first, r.noise, r.latent, schedule.MaxDenoise(first))
	if err := r.prepareMask(); err != nil {
		return nil, err
	}
	g, err := newGuidance(r)
	if err != nil {
		return nil, err
	}
	denoiser, err := r.masked(g)
	if err != nil {
		return nil, err
	}
	x, err = sampling.Sample(ctx, sampling.Run{
		Model: schedule, Sampler: r.Sampler.Name, Options: r.Sampler.Options,
		Sigmas: r.Sigmas, X: x, Seed: r.Noise.Seed, OnStep: r.step,
	}, denoiser)
	if err != nil {
		return nil, err
	}
	return schedule.InverseNoiseScaling(sampling.FinalSigma(r.Sampler.Name, r.Sigmas), x), nil
}

// stepAt returns the number of the step, counted from 1, that evaluates the
// network at a noise level: levels within it or, with added noise, above it
// belong to it.
func (r *run) stepAt(sigma float32) int {
	n := 1
	for i, s := range r.Sigmas[:max(len(r.Sigmas)-1, 0)] {
		if sigma <= s {
			n = i + 1
		}
	}
	return n
}

func (r *run) step(s sampling.Step) {
	r.last = s.Denoised.Clone()
	s.Denoised = r.last
	if r.OnStep != nil {
		r.OnStep(s)
	}
}

func (r *run) prepareMask() (err error) {
	if r.Latent.NoiseMask != nil {
		r.mask, err = latentMask(r.Latent.NoiseMask, r.latent.Shape)
	}
	return err
}

// masked keeps what the latent's noise mask does not mark.
func (r *run) masked(g *guidance) (sampling.Denoiser, error) {
	if r.mask == nil {
		return g.denoise, nil
	}
	in := sampling.Inpaint{
		Model: r.model.schedule, Mask: r.mask, Latent: r.latent, At: g.maskAt(),
		Noise: sampling.InpaintNoise(r.Sampler.Name, r.noise, r.Noise.Seed),
	}
	return in.Denoiser(g.denoise)
}

// latentMask resizes a mask, [batch, h, w] or [batch, 1, h, w], to a latent's
// height and width: [batch, 1, height, width].
func latentMask(mask *tensor.Tensor, shape tensor.Shape) (*tensor.Tensor, error) {
	h, w := mask.Dim(-2), mask.Dim(-1)
	planes := tensor.Of(mask.Data, len(mask.Data)/(h*w), 1, h, w)
	if h == shape[2] && w == shape[3] {
		return planes, nil
	}
	return tensor.Resize(planes, shape[3], shape[2], tensor.Bilinear)
}

// AddNoise adds noise to a latent as a run over the levels would have at its
// start: of the level that the list falls by, or of its only level.
func (m *Model) AddNoise(l Latent, n Noise, s Sigmas) (Latent, error) {
	if len(s) == 0 {
		return l, nil
	}
	samples, err := m.fit(l.Samples)
	if err != nil {
		return Latent{}, err
	}
	l.Samples = samples
	level := s[0]
	if len(s) > 1 {
		level = max(s[0]-s[len(s)-1], s[len(s)-1]-s[0])
	}
	x := m.unscaled(m.schedule.NoiseScaling(level, n.For(l), m.scaled(samples), false))
	for i, v := range x.Data {
		if d := v - v; d != 0 { // NaN and infinities
			x.Data[i] = 0
		}
	}
	l.Samples = x
	return l, nil
}
