package arch

import (
	"github.com/comfyrun/comfyrun/engine/nn"
)

// CLIPText is a CLIP text tower in the layout of Hugging Face's CLIPTextModel.
// Source: Radford et al., Learning Transferable Visual Models From Natural
// Language Supervision, 2021.
type CLIPText struct {
	// HeadWidth is the width of an attention head; 64 in every released model.
	HeadWidth int
	// Stop is the layer whose output "hidden" is, counted from the end: -1 is
	// the last layer, -2 the one before. Values beyond the first layer mean the
	// last.
	Stop int
}

// Build traces the tower without its token table: token rows come in as
// embeds, so that rows of a textual inversion can stand among them. Input:
// embeds [batch, tokens, width], the sum of token and position rows. Outputs,
// both after the final layer norm: hidden, the states of layer Stop, and last,
// those of the last layer, [batch, tokens, width].
func (c CLIPText) Build(p nn.Scope) {
	p = p.In("text_model")
	width := p.In("final_layer_norm").Dim("weight", 0)
	h := p.Input("embeds", "batch", "tokens", width)
	layers := p.Count("encoder.layers.%d")
	stop := c.layer(layers)
	hidden := h
	for i := range layers {
		h = c.block(p.In("encoder.layers.%d", i), h)
		if i+1 == stop {
			hidden = h
		}
	}
	norm := p.In("final_layer_norm")
	last := nn.LayerNorm(norm, h)
	p.Output("last", last)
	if stop == layers {
		p.Output("hidden", last)
		return
	}
	p.Output("hidden", nn.LayerNorm(norm, hidden))
}

// layer returns how many of the layers come before the hidden output.
func (c CLIPText) layer(layers int) int {
	if c.Stop >= 0 || -c.Stop > layers {
		return layers
	}
	return layers + c.Stop + 1
}

func (c CLIPText) block(p nn.Scope, x *nn.Value) *nn.Value {
	width := x.Dim(-1)
	h := nn.LayerNorm(p.In("layer_norm1"), x)
	attn := p.In("self_attn")
	q, k, v := nn.Linear(attn.In("q_proj"), h, width), nn.Linear(attn.In("k_proj"), h, width), nn.Linear(attn.In("v_proj"), h, width)
	h = nn.Attention(q, k, v, nn.Heads{Count: width / c.HeadWidth, Causal: true})
	x = nn.Linear(attn.In("out_proj"), h, width).Add(x)
	mlp := p.In("mlp")
	h = nn.Linear(mlp.In("fc1"), nn.LayerNorm(p.In("layer_norm2"), x), mlp.In("fc1").Dim("weight", 0))
	return nn.Linear(mlp.In("fc2"), h.QuickGelu(), width).Add(x)
}
