package arch

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Checkpoint says where the parts of a file lie in it and how to build them.
type Checkpoint struct {
	*Family
	Model nn.Weights // the denoiser
	Text  []Text     // empty unless the file has all encoders of the family
	VAE   nn.Weights // both halves of the autoencoder, nil for none: see Decoder and Encoder
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
)

// Detect recognises an all-in-one checkpoint by the names and shapes of its
// tensors. A file of another kind is an *UnsupportedError.
func Detect(w nn.Weights) (*Checkpoint, error) {
	unet := Under(w, unetPrefix)
	f, seems := unetFamily(unet)
	if hasName(w, "cc_projection.") {
		f, seems = nil, "a novel-view model (Zero123)"
	}
	if f == nil {
		if seems == "" {
			seems = resemblance(w)
		}
		return nil, &UnsupportedError{Seems: seems, Wanted: "a Stable Diffusion 1, 2 or XL checkpoint"}
	}
	c := &Checkpoint{Family: f, Model: unet}
	if vae := Under(w, vaePrefix); len(vae.Names()) > 0 {
		c.VAE = vae
	}
	for _, e := range f.Text {
		if text := e.find(w); text != nil {
			c.Text = append(c.Text, e.of(Text{Weights: text}))
		}
	}
	if len(c.Text) < len(f.Text) {
		c.Text = nil
	}
	return c, nil
}

// find returns the encoder's weights in a checkpoint, nil for none.
func (e TextEncoder) find(w nn.Weights) nn.Weights {
	for _, place := range e.Places {
		if under := Under(w, place); len(under.Names()) > 0 {
			return textModel(under)
		}
	}
	return nil
}

// DetectUNet recognises a denoiser, in a file of its own or in a checkpoint.
func DetectUNet(w nn.Weights) (*Checkpoint, error) {
	var seems string
	bare := keep(w, "input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out.")
	for _, unet := range []nn.Weights{Under(w, unetPrefix), Under(w, "model.model."), bare, ldmUNet(w)} {
		f, s := unetFamily(unet)
		if f != nil {
			return &Checkpoint{Family: f, Model: unet}, nil
		}
		if seems == "" {
			seems = s
		}
	}
	if seems == "" {
		seems = resemblance(w)
	}
	return nil, &UnsupportedError{Seems: seems, Wanted: "a denoiser of Stable Diffusion 1, 2 or XL"}
}

// unetFamily tells the families of the UNet apart by the width of the vector of
// sizes, the kind of projection before a transformer and the number of input
// channels. f is nil for others, and seems then what w looks like, "" when it
// is no UNet.
func unetFamily(w nn.Weights) (f *Family, seems string) {
	in := shapeOf(w, "input_blocks.0.0.weight")
	if len(in) != 4 {
		return nil, ""
	}
	switch channels := in[1]; {
	case hasName(w, ".time_stack."), hasName(w, ".temporal_transformer"):
		return nil, "a video model"
	case channels == 7:
		return nil, "an upscaling model (7 input channels)"
	case channels != 4 && channels != 8 && channels != 9:
		return nil, fmt.Sprintf("a UNet with %d input channels", channels)
	}
	if f, seems = widthFamily(w); f != nil && in[1] == 8 && !f.Edits {
		return nil, "a " + f.Name + " model with 8 input channels"
	}
	return f, seems
}

// widthFamily tells the families apart by widths alone.
func widthFamily(w nn.Weights) (f *Family, seems string) {
	if adm := shapeOf(w, "label_emb.0.0.weight"); len(adm) == 2 {
		return admFamily(adm[1], textWidth(w))
	}
	if len(shapeOf(w, "middle_block.1.proj_in.weight")) == 2 {
		return sd2(), ""
	}
	return sd1(), ""
}

// admFamily tells the families with a vector of sizes apart. The refiner sees
// the states of the encoder that also gives the pooled text, SDXL those of one
// more.
func admFamily(width, text int) (*Family, string) {
	switch {
	case text == 1024 && (width == 1536 || width == 2048):
		return nil, "an unCLIP model"
	case width-len(refiner().Numbers)*NumberWidth == text:
		return refiner(), ""
	case width > len(sdxl().Numbers)*NumberWidth && width-len(sdxl().Numbers)*NumberWidth < text:
		return sdxl(), ""
	}
	return nil, fmt.Sprintf("a UNet with a class vector of width %d", width)
}

// textWidth returns the width of the text states that a UNet attends to.
func textWidth(w nn.Weights) int {
	for _, n := range w.Names() {
		if strings.HasSuffix(n, ".attn2.to_k.weight") {
			if s := shapeOf(w, n); len(s) == 2 {
				return s[1]
			}
		}
	}
	return 0
}

func shapeOf(w nn.Weights, name string) tensor.Shape {
	s, _ := w.Lookup(name)
	return s.Shape
}

