package diffusion

import (
	"context"
	"fmt"
	"maps"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// sd1LatentScale brings SD 1.x latents to unit deviation.
// https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5/blob/main/vae/config.json
const sd1LatentScale = 0.18215

// Model is a denoiser with the noise schedule that it was trained on.
type Model struct {
	runtime     *Runtime
	unet        *component
	schedule    *sampling.Model
	channels    int // of a latent
	latentScale float32
}

func (r *Runtime) newModel(f *weights.File, parts *arch.Checkpoint) (*Model, error) {
	graph, err := nn.Build("UNet", parts.Model, parts.UNet.Build)
	if err != nil {
		return nil, err
	}
	in, _ := parts.Model.Lookup("input_blocks.0.0.weight")
	return &Model{
		runtime: r, unet: newComponent("unet", f, graph),
		schedule: sampling.NewDiscrete(sampling.EPS, false),
		channels: in.Shape[1], latentScale: sd1LatentScale,
	}, nil
}

// Digest identifies the model by its file.
func (m *Model) Digest() string { return digest(m.unet.key()) }

// File returns the path of the file that the model comes from.
func (m *Model) File() string { return m.unet.file.Path }

// Schedule returns the model's noise schedule.
func (m *Model) Schedule() *sampling.Model { return m.schedule }

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

// fit checks a latent's shape. One of zeros stands for an empty picture and
// takes on the model's number of channels.
func (m *Model) fit(samples *tensor.Tensor) (*tensor.Tensor, error) {
	if samples == nil || len(samples.Shape) != 4 {
		return nil, fmt.Errorf("sample: the latent is not [batch, channel, height, width]")
	}
	if samples.Dim(1) == m.channels {
		return samples, nil
	}
	if samples.IsZero() {
		return tensor.New(samples.Dim(0), m.channels, samples.Dim(2), samples.Dim(3)), nil
	}
	return nil, fmt.Errorf("sample: the latent has %d channels, the model wants %d", samples.Dim(1), m.channels)
}

// scaled brings a latent into the model's space. Zeros stay zeros.
func (m *Model) scaled(latent *tensor.Tensor) *tensor.Tensor {
	out := latent.Clone()
	for i, v := range out.Data {
		out.Data[i] = v * m.latentScale
	}
	return out
}

func (m *Model) unscaled(x *tensor.Tensor) *tensor.Tensor {
	out := tensor.New(x.Shape...)
	for i, v := range x.Data {
		out.Data[i] = v / m.latentScale
	}
	return out
}

// predict evaluates the network for a batch x at noise level sigma and returns
// the denoised prediction. inputs are what the network takes beside picture
// and timestep, with the batch as first dimension.
func (m *Model) predict(ctx context.Context, x *tensor.Tensor, inputs map[string]*tensor.Tensor, sigma float32) (*tensor.Tensor, error) {
	scaled := tensor.New(x.Shape...)
	scale := m.schedule.InputScale(sigma)
	for i, v := range x.Data {
		scaled.Data[i] = v * scale
	}
	in := maps.Clone(inputs)
	in["x"], in["timesteps"] = scaled, tensor.Full(m.schedule.Timestep(sigma), x.Dim(0))
	out, err := m.runtime.pool.run(ctx, m.unet, in)
	if err != nil {
		return nil, err
	}
	den := out["out"]
	m.schedule.Denoise(x.Data, den.Data, sigma)
	return den, nil
}
