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

// Digest identifies the model by the content of its file.
func (m *Model) Digest() string { return m.unet.digest(m.runtime.options.Digests) }

// File returns the path of the file that the model comes from.
func (m *Model) File() string { return m.unet.file.Path }

// Schedule returns the model's noise schedule.
func (m *Model) Schedule() *sampling.Model { return m.schedule }

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
