package arch

import (
	"github.com/comfyrun/comfyrun/engine/nn"
)

// CLIPText is a CLIP text tower in the layout of Hugging Face's CLIPTextModel,
// and how a family of models uses it.
// Source: Radford et al., Learning Transferable Visual Models From Natural
// Language Supervision, 2021.
type CLIPText struct {
	// HeadWidth is the width of an attention head; 64 in every released model.
	HeadWidth int
	// Stop is the layer whose output "hidden" is, counted from the end: -1 is
	// the last layer, -2 the one before. Values beyond the first layer mean the
	// last one behind its norm.
	Stop int
	// Bare says that "hidden" comes without the final layer norm.
	Bare bool
	// Missing is how many of the last layers the file lacks. The diffusers layout
	// leaves out what Stable Diffusion 2 does not use.
	Missing int
	// Gelu selects the exact GELU that OpenCLIP's towers were trained with,
	// instead of CLIP's approximation.
	Gelu bool
}

// Build traces the tower without its token table: token rows come in as
// embeds, so that rows of a textual inversion can stand among them. Input:
// embeds [batch, tokens, width], the sum of token and position rows. Outputs,
// [batch, tokens, width]: hidden, the states of layer Stop, behind the final
// layer norm unless Bare; and last, those of the last layer behind the norm.
func (c CLIPText) Build(p nn.Scope) {
	p = p.In("text_model")
	width := p.In("final_layer_norm").Dim("weight", 0)
	h := p.Input("embeds", "batch", "tokens", width)
	layers := p.Count("encoder.layers.%d")
	hidden := h
	for i := range layers {
		h = c.block(p.In("encoder.layers.%d", i), h)
		if i-layers-c.Missing == c.Stop {
			hidden = h
		}
	}
	norm := p.In("final_layer_norm")
	last := nn.LayerNorm(norm, h)
	p.Output("last", last)
	switch beyond := c.Stop >= -c.Missing || -c.Stop > layers+c.Missing; {
	case beyond, c.Stop == -1 && !c.Bare:
		hidden = last
	case !c.Bare:
		hidden = nn.LayerNorm(norm, hidden)
	}
	p.Output("hidden", hidden)
}

func (c CLIPText) block(p nn.Scope, x *nn.Value) *nn.Value {
	width := x.Dim(-1)
	h := nn.LayerNorm(p.In("layer_norm1"), x)
	q, k, v := projections(p.In("self_attn"), h)
	h = nn.Attention(q, k, v, nn.Heads{Count: width / c.HeadWidth, Causal: true})
	x = nn.LinearAdd(p.In("self_attn.out_proj"), h, x)
	h = nn.LayerNorm(p.In("layer_norm2"), x)
	fc1 := p.In("mlp.fc1")
	if c.Gelu {
		h = nn.LinearRowsGelu(fc1, h, 0, fc1.Dim("weight", 0))
	} else {
		h = nn.Linear(fc1, h, fc1.Dim("weight", 0)).QuickGelu()
	}
	return nn.LinearAdd(p.In("mlp.fc2"), h, x)
}

// projections returns queries, keys and values. OpenCLIP has them one below
// the other in one weight, in_proj.
func projections(p nn.Scope, x *nn.Value) (q, k, v *nn.Value) {
	w := x.Dim(-1)
	if in := p.In("in_proj"); in.Has() {
		return nn.LinearRows(in, x, 0, w), nn.LinearRows(in, x, w, w), nn.LinearRows(in, x, 2*w, w)
	}
	return nn.Linear(p.In("q_proj"), x, w), nn.Linear(p.In("k_proj"), x, w), nn.Linear(p.In("v_proj"), x, w)
}