// resemblance names what a file that is no UNet looks like, "" when nothing
// fits. Order matters: later kinds share names with earlier ones.
func resemblance(w nn.Weights) string {
	for _, kind := range []struct{ seems, part string }{
		{"a Stable Diffusion 3 model", "joint_blocks.0.context_block.attn.qkv.weight"},
		{"a Flux model", "double_blocks.0.img_attn.norm.key_norm.scale"},
		{"a Stable Cascade model", "clip_txt_mapper.weight"},
		{"a HunyuanDiT or PixArt model", "t_block.1.weight"},
		{"a Wan video model", "blocks.0.self_attn.norm_q.weight"},
		{"a ControlNet", "input_hint_block.0.weight"},
		{"a ControlNet", "controlnet_cond_embedding."},
		{"a LoRA", ".lora_up.weight"},
		{"a LoRA", ".lora_A.weight"},
		{"a LoRA", ".hada_w1_a"},
		{"a LoRA", ".lokr_w1"},
		{"a whole checkpoint", unetPrefix + "input_blocks.0.0.weight"},
		{"a UNet without text encoder and autoencoder", "input_blocks.0.0.weight"},
		{"a denoiser in the diffusers layout", "down_blocks.0.resnets.0.time_emb_proj."},
		{"a transformer denoiser in the diffusers layout", "transformer_blocks.0.attn.add_k_proj."},
		{"an autoencoder (VAE) alone", "decoder.conv_in.weight"},
		{"a text encoder alone", "encoder.layers.0.mlp.fc1."},
		{"a text encoder alone", "transformer.resblocks.0.mlp.c_fc."},
		{"a T5 text encoder", "encoder.block.0.layer.0.SelfAttention."},
		{"a language model", "model.layers.0.self_attn.q_proj."},
	} {
		if hasName(w, kind.part) {
			return kind.seems
		}
	}
	return ""
}

func hasName(w nn.Weights, part string) bool {
	return slices.ContainsFunc(w.Names(), func(n string) bool { return strings.Contains(n, part) })
}

// DetectVAE recognises an autoencoder file, with or without the prefix that it
// has inside a checkpoint.
func DetectVAE(w nn.Weights) (nn.Weights, error) {
	for _, v := range []nn.Weights{w, Under(w, vaePrefix), ldmVAE(w)} {
		if _, ok := v.Lookup("decoder.mid.block_1.conv1.weight"); ok {
			return v, nil
		}
	}
	return nil, &UnsupportedError{Seems: resemblance(w), Wanted: "an autoencoder (VAE) file"}
}

// DetectText recognises the text encoders of one family, each in a file of its
// own, in any order.
func DetectText(files ...nn.Weights) ([]Text, error) {
	found := map[string]Text{}
	for i, w := range files {
		text := textModel(w)
		kind := textKind(text)
		if kind == "" {
			return nil, &UnsupportedError{Seems: resemblance(w), Wanted: "a CLIP text encoder file"}
		}
		if _, twice := found[kind]; twice {
			return nil, fmt.Errorf("both files hold the same encoder, %s", kind)
		}
		found[kind] = Text{Weights: text, File: i}
	}
	for _, f := range []*Family{sd1(), sd2(), refiner(), sdxl()} {
		if texts := f.texts(found); len(texts) == len(found) && len(texts) == len(f.Text) {
			return texts, nil
		}
	}
	return nil, fmt.Errorf("no supported family has just the text encoders %s", strings.Join(slices.Sorted(maps.Keys(found)), " and "))
}

// texts picks the family's encoders out of those found.
func (f *Family) texts(found map[string]Text) []Text {
	var texts []Text
	for _, e := range f.Text {
		if t, ok := found[e.Name]; ok {
			texts = append(texts, e.of(t))
		}
	}
	return texts
}

// of completes a text encoder that was found. Files that were in the diffusers
// layout once lack the last of OpenCLIP-H's 24 layers.
func (e TextEncoder) of(t Text) Text {
	t.TextEncoder = e
	if e.Name == "clip_h" && hasLayer(t.Weights, 22) && !hasLayer(t.Weights, 23) {
		t.Net.Missing = 1
	}
	return t
}

func hasLayer(w nn.Weights, i int) bool {
	_, ok := w.Lookup(fmt.Sprintf(layerKey, i))
	return ok
}

// layerKey is a weight that every layer of a text encoder has.
const layerKey = "text_model.encoder.layers.%d.mlp.fc1.weight"

// textKind tells text encoders apart by their number of layers, 12, 24 or 32.
func textKind(w nn.Weights) string {
	for _, kind := range []struct {
		name  string
		layer int
	}{{"clip_g", 30}, {"clip_h", 22}, {"clip_l", 0}} {
		if hasLayer(w, kind.layer) {
			return kind.name
		}
	}
	return ""
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
