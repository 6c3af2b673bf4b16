package arch

import (
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Checkpoint says where the parts of an all-in-one checkpoint lie in it and how
// to build them. A part that the file does not have has nil weights.
type Checkpoint struct {
	Family string // "Stable Diffusion 1.x"
	UNet   UNet
	Model  nn.Weights // the denoiser
	CLIP   nn.Weights // the text tower
	VAE    nn.Weights // both halves of the autoencoder: see Decoder and Encoder
}

// UnsupportedError says that a file is not of a family that can be run here.
type UnsupportedError struct {
	// Seems is what the file looks like, "" when nothing is recognised.
	Seems string
	// Wanted is what was asked for.
	Wanted string
}

func (e *UnsupportedError) Error() string {
	seems := "its tensors are of no known kind"
	if e.Seems != "" {
		seems = "it seems to be " + e.Seems
	}
	return fmt.Sprintf("not %s: %s", e.Wanted, seems)
}

const (
	unetPrefix = "model.diffusion_model."
	vaePrefix  = "first_stage_model."
	clipPrefix = "cond_stage_model.transformer."
)

// Detect recognises an all-in-one checkpoint by the names and shapes of its
// tensors. Anything but a Stable Diffusion 1.x text-to-image checkpoint is an
// *UnsupportedError.
func Detect(w nn.Weights) (*Checkpoint, error) {
	unet := Under(w, unetPrefix)
	seems := family(w, unet)
	if seems != sd1 {
		return nil, &UnsupportedError{Seems: seems, Wanted: "a Stable Diffusion 1.x checkpoint"}
	}
	c := &Checkpoint{Family: seems, UNet: SD1UNet, Model: unet}
	if vae := Under(w, vaePrefix); len(vae.Names()) > 0 {
		c.VAE = vae
	}
	if clip := Under(w, clipPrefix); len(clip.Names()) > 0 {
		c.CLIP = textModel(clip)
	}
	return c, nil
}

const sd1 = "Stable Diffusion 1.x"

// family names what a file looks like, "" when nothing fits. Order matters:
// later kinds share names with earlier ones.
func family(w, unet nn.Weights) string {
	has := func(w nn.Weights, name string) bool { _, ok := w.Lookup(name); return ok }
	names := strings.Join(w.Names(), "\n")
	switch {
	case strings.Contains(names, "joint_blocks.0.context_block.attn.qkv.weight"):
		return "a Stable Diffusion 3 model"
	case strings.Contains(names, "double_blocks.0.img_attn.norm.key_norm.scale"):
		return "a Flux model"
	case strings.Contains(names, "input_hint_block.0.weight"), strings.Contains(names, "controlnet_cond_embedding."):
		return "a ControlNet"
	case strings.Contains(names, ".lora_up.weight"), strings.Contains(names, ".lora_A.weight"), strings.Contains(names, ".hada_w1_a"), strings.Contains(names, ".lokr_w1"):
		return "a LoRA"
	case has(unet, "input_blocks.0.0.weight"):
		return unetFamily(unet)
	case has(w, "input_blocks.0.0.weight"):
		return "a UNet without text encoder and autoencoder"
	case strings.Contains(names, "down_blocks.0.resnets."):
		return "a part of a model in the diffusers layout"
	case strings.Contains(names, "decoder.conv_in.weight"):
		return "an autoencoder (VAE) alone"
	case strings.Contains(names, "text_model.encoder.layers.0."), strings.Contains(names, "encoder.block.0.layer.0.SelfAttention."):
		return "a text encoder alone"
	}
	return ""
}

// unetFamily tells the members of the UNet family apart by the width of the
// size conditioning, the kind of projection before a transformer and the
// number of input channels.
func unetFamily(w nn.Weights) string {
	shape := func(name string) tensor.Shape { s, _ := w.Lookup(name); return s.Shape }
	if adm := shape("label_emb.0.0.weight"); adm != nil {
		return admFamily(adm)
	}
	proj := shape("middle_block.1.proj_in.weight")
	in := shape("input_blocks.0.0.weight")
	switch {
	case len(proj) == 2:
		return "a Stable Diffusion 2.x checkpoint"
	case len(in) == 4 && in[1] == 4:
		return sd1
	case len(in) == 4 && in[1] == 9:
		return "a Stable Diffusion inpainting checkpoint (9 input channels)"
	case len(in) == 4 && in[1] == 8:
		return "an InstructPix2Pix checkpoint (8 input channels)"
	}
	return ""
}

// admFamily tells the families with size conditioning apart: six embedded
// numbers of width 256 beside the pooled text in SDXL, five in its refiner,
// whose encoders are wide 1280 where the files are real.
func admFamily(adm tensor.Shape) string {
	const numbers = 256
	switch width := adm[len(adm)-1]; {
	case width == 1280+5*numbers, width == 128+5*numbers:
		return "a Stable Diffusion XL refiner checkpoint"
	case width > 6*numbers:
		return "a Stable Diffusion XL checkpoint"
	}
	return "a UNet with class conditioning"
}

// DetectVAE recognises an autoencoder file, with or without the prefix that it
// has inside a checkpoint.
func DetectVAE(w nn.Weights) (nn.Weights, error) {
	for _, v := range []nn.Weights{w, Under(w, vaePrefix)} {
		if _, ok := v.Lookup("decoder.conv_in.weight"); ok {
			return v, nil
		}
	}
	return nil, &UnsupportedError{Seems: family(w, Under(w, unetPrefix)), Wanted: "an autoencoder (VAE) file"}
}

// DetectCLIP recognises a CLIP-L text encoder file, alone or inside a
// checkpoint.
func DetectCLIP(w nn.Weights) (nn.Weights, error) {
	for _, v := range []nn.Weights{w, Under(w, clipPrefix)} {
		v = textModel(v)
		if _, ok := v.Lookup("text_model.encoder.layers.0.mlp.fc1.weight"); ok {
			return v, nil
		}
	}
	return nil, &UnsupportedError{Seems: family(w, Under(w, unetPrefix)), Wanted: "a CLIP-L text encoder file"}
}

// textModel gives a tower its "text_model." prefix where the file leaves it
// out.
func textModel(w nn.Weights) nn.Weights {
	if _, ok := w.Lookup("encoder.layers.0.mlp.fc1.weight"); ok {
		return above{w, "text_model."}
	}
	return w
}

// Decoder returns the weights of VAEDecoder.
func Decoder(vae nn.Weights) nn.Weights { return keep(vae, "decoder.", "post_quant_conv.") }

// Encoder returns the weights of VAEEncoder.
func Encoder(vae nn.Weights) nn.Weights { return keep(vae, "encoder.", "quant_conv.") }

// Tower returns the weights of CLIPText: all but the tables, which are looked
// up outside the graph, and the projection of the pooled vector.
func Tower(clip nn.Weights) nn.Weights {
	return keep(clip, "text_model.encoder.", "text_model.final_layer_norm.")
}

// Under returns the weights whose names begin with prefix, without it.
func Under(w nn.Weights, prefix string) nn.Weights {
	u := under{w: w, prefix: prefix}
	for _, n := range w.Names() {
		if rest, ok := strings.CutPrefix(n, prefix); ok {
			u.names = append(u.names, rest)
		}
	}
	return u
}

// keep returns the weights whose names begin with one of the prefixes.
func keep(w nn.Weights, prefixes ...string) nn.Weights {
	u := under{w: w}
	for _, n := range w.Names() {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(n, p) }) {
			u.names = append(u.names, n)
		}
	}
	return u
}

// under is a part of other weights, with a prefix taken off their names.
type under struct {
	w      nn.Weights
	prefix string
	names  []string
}

func (u under) Lookup(name string) (nn.Source, bool) { return u.w.Lookup(u.prefix + name) }
func (u under) Names() []string                      { return u.names }

// above is the opposite of under: names get a prefix that the file lacks.
type above struct {
	w      nn.Weights
	prefix string
}

func (a above) Lookup(name string) (nn.Source, bool) {
	rest, ok := strings.CutPrefix(name, a.prefix)
	if !ok {
		return nn.Source{}, false
	}
	return a.w.Lookup(rest)
}

func (a above) Names() []string {
	var names []string
	for _, n := range a.w.Names() {
		names = append(names, a.prefix+n)
	}
	return names
}
