package diffusion

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// tinyVAE is a tiny autoencoder by the name that its files begin with.
type tinyVAE struct {
	name string
	net  arch.TAESD
}

// tinyVAEs are the tiny autoencoders, for the latents of Stable Diffusion 1 and
// 2, XL, 3, and Flux.
// https://github.com/madebyollin/taesd
func tinyVAEs() []tinyVAE {
	return []tinyVAE{
		{"taesd", arch.TAESD{Scale: 0.18215}}, {"taesdxl", arch.TAESD{Scale: 0.13025}},
		{"taesd3", arch.TAESD{Scale: 1.5305, Shift: 0.0609}}, {"taef1", arch.TAESD{Scale: 0.3611, Shift: 0.1159}},
	}
}

// TinyVAENames lists the tiny autoencoders that LoadTinyVAE knows.
func TinyVAENames() []string {
	var names []string
	for _, t := range tinyVAEs() {
		names = append(names, t.name)
	}
	return names
}

// TinyVAEFiles are the two files of a tiny autoencoder.
type TinyVAEFiles struct{ Encoder, Decoder string }

// LoadTinyVAE reads a tiny autoencoder, one of TinyVAENames.
func (r *Runtime) LoadTinyVAE(ctx context.Context, name string, files TinyVAEFiles) (*VAE, error) {
	i := slices.Index(TinyVAENames(), name)
	if i < 0 {
		return nil, fmt.Errorf("load VAE: %q is none of %s", name, strings.Join(TinyVAENames(), ", "))
	}
	net := tinyVAEs()[i].net
	decoder, err := r.tinyHalf(ctx, tinyFile{files.Decoder, name + "_decoder", net.BuildDecoder})
	if err != nil {
		return nil, err
	}
	encoder, err := r.tinyHalf(ctx, tinyFile{files.Encoder, name + "_encoder", net.BuildEncoder})
	if err != nil {
		return nil, err
	}
	first, _ := decoder.file.Tensor("1.weight")
	return &VAE{runtime: r, decoder: decoder, encoder: encoder, channels: first.Shape[1], scale: pixelsPerLatent}, nil
}

// tinyFile is one half of a tiny autoencoder.
type tinyFile struct {
	path, name string
	build      func(nn.Scope)
}

func (r *Runtime) tinyHalf(ctx context.Context, h tinyFile) (*component, error) {
	f, err := weights.Open(h.path)
	if err != nil {
		return nil, unpickled(h.path, err)
	}
	target, err := r.target(ctx, coding)
	if err != nil {
		return nil, err
	}
	c, err := newComponent(component{name: h.name, seldom: true, file: f, target: target, weights: tensorsOf(f), trace: tracerOf(h.name, h.build)})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.path, err)
	}
	return c, nil
}
