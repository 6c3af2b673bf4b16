package arch

import (
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// sources are weights listed one by one.
type sources struct {
	byName map[string]nn.Source
	names  []string
}

func (s sources) Lookup(name string) (nn.Source, bool) {
	src, ok := s.byName[name]
	return src, ok
}

func (s sources) Names() []string { return s.names }

// renamed returns the weights under the names that f gives; "" leaves one out.
func renamed(w nn.Weights, f func(name string) string) nn.Weights {
	s := sources{byName: map[string]nn.Source{}}
	for _, old := range w.Names() {
		if name := f(old); name != "" {
			s.byName[name], _ = w.Lookup(old)
			s.names = append(s.names, name)
		}
	}
	slices.Sort(s.names)
	return s
}

// Under returns the weights whose names begin with prefix, without it.
func Under(w nn.Weights, prefix string) nn.Weights {
	return renamed(w, func(name string) string {
		rest, _ := strings.CutPrefix(name, prefix)
		if rest == name {
			return ""
		}
		return rest
	})
}

// keep returns the weights whose names begin with one of the prefixes.
func keep(w nn.Weights, prefixes ...string) nn.Weights {
	return renamed(w, func(name string) string {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			return name
		}
		return ""
	})
}

// textModel gives a tower the names of Hugging Face's CLIPTextModel where it
// has OpenCLIP's, or lacks their prefix "text_model.".
func textModel(w nn.Weights) nn.Weights {
	_, bare := w.Lookup("encoder.layers.0.mlp.fc1.weight")
	_, open := w.Lookup("transformer.resblocks.0.mlp.c_fc.weight")
	switch {
	case bare:
		w = renamed(w, func(name string) string { return "text_model." + name })
	case open:
		w = renamed(w, openCLIPName)
	}
	return withProjection(w)
}

// openCLIPName translates a name of OpenCLIP's text tower. The rows of queries,
// keys and values stay in one weight, in_proj.
// https://github.com/mlfoundations/open_clip/blob/main/src/open_clip/transformer.py
func openCLIPName(old string) string {
	switch old {
	case "text_projection", "text_projection.weight":
		return old
	case "logit_scale":
		return ""
	case "positional_embedding":
		return "text_model.embeddings.position_embedding.weight"
	}
	return "text_model." + strings.NewReplacer(
		"token_embedding.", "embeddings.token_embedding.", "ln_final.", "final_layer_norm.",
		"transformer.resblocks.", "encoder.layers.", ".ln_1.", ".layer_norm1.", ".ln_2.", ".layer_norm2.",
		".mlp.c_fc.", ".mlp.fc1.", ".mlp.c_proj.", ".mlp.fc2.", ".attn.out_proj.", ".self_attn.out_proj.",
		".attn.in_proj_", ".self_attn.in_proj.",
	).Replace(old)
}

// withProjection offers OpenCLIP's matrix text_projection [in, out] as the
// weight [out, in] of a linear layer.
func withProjection(w nn.Weights) nn.Weights {
	src, ok := w.Lookup("text_projection")
	if !ok || len(src.Shape) != 2 {
		return w
	}
	s := renamed(w, func(name string) string {
		if name == "text_projection" {
			return "text_projection.weight"
		}
		return name
	}).(sources)
	in, out := src.Shape[0], src.Shape[1]
	src.Shape = tensor.Shape{out, in}
	src.Make = &nn.Make{Name: "transpose", Apply: func(dst []float32, parts []*tensor.Tensor) error {
		for i, v := range parts[0].Data {
			dst[i%out*in+i/out] = v
		}
		return nil
	}}
	s.byName["text_projection.weight"] = src
	return s
}

// ldmUNet gives a UNet in the diffusers layout the names of the original
// checkpoints; a file of another layout comes out empty.
// https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/unets/unet_2d_condition.py
func ldmUNet(w nn.Weights) nn.Weights {
	l := levels{resnets: 1, attends: map[int]bool{}}
	for _, n := range w.Names() {
		var level, i int
		if scan(n, "down_blocks.%d.resnets.%d.", &level, &i) {
			l.resnets = max(l.resnets, i+1)
		}
		if scan(n, "up_blocks.%d.attentions.%d.", &level, &i) {
			l.attends[level] = true
		}
	}
	return renamed(w, l.name)
}

// levels is how a diffusers UNet is laid out.
type levels struct {
	resnets int          // residual blocks of a level on the way down
	attends map[int]bool // levels on the way up with transformers
}

