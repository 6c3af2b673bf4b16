package diffusion

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// Model is a denoiser with the noise schedule that it was trained on.
type Model struct {
	runtime  *Runtime
	unet     *component
	schedule *sampling.Model
	trained  *sampling.Model // schedule as it was read
	channels int             // of a latent
	format   latentFormat
	patches  []Patch
	// graphPatches change the network; variants are the graphs that come of it.
	graphPatches []graphPatch
	variants     *variants
	numbers      []arch.Number // told to the network beside the pooled text
	// textWidth and vectorWidth are those of the network's inputs context and
	// y; the latter is 0 where it has none.
	textWidth, vectorWidth int
	// steered traces the network with inputs for the residuals of controls.
	steered func() (*component, error)
	arch    arch.UNet
	family  string
	// inpaints says that the network takes a mask and the masked latent too.
	inpaints bool
	// edits says that the network takes the latent of a picture that it is told
	// to change, editsScaled that it takes it scaled.
	edits, editsScaled bool
}

func (r *Runtime) newModel(ctx context.Context, f *weights.File, parts *arch.Checkpoint) (*Model, error) {
	target, err := r.target(ctx, denoising)
	if err != nil {
		return nil, err
	}
	unet, err := newComponent(component{name: "unet", file: f, target: target, weights: parts.Model, trace: tracerOf("UNet", parts.UNet.Build)})
	if err != nil {
		return nil, err
	}
	in, _ := parts.Model.Lookup("input_blocks.0.0.weight")
	out, _ := parts.Model.Lookup("out.2.weight")
	m := &Model{
		runtime: r, unet: unet, arch: parts.UNet, family: parts.Name, numbers: parts.Numbers,
		channels: out.Shape[0], format: latentFormat{scale: parts.LatentScale},
		inpaints:  in.Shape[1] == 2*out.Shape[0]+1,
		edits:     in.Shape[1] == 2*out.Shape[0],
		textWidth: inputWidth(unet.graph, "context"), vectorWidth: inputWidth(unet.graph, "y"),
	}
	m.setUNet(m.unet)
	err = m.trainedAs(f, parts)
	m.trained = m.schedule
	return m, err
}

// setUNet sets the network, and what follows from it.
func (m *Model) setUNet(c *component) {
	m.unet, m.variants = c, &variants{made: map[string]*component{}}
	steered := m.arch
	steered.Steered = true
	m.steered = sync.OnceValues(func() (*component, error) {
		return c.as("+steered", tracerOf("UNet", steered.Build))
	})
}

// inputWidth returns the last dimension of a graph's input, 0 for none.
func inputWidth(g *nn.Graph, name string) int {
	for _, in := range g.ONNX.Inputs {
		if in.Name == name {
			return int(in.Dims[len(in.Dims)-1].Size)
		}
	}
	return 0
}

// Digest identifies the model by the content of its file, its noise schedule
// and its patches.
func (m *Model) Digest() string {
	return digest(m.unet.digest(m.runtime.options.Digests), m.patchNames())
}

// File returns the path of the file that the model comes from.
func (m *Model) File() string { return m.unet.file.Path }

// Trained returns the noise schedule that the file was trained on, whatever
// WithSchedule did since.
func (m *Model) Trained() *sampling.Model { return m.trained }

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
	if latent.IsZero() {
		return latent.Clone()
	}
	return m.format.in(latent)
}

func (m *Model) unscaled(x *tensor.Tensor) *tensor.Tensor { return m.format.out(x) }

// scaledInput is the state as the network takes it at a noise level.
func (m *Model) scaledInput(x *tensor.Tensor, sigma float32) *tensor.Tensor {
	out := tensor.New(x.Shape...)
	scale := m.schedule.InputScale(sigma)
	for i, v := range x.Data {
		out.Data[i] = v * scale
	}
	return out
}

// outputs evaluates the network for a batch x at noise level sigma: "out" is
// the denoised prediction. Inputs are what the network takes beside picture and
// timestep, with the batch as first dimension; one named inputChannels holds
// further channels of the picture.
func (m *Model) outputs(ctx context.Context, e evaluation) (map[string]*tensor.Tensor, error) {
	scaled := m.scaledInput(e.x, e.sigma)
	in := feed{tensors: maps.Clone(e.inputs), kept: e.kept}
	if more := in.tensors[inputChannels]; more != nil {
		delete(in.tensors, inputChannels)
		var err error
		if scaled, err = tensor.Concat(1, scaled, more); err != nil {
			return nil, err
		}
	}
	in.tensors["x"], in.tensors["timesteps"] = scaled, tensor.Full(m.schedule.Timestep(e.sigma), e.x.Dim(0))
	now, err := m.at(e.sigma)
	if err != nil {
		return nil, err
	}
	unet, err := now.network(in)
	if err != nil {
		return nil, err
	}
	out, err := m.runtime.pool.runFed(ctx, unet, in)
	if err != nil {
		return nil, err
	}
	m.schedule.Denoise(e.x.Data, out["out"].Data, e.sigma)
	return out, nil
}
