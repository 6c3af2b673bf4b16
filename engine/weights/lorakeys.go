package weights

import (
	"fmt"
	"strconv"
	"strings"
)

// UNetKeys returns the base names under which LoRA files may change a UNet, and
// the weight that each means. names are the UNet's weights as checkpoints call
// them ("input_blocks.1.1.proj_in.weight"): which blocks there are is read from
// them.
//
// A weight is known by its own name, with dots or, after "lora_unet_", with
// underscores, and by the name that the diffusers library gives it, in four
// spellings.
func UNetKeys(names []string) map[string]Target {
	keys := map[string]Target{}
	rename := newDiffusersNames(names)
	for _, n := range names {
		weight := Target{Weight: n}
		name, ok := strings.CutSuffix(n, ".weight")
		if !ok {
			keys["diffusion_model."+n] = weight
			continue
		}
		keys["diffusion_model."+name] = weight
		keys["lora_unet_"+underscored(name)] = weight
		for _, d := range rename.of(name) {
			keys["lora_unet_"+underscored(d)] = weight
			keys["lycoris_"+underscored(d)] = weight
			d = strings.ReplaceAll(d, ".to_", ".processor.to_")
			if short, ok := strings.CutSuffix(d, ".to_out.0"); ok {
				d = short + ".to_out"
			}
			keys[d], keys["unet."+d] = weight, weight
		}
	}
	return keys
}

func underscored(name string) string { return strings.ReplaceAll(name, ".", "_") }

// diffusersNames translates the names of a UNet's blocks to those of the
// diffusers library.
type diffusersNames map[string]string // prefix of a name -> prefix there

// newDiffusersNames numbers the blocks as diffusers does: by level, and by the
// order of residual blocks within a level.
func newDiffusersNames(names []string) diffusersNames {
	have := map[string]bool{}
	for _, n := range names {
		for i := range n {
			if n[i] == '.' {
				have[n[:i]] = true
			}
		}
	}
	d := diffusersNames{
		"input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
		"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
		"middle_block.0": "mid_block.resnets.0", "middle_block.1": "mid_block.attentions.0", "middle_block.2": "mid_block.resnets.1",
	}
	level, n := 0, 0
	for i := 1; have[fmt.Sprintf("input_blocks.%d.0", i)]; i++ {
		block := fmt.Sprintf("input_blocks.%d", i)
		if have[block+".0.op"] {
			d[block+".0.op"] = fmt.Sprintf("down_blocks.%d.downsamplers.0.conv", level)
			level, n = level+1, 0
			continue
		}
		d[block+".0"], d[block+".1"] = fmt.Sprintf("down_blocks.%d.resnets.%d", level, n), fmt.Sprintf("down_blocks.%d.attentions.%d", level, n)
		n++
	}
	level, n = 0, 0
	for i := 0; have[fmt.Sprintf("output_blocks.%d.0", i)]; i++ {
		block := fmt.Sprintf("output_blocks.%d", i)
		d[block+".0"], d[block+".1"] = fmt.Sprintf("up_blocks.%d.resnets.%d", level, n), fmt.Sprintf("up_blocks.%d.attentions.%d", level, n)
		n++
		for _, up := range []string{block + ".1.conv", block + ".2.conv"} {
			if have[up] {
				d[up] = fmt.Sprintf("up_blocks.%d.upsamplers.0.conv", level)
				level, n = level+1, 0
			}
		}
	}
	return d
}

// residual are the layers of a residual block.
var residual = map[string]string{
	"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj",
	"out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}

// of returns the names that diffusers has for a weight without its suffix.
func (d diffusersNames) of(name string) []string {
	for from, to := range map[string]string{"label_emb.0.0": "linear_1", "label_emb.0.2": "linear_2"} {
		if name == from {
			return []string{"class_embedding." + to, "add_embedding." + to}
		}
	}
	// The longest known beginning: an upsampler lies where a transformer may.
	for at := len(name); at > 0; at = strings.LastIndexByte(name[:at], '.') {
		to, ok := d[name[:at]]
		if !ok {
			continue
		}
		rest := strings.TrimPrefix(name[at:], ".")
		if rest == "" {
			return []string{to}
		}
		if layer, ok := residual[rest]; ok {
			rest = layer
		}
		return []string{to + "." + rest}
	}
	return nil
}

// Tower says which text encoder of a model a list of weights is.
type Tower struct {
	Name string // "clip_l", "clip_h" or "clip_g"
	// Second says that the model has another encoder before it.
	Second bool
}

// CLIPKeys returns the base names under which LoRA files may change a CLIP text
// tower, and what each means. names are its weights
// ("text_model.encoder.layers.0.mlp.fc1.weight"); a joint projection of queries,
// keys and values is called self_attn.in_proj, and is known by its three parts.
func CLIPKeys(names []string, t Tower) map[string]Target {
	keys := map[string]Target{}
	for _, n := range names {
		name, ok := strings.CutSuffix(n, ".weight")
		if !ok {
			continue
		}
		stem, joint := strings.CutSuffix(name, ".in_proj")
		if !joint {
			t.add(keys, name, Target{Weight: n})
			continue
		}
		for i, part := range []string{".q_proj", ".k_proj", ".v_proj"} {
			t.add(keys, stem+part, Target{n, i, 3})
		}
	}
	return keys
}

// add adds the spellings of one matrix.
func (t Tower) add(keys map[string]Target, name string, target Target) {
	keys["text_encoders."+t.Name+".transformer."+name] = target
	if name == "text_projection" {
		keys[t.numbered()+"_text_projection"] = target
		return
	}
	layer, ok := strings.CutPrefix(name, "text_model.encoder.layers.")
	if !ok || !isLayer(layer) {
		return
	}
	kohya, diffusers := []string{"lora_te", "lora_te1"}, "text_encoder"
	switch {
	case t.Second:
		kohya, diffusers = []string{"lora_te2"}, "text_encoder_2"
	case t.Name == "clip_g":
		kohya = []string{"lora_te"}
	}
	for _, prefix := range kohya {
		keys[prefix+"_text_model_encoder_layers_"+underscored(layer)] = target
	}
	keys[diffusers+".text_model.encoder.layers."+layer] = target
}

// numbered is the beginning of kohya's names for models with several encoders.
func (t Tower) numbered() string {
	if t.Name == "clip_g" {
		return "lora_te2"
	}
	return "lora_te1"
}

// isLayer reports whether name, "3.mlp.fc1", is a matrix of a layer: no norm.
func isLayer(name string) bool {
	number, rest, _ := strings.Cut(name, ".")
	if _, err := strconv.Atoi(number); err != nil {
		return false
	}
	switch rest {
	case "mlp.fc1", "mlp.fc2", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj":
		return true
	}
	return false
}