// scan reports whether a name has a form, and reads its parts.
func scan(name, form string, parts ...any) bool {
	n, _ := fmt.Sscanf(name, form, parts...)
	return n == len(parts)
}

// name translates one name, "" for an unknown one.
func (l levels) name(old string) string {
	var level, i int
	var rest string
	per := l.resnets + 1
	switch {
	case scan(old, "down_blocks.%d.resnets.%d.%s", &level, &i, &rest):
		return fmt.Sprintf("input_blocks.%d.0.%s", 1+per*level+i, resnetName(rest))
	case scan(old, "down_blocks.%d.attentions.%d.%s", &level, &i, &rest):
		return fmt.Sprintf("input_blocks.%d.1.%s", 1+per*level+i, rest)
	case scan(old, "down_blocks.%d.downsamplers.0.conv.%s", &level, &rest):
		return fmt.Sprintf("input_blocks.%d.0.op.%s", per*(level+1), rest)
	case scan(old, "mid_block.resnets.%d.%s", &i, &rest):
		return fmt.Sprintf("middle_block.%d.%s", 2*i, resnetName(rest))
	case scan(old, "mid_block.attentions.0.%s", &rest):
		return "middle_block.1." + rest
	case scan(old, "up_blocks.%d.resnets.%d.%s", &level, &i, &rest):
		return fmt.Sprintf("output_blocks.%d.0.%s", per*level+i, resnetName(rest))
	case scan(old, "up_blocks.%d.attentions.%d.%s", &level, &i, &rest):
		return fmt.Sprintf("output_blocks.%d.1.%s", per*level+i, rest)
	case scan(old, "up_blocks.%d.upsamplers.0.%s", &level, &rest):
		place := 1
		if l.attends[level] {
			place = 2
		}
		return fmt.Sprintf("output_blocks.%d.%d.%s", per*level+l.resnets, place, rest)
	}
	return outerName(old)
}

// resnetName translates the name of a weight in a residual block.
func resnetName(old string) string {
	return strings.NewReplacer(
		"norm1.", "in_layers.0.", "conv1.", "in_layers.2.", "time_emb_proj.", "emb_layers.1.",
		"norm2.", "out_layers.0.", "conv2.", "out_layers.3.", "conv_shortcut.", "skip_connection.",
	).Replace(old)
}

// outerName translates the names outside the blocks.
func outerName(old string) string {
	for _, pair := range [][2]string{
		{"conv_in.", "input_blocks.0.0."}, {"conv_norm_out.", "out.0."}, {"conv_out.", "out.2."},
		{"time_embedding.linear_1.", "time_embed.0."}, {"time_embedding.linear_2.", "time_embed.2."},
		{"add_embedding.linear_1.", "label_emb.0.0."}, {"add_embedding.linear_2.", "label_emb.0.2."},
		{"class_embedding.linear_1.", "label_emb.0.0."}, {"class_embedding.linear_2.", "label_emb.0.2."},
	} {
		if rest, ok := strings.CutPrefix(old, pair[0]); ok {
			return pair[1] + rest
		}
	}
	return ""
}

// ldmVAE gives an autoencoder in the diffusers layout the names of the original
// checkpoints.
// https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/autoencoders/autoencoder_kl.py
func ldmVAE(w nn.Weights) nn.Weights {
	top := 0
	for _, n := range w.Names() {
		var level int
		if scan(n, "decoder.up_blocks.%d.", &level) {
			top = max(top, level)
		}
	}
	words := strings.NewReplacer(
		"down_blocks.", "down.", ".resnets.", ".block.", "downsamplers.0.", "downsample.", "upsamplers.0.", "upsample.",
		"conv_norm_out.", "norm_out.", "conv_shortcut.", "nin_shortcut.",
		"mid_block.resnets.0.", "mid.block_1.", "mid_block.resnets.1.", "mid.block_2.", "mid_block.attentions.0.", "mid.attn_1.",
		"group_norm.", "norm.", "to_q.", "q.", "query.", "q.", "to_k.", "k.", "key.", "k.", "to_v.", "v.", "value.", "v.",
		"to_out.0.", "proj_out.", "proj_attn.", "proj_out.",
	)
	return renamed(w, func(old string) string {
		var level int
		var rest string
		if scan(old, "decoder.up_blocks.%d.%s", &level, &rest) {
			old = fmt.Sprintf("decoder.up.%d.%s", top-level, strings.Replace(rest, "resnets.", "block.", 1))
		}
		return words.Replace(old)
	})
}
