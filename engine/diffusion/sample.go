package diffusion

import (
	"context"

	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Job describes one sampling run.
type Job struct {
	Latent             Latent
	Positive, Negative Conditioning
	Plan               sampling.Plan
	CFG                float64
	Seed               uint64
	// NoNoise starts from the latent as it is.
	NoNoise bool
	// OnStep is called after each step; Denoised is in the model's scaled latent
	// space. Nil is fine.
	OnStep func(sampling.Step)
}

// Sample adds noise to a latent and removes it again, guided by both
// conditionings. The result is unscaled like the input and keeps its mask and
// batch index. Cancelling ctx stops within one evaluation of the network.
func (m *Model) Sample(ctx context.Context, j Job) (Latent, error) {
	latent, err := m.fit(j.Latent.Samples)
	if err != nil {
		return Latent{}, err
	}
	out := j.Latent
	out.Samples = latent
	sigmas, err := sampling.Sigmas(m.schedule, j.Plan)
	if err != nil {
		return Latent{}, err
	}
	if len(sigmas) < 2 {
		return out, nil
	}
	noise := tensor.New(latent.Shape...)
	if !j.NoNoise {
		noise = sampling.Noise(latent.Shape, j.Seed, j.Latent.BatchIndex)
	}
	x, err := m.denoise(ctx, j, start{latent: m.scaled(latent), noise: noise, sigmas: sigmas})
	if err != nil {
		return Latent{}, err
	}
	out.Samples = m.unscaled(x)
	return out, nil
}

// start is where a run begins: the scaled latent, unit noise and the noise
// levels to go through.
type start struct {
	latent, noise *tensor.Tensor
	sigmas        []float32
}

func (m *Model) denoise(ctx context.Context, j Job, s start) (*tensor.Tensor, error) {
	first := s.sigmas[0]
	x := m.schedule.NoiseScaling(first, s.noise, s.latent, m.schedule.MaxDenoise(first))
	g := &guidance{model: m, cfg: float32(j.CFG), wantUncond: sampling.NeedsUncond(j.Plan.Sampler)}
	if err := g.prepare(j, x.Shape); err != nil {
		return nil, err
	}
	denoiser, err := m.masked(g.denoise, j, s)
	if err != nil {
		return nil, err
	}
	run := sampling.Run{Model: m.schedule, Sampler: j.Plan.Sampler, Sigmas: s.sigmas, X: x, Seed: j.Seed, OnStep: j.OnStep}
	x, err = sampling.Sample(ctx, run, denoiser)
	if err != nil {
		return nil, err
	}
	return m.schedule.InverseNoiseScaling(sampling.FinalSigma(j.Plan.Sampler, s.sigmas), x), nil
}

// masked keeps what the latent's noise mask does not mark.
func (m *Model) masked(d sampling.Denoiser, j Job, s start) (sampling.Denoiser, error) {
	if j.Latent.NoiseMask == nil {
		return d, nil
	}
	mask, err := latentMask(j.Latent.NoiseMask, s.latent.Shape)
	if err != nil {
		return nil, err
	}
	in := sampling.Inpaint{
		Model: m.schedule, Mask: mask, Latent: s.latent,
		Noise: sampling.InpaintNoise(j.Plan.Sampler, s.noise, j.Seed),
	}
	return in.Denoiser(d)
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
