package arch

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// header is a checkpoint of names and shapes only.
type header map[string]tensor.Shape

func (h header) Names() []string { return slices.Sorted(maps.Keys(h)) }

func (h header) Lookup(name string) (nn.Source, bool) {
	s, ok := h[name]
	return nn.Source{Shape: s, From: []string{name}}, ok
}

func list(t *testing.T, name string) header {
	t.Helper()
	shapes, err := weightstest.Shapes(name)
	if err != nil {
		t.Fatal(err)
	}
	return shapes
}

// TestStableDiffusion15 counts the tensors and parameters of the real model:
// the sizes that its publication states.
func TestStableDiffusion15(t *testing.T) {
	c, err := Detect(list(t, "sd15-full-fp16"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		name            string
		weights         nn.Weights
		build           func(nn.Scope)
		tensors, params int
	}{
		{"UNet", c.Model, c.UNet.Build, 686, 859_520_964},
		{"VAE decoder", Decoder(c.VAE), VAEDecoder, 140, 49_490_199},
		{"VAE encoder", Encoder(c.VAE), VAEEncoder, 108, 34_163_664},
		// The tables, 49408 and 77 rows of 768, are not part of the graph.
		{"CLIP", Tower(c.Text[0].Weights), c.Text[0].Net.Build, 194, 123_060_480 - (49408+77)*768},
	} {
		g, err := nn.Build(part.name, part.weights, part.build)
		if err != nil {
			t.Error(err)
			continue
		}
		tensors, params := count(g)
		if tensors != part.tensors || params != part.params {
			t.Errorf("%s: %d tensors with %d parameters, want %d with %d", part.name, tensors, params, part.tensors, part.params)
		}
	}
}

// count adds up what a graph takes from the file, each tensor once.
func count(g *nn.Graph) (tensors, params int) {
	sizes := map[string]int{}
	for _, p := range g.Params {
		n := p.Source.Shape.Elements()
		if p.Source.Make != nil {
			n = n * 9 / 16 // four 2x2 kernels are made of each 3x3 kernel
		}
		sizes[p.Source.From[0]] = n
	}
	for _, n := range sizes {
		params += n
	}
	return len(sizes), params
}

func TestDetectSaysWhatAFileSeemsToBe(t *testing.T) {
	unet := func(in, mc int, more header) header {
		h := header{"model.diffusion_model.input_blocks.0.0.weight": {mc, in, 3, 3}}
		maps.Copy(h, more)
		return h
	}
	for want, h := range map[string]header{
		"Stable Diffusion 3": {"model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight": {4608, 1536}},
		"a Flux model":       {"double_blocks.0.img_attn.norm.key_norm.scale": {128}},
		"a ControlNet":       {"control_model.input_hint_block.0.weight": {16, 3, 3, 3}},
		"a LoRA":             {"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": {320, 4}},
		"an unCLIP model": unet(4, 320, header{
			"model.diffusion_model.label_emb.0.0.weight":                                  {1280, 1536},
			"model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight": {1280, 1024},
		}),
		"class vector of width 7":       unet(4, 320, header{"model.diffusion_model.label_emb.0.0.weight": {1280, 7}}),
		"a video model":                 unet(8, 320, header{"model.diffusion_model.input_blocks.1.0.time_stack.in_layers.0.bias": {320}}),
		"an upscaling model":            unet(7, 320, nil),
		"a novel-view model":            unet(8, 320, header{"cc_projection.weight": {768, 772}}),
		"2.x model with 8 input":        unet(8, 320, header{"model.diffusion_model.middle_block.1.proj_in.weight": {1280, 1280}}),
		"an autoencoder":                {"decoder.conv_in.weight": {512, 4, 3, 3}},
		"a text encoder alone":          {"text_model.encoder.layers.0.mlp.fc1.weight": {3072, 768}},
		"the diffusers layout":          {"down_blocks.0.resnets.0.time_emb_proj.weight": {320, 1280}},
		"its tensors are of no known k": {"layer.weight": {3, 3}},
	} {
		_, err := Detect(h)
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something of %q", err, want)
		}
	}
}

func TestMissingBlockIsReported(t *testing.T) {
	h := list(t, "sd15-tiny-fp16")
	delete(h, "model.diffusion_model.output_blocks.3.1.norm.weight")
	delete(h, "model.diffusion_model.middle_block.1.transformer_blocks.0.ff.net.2.bias")
	c, err := Detect(h)
	if err != nil {
		t.Fatal(err)
	}
	_, err = nn.Build("UNet", c.Model, c.UNet.Build)
	for _, name := range []string{"output_blocks.3.1.norm.weight", "middle_block.1.transformer_blocks.0.ff.net.2.bias"} {
		if !nn.IsWeights(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want the missing weight %s", err, name)
		}
	}
}

func TestFilesOfTheirOwn(t *testing.T) {
	full := list(t, "sd15-tiny-fp16")
	vae, clip := header{}, header{}
	for name, shape := range full {
		if rest, ok := strings.CutPrefix(name, "first_stage_model."); ok {
			vae[rest] = shape
		}
		// Some files leave "text_model." out.
		if rest, ok := strings.CutPrefix(name, "cond_stage_model.transformer.text_model."); ok {
			clip[rest] = shape
		}
	}
	for _, h := range []header{vae, full} {
		w, err := DetectVAE(h)
		if err != nil {
			t.Fatal(err)
		}
		if channels, scale := VAESize(w); channels != 4 || scale != 8 {
			t.Errorf("VAE of %d channels, 1/%d size, want 4 and 1/8", channels, scale)
		}
	}
	texts, err := DetectText(clip)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nn.Build("CLIP", Tower(texts[0].Weights), texts[0].Net.Build); err != nil {
		t.Error(err)
	}
	if _, err := DetectVAE(clip); err == nil || !strings.Contains(err.Error(), "an autoencoder (VAE) file") {
		t.Errorf("a text encoder passed for an autoencoder: %v", err)
	}
}
