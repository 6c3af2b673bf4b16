package arch

import (
	"github.com/comfyrun/comfyrun/engine/nn"
)

// UNet is the latent denoiser of Stable Diffusion 1, 2 and XL. Everything but
// the rule for attention heads is read from the checkpoint: the widths, the
// number of blocks, where transformers stand and how deep they are, whether
// there is a vector of sizes.
// Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion
// Models, 2022; names as in the released checkpoints, for example
// https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive.
type UNet struct {
	// Heads is the number of attention heads; 0 means heads of HeadWidth.
	Heads int
	// HeadWidth is the width of a head where Heads is 0.
	HeadWidth int
	// AttentionFloat32 has attention computed in float32 whatever the rest is
	// computed in.
	AttentionFloat32 bool
	// Steered adds inputs for what ControlNets and adapters add: see Residual.
	Steered bool
	// Patches change what stands between the blocks.
	Patches []Patch
}

// Build traces the network. Inputs: x [batch, channel, height, width] as
// scaled for the network, timesteps [batch], context [batch, tokens, width]
// and, where the checkpoint has label_emb, y [batch, width], the pooled text
// and the embedded sizes.
// Output: out [batch, 4, height, width], the predicted noise (or velocity).
// Height and width are multiples of 1 latent pixel: odd sizes halve upwards.
func (u UNet) Build(p nn.Scope) {
	n, h := u.enter(p)
	n.emb = n.emb.SiLU()
	p.Output("out", n.forward(p, h))
}

// enter declares the inputs and returns what the blocks share, emb not yet
// activated, and what the first convolution makes of x.
func (u UNet) enter(p nn.Scope) (net, *nn.Value) {
	in := p.In("input_blocks.0.0")
	mc, channels := in.Dim("weight", 0), in.Dim("weight", 1)
	n := net{heads: u, scope: p, width: mc}
	n.patch(p)
	x := p.Input("x", "batch", channels, "height", "width")
	t := nn.TimestepEmbedding(p.Input("timesteps", "batch"), mc)
	n.context = p.Input("context", "batch", "tokens", contextWidth(p))
	n.emb = embed(p.In("time_embed"), t)
	if label := p.In("label_emb.0"); label.Has() {
		n.emb = n.emb.Add(embed(label, p.Input("y", "batch", label.In("0").Dim("weight", 1))))
	}
	return n, nn.Conv(in, x, mc, nn.Same(3))
}

// contextWidth reads the width of the text states from the first
// cross-attention.
func contextWidth(p nn.Scope) int {
	const key = "transformer_blocks.0.attn2.to_k"
	for i := 1; p.In("input_blocks.%d", i).Has(); i++ {
		if k := p.In("input_blocks.%d.1."+key, i); k.Has() {
			return k.Dim("weight", 1)
		}
	}
	return p.In("middle_block.1."+key).Dim("weight", 1)
}

// embed is the pair of layers that lifts an embedding to the width of the
// blocks.
func embed(p nn.Scope, x *nn.Value) *nn.Value {
	x = nn.Linear(p.In("0"), x, p.In("0").Dim("weight", 0)).SiLU()
	return nn.Linear(p.In("2"), x, p.In("2").Dim("weight", 0))
}

// net is what every block of one UNet shares.
type net struct {
	heads UNet
	scope nn.Scope
	width int // channels of the first convolution
	changes
	// alone has tokens attend to nothing but themselves, recorded is set for
	// the self-attention that is to be recorded.
	alone, recorded bool
	// emb is the activated timestep embedding, context the text states.
	emb, context *nn.Value
}

func (n net) forward(p nn.Scope, h *nn.Value) *nn.Value {
	skips, h := n.down(p, h)
	h = n.steer(p, Residual{Middle, 0}, n.middle(p.In("middle_block"), h))
	for i := 0; len(skips) > 0; i++ {
		last := len(skips) - 1
		skip := n.steer(p, Residual{Skip, last}, skips[last])
		skips = skips[:last]
		block := p.In("output_blocks.%d", i)
		h, skip = n.joined(h, skip)
		h = n.block(block, nn.Concat(1, h, skip))
		if len(skips) > 0 {
			h = upsample(block, h, skips[len(skips)-1])
		}
	}
	out := p.In("out.2")
	return nn.Conv(out, nn.GroupNormSiLU(p.In("out.0"), h, 1e-5), out.Dim("weight", 0), nn.Same(3))
}

