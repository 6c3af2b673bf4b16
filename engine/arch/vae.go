package arch

import (
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
)

const vaeEps = 1e-6

// VAEDecoder traces the half of the autoencoder that turns latents into
// pictures. Input: z [batch, channel, height, width], unscaled. Output: image
// [batch, 3, height·f, width·f] in about [-1, 1]; f is 2 for each level that
// upsamples.
// Source: Esser et al., Taming Transformers for High-Resolution Image
// Synthesis, 2021 (the KL autoencoder); names as in the checkpoints.
func VAEDecoder(p nn.Scope) {
	d := p.In("decoder")
	channels := d.In("conv_in").Dim("weight", 1)
	h := p.Input("z", "batch", channels, "height", "width")
	if post := p.In("post_quant_conv"); post.Has() {
		h = nn.Conv(post, h, channels, nn.Same(1))
	}
	h = vaeMiddle(d.In("mid"), convSame(d.In("conv_in"), h))
	for level := d.Count("up.%d") - 1; level >= 0; level-- {
		up := d.In("up.%d", level)
		h = vaeBlocks(up, h)
		if conv := up.In("upsample.conv"); conv.Has() {
			h = nn.UpConv(conv, h, conv.Dim("weight", 0))
		}
	}
	h = nn.GroupNormSiLU(d.In("norm_out"), h, vaeEps)
	p.Output("image", convSame(d.In("conv_out"), h))
}

// VAEEncoder traces the half that turns pictures into latents. Input: image
// [batch, 3, height, width] in [-1, 1]. Output: moments [batch, 2·channel,
// height/f, width/f], means before log-variances.
func VAEEncoder(p nn.Scope) {
	e := p.In("encoder")
	h := convSame(e.In("conv_in"), p.Input("image", "batch", e.In("conv_in").Dim("weight", 1), "height", "width"))
	for level := range e.Count("down.%d") {
		down := e.In("down.%d", level)
		h = vaeBlocks(down, h)
		if conv := down.In("downsample.conv"); conv.Has() {
			// One column and row of zeros at the right and bottom only.
			h = nn.Conv(conv, h, conv.Dim("weight", 0), nn.Window{Kernel: 3, Stride: 2, Pads: [4]int{0, 0, 1, 1}})
		}
	}
	h = nn.GroupNormSiLU(e.In("norm_out"), vaeMiddle(e.In("mid"), h), vaeEps)
	h = convSame(e.In("conv_out"), h)
	if quant := p.In("quant_conv"); quant.Has() {
		h = nn.Conv(quant, h, quant.Dim("weight", 0), nn.Same(1))
	}
	p.Output("moments", h)
}

func convSame(p nn.Scope, x *nn.Value) *nn.Value {
	return nn.Conv(p, x, p.Dim("weight", 0), nn.Same(3))
}

func vaeBlocks(p nn.Scope, h *nn.Value) *nn.Value {
	for i := range p.Count("block.%d") {
		h = vaeBlock(p.In("block.%d", i), h)
	}
	return h
}

func vaeMiddle(p nn.Scope, h *nn.Value) *nn.Value {
	h = vaeBlock(p.In("block_1"), h)
	return vaeBlock(p.In("block_2"), vaeAttention(p.In("attn_1"), h))
}

func vaeBlock(p nn.Scope, x *nn.Value) *nn.Value {
	out := p.In("conv1").Dim("weight", 0)
	h := nn.Conv(p.In("conv1"), nn.GroupNormSiLU(p.In("norm1"), x, vaeEps), out, nn.Same(3))
	if x.Dim(1) != out {
		x = nn.Conv(p.In("nin_shortcut"), x, out, nn.Same(1))
	}
	return nn.ConvAdd(p.In("conv2"), nn.GroupNormSiLU(p.In("norm2"), h, vaeEps), x, nn.Same(3))
}

// vaeAttention is self-attention over all pixels in one head. The checkpoint
// holds its projections as 1x1 convolutions, which are linear layers on tokens.
func vaeAttention(p nn.Scope, x *nn.Value) *nn.Value {
	c := x.Dim(1)
	h := nn.Tokens(nn.GroupNorm(p.In("norm"), x, vaeEps))
	q, k, v := nn.Linear(p.In("q"), h, c), nn.Linear(p.In("k"), h, c), nn.Linear(p.In("v"), h, c)
	h = nn.Linear(p.In("proj_out"), nn.Attention(q, k, v, nn.Heads{Count: 1}), c)
	return nn.Picture(h, x).Add(x)
}

// VAESize returns the number of channels of a latent and how many pixels one
// latent pixel spans on each side.
func VAESize(w nn.Weights) (channels, scale int) {
	src, ok := w.Lookup("decoder.conv_in.weight")
	if !ok || len(src.Shape) != 4 {
		return 0, 1
	}
	scale = 1
	for _, n := range w.Names() {
		if strings.HasPrefix(n, "decoder.up.") && strings.HasSuffix(n, ".upsample.conv.weight") {
			scale *= 2
		}
	}
	return src.Shape[1], scale
}