// down runs the input blocks after the first. It returns what each gives as a
// skip, the first's output h before them, and what the last gives.
func (n net) down(p nn.Scope, h *nn.Value) (skips []*nn.Value, last *nn.Value) {
	h = n.steer(p, Residual{Input, 0}, h)
	skips = []*nn.Value{h}
	for i := 1; p.In("input_blocks.%d", i).Has(); i++ {
		block := p.In("input_blocks.%d", i)
		if down := block.In("0.op"); down.Has() {
			h = nn.Conv(down, h, down.Dim("weight", 0), nn.Window{Kernel: 3, Stride: 2, Pads: [4]int{1, 1, 1, 1}})
		} else {
			h = n.block(block, h)
		}
		h = changed(n.before, i, n.steer(p, Residual{Input, i}, h))
		skips = append(skips, h)
		h = changed(n.after, i, h)
	}
	return skips, h
}

// middle is what stands between both halves. Distilled models lack its
// transformer with the block behind, or all of it.
func (n net) middle(p nn.Scope, h *nn.Value) *nn.Value {
	if !p.Has() {
		return h
	}
	n.alone, n.recorded = n.identity, n.record
	h = n.block(p, h)
	if p.In("2").Has() {
		h = n.resBlock(p.In("2"), h)
	}
	return h
}

// block is a residual block with the transformer behind it where one stands.
func (n net) block(p nn.Scope, h *nn.Value) *nn.Value {
	h = n.resBlock(p.In("0"), h)
	if p.In("1.norm").Has() {
		h = n.transformer(p.In("1"), h)
	}
	return h
}

// upsample is the convolution at the end of a level, behind the residual block
// or the transformer. It grows to the size of the next skip, which is odd
// where a level was halved upwards.
func upsample(p nn.Scope, h, next *nn.Value) *nn.Value {
	for _, place := range []string{"1.conv", "2.conv"} {
		if up := p.In("%s", place); up.Has() {
			return nn.Conv(up, nn.UpsampleTo(h, next), up.Dim("weight", 0), nn.Same(3))
		}
	}
	return h
}

func (n net) resBlock(p nn.Scope, x *nn.Value) *nn.Value {
	out := p.In("in_layers.2").Dim("weight", 0)
	emb := nn.Linear(p.In("emb_layers.1"), n.emb, out).Reshape(0, out, 1, 1)
	h := nn.ConvAdd(p.In("in_layers.2"), nn.GroupNormSiLU(p.In("in_layers.0"), x, 1e-5), emb, nn.Same(3))
	if x.Dim(1) != out {
		x = nn.Conv(p.In("skip_connection"), x, out, nn.Same(1))
	}
	return nn.ConvAdd(p.In("out_layers.3"), nn.GroupNormSiLU(p.In("out_layers.0"), h, 1e-5), x, nn.Same(3))
}

func (n net) transformer(p nn.Scope, x *nn.Value) *nn.Value {
	c := x.Dim(1)
	h := nn.ConvTokens(p.In("proj_in"), nn.GroupNorm(p.In("norm"), x, 1e-6), c)
	for i := range p.Count("transformer_blocks.%d") {
		n.recorded = n.recorded && i == 0
		h = n.transformerBlock(p.In("transformer_blocks.%d", i), h)
	}
	return nn.ConvPicture(p.In("proj_out"), h, x).Add(x)
}

func (n net) transformerBlock(p nn.Scope, x *nn.Value) *nn.Value {
	norm := nn.LayerNorm(p.In("norm1"), x)
	x = nn.LinearAdd(p.In("attn1.to_out.0"), n.selfAttention(p.In("attn1"), norm), x)
	norm = nn.LayerNorm(p.In("norm2"), x)
	x = nn.LinearAdd(p.In("attn2.to_out.0"), n.attention(p.In("attn2"), norm, n.context), x)
	norm = nn.LayerNorm(p.In("norm3"), x)
	width := p.In("ff.net.0.proj").Dim("weight", 0) / 2
	return nn.LinearAdd(p.In("ff.net.2"), nn.GatedLinear(p.In("ff.net.0.proj"), norm, width), x)
}

// selfAttention is attention of x to itself before its last layer; of a token
// that is alone its value remains.
func (n net) selfAttention(p nn.Scope, x *nn.Value) *nn.Value {
	if !n.alone || n.recorded {
		return n.attention(p, x, x)
	}
	p.Spare("to_q.weight")
	p.Spare("to_k.weight")
	return nn.LinearNoBias(p.In("to_v"), x, x.Dim(-1))
}

// attention is that of x to the context, before its last layer.
func (n net) attention(p nn.Scope, x, context *nn.Value) *nn.Value {
	c := x.Dim(-1)
	heads := nn.Heads{Count: n.heads.Heads, Float32: n.heads.AttentionFloat32}
	if heads.Count == 0 {
		heads.Count = c / n.heads.HeadWidth
	}
	q := nn.LinearNoBias(p.In("to_q"), x, c)
	k, v := nn.LinearNoBias(p.In("to_k"), context, c), nn.LinearNoBias(p.In("to_v"), context, c)
	if n.recorded && x == context {
		n.scope.Output(AttentionOutput, nn.Received(q, k, heads.Count))
	}
	return nn.Attention(q, k, v, heads)
}
