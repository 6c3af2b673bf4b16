package arch

import (
	"github.com/comfyrun/comfyrun/engine/nn"
)

// TAESD is a tiny autoencoder for the latents of a family, a file for each
// half, whose layers are numbered. It stands in for the family's autoencoder.
// https://github.com/madebyollin/taesd/blob/main/taesd.py
type TAESD struct {
	// Scale and Shift are those of the latent format, (latent - Shift)·Scale: the
	// network works on scaled latents.
	Scale, Shift float32
}

// BuildDecoder traces the half that turns latents into pictures. Input: z
// [batch, channel, height, width], unscaled. Output: image [batch, 3, 8·height,
// 8·width] in about [-1, 1].
func (t TAESD) BuildDecoder(p nn.Scope) {
	first := p.In("1")
	z := p.Input("z", "batch", first.Dim("weight", 1), "height", "width")
	z = z.Add(p.Constant([]float32{-t.Shift}, 1)).Scale(t.Scale)
	h := convSame(first, z.Scale(1.0/3).Tanh().Scale(3)).ReLU()
	const layers = 20
	for i := 3; i < layers; i++ {
		h = tinyLayer(p.In("%d", i), h, func(layer nn.Scope) *nn.Value {
			return nn.ConvNoBias(layer, nn.Upsample(h, 2), layer.Dim("weight", 0), nn.Same(3))
		})
	}
	p.Output("image", h.Add(p.Constant([]float32{-0.5}, 1)).Scale(2))
}

// BuildEncoder traces the half that turns pictures into latents. Input: image
// [batch, 3, height, width] in [-1, 1]. Output: moments [batch, channel,
// height/8, width/8], unscaled.
func (t TAESD) BuildEncoder(p nn.Scope) {
	first := p.In("0")
	h := p.Input("image", "batch", first.Dim("weight", 1), "height", "width")
	h = convSame(first, h.Scale(0.5).Add(p.Constant([]float32{0.5}, 1)))
	const layers = 15
	for i := 1; i < layers; i++ {
		h = tinyLayer(p.In("%d", i), h, func(layer nn.Scope) *nn.Value {
			w := nn.Same(3)
			w.Stride = 2
			return nn.ConvNoBias(layer, h, layer.Dim("weight", 0), w)
		})
	}
	p.Output("moments", h.Div(p.Constant([]float32{t.Scale}, 1)).Add(p.Constant([]float32{t.Shift}, 1)))
}

// tinyLayer applies a layer, if the place has one: a block, a convolution, or
// what resize does with a convolution without bias, with which both halves
// change the size.
func tinyLayer(p nn.Scope, h *nn.Value, resize func(nn.Scope) *nn.Value) *nn.Value {
	switch {
	case p.In("conv").Has():
		return tinyBlock(p, h)
	case p.In("bias").Has():
		return convSame(p, h)
	case p.Has():
		return resize(p)
	}
	return h
}

// tinyBlock is three convolutions and a shortcut.
func tinyBlock(p nn.Scope, x *nn.Value) *nn.Value {
	h := convSame(p.In("conv.0"), x).ReLU()
	h = convSame(p.In("conv.4"), convSame(p.In("conv.2"), h).ReLU())
	if skip := p.In("skip"); skip.Has() {
		x = nn.ConvNoBias(skip, x, skip.Dim("weight", 0), nn.Same(1))
	}
	return h.Add(x).ReLU()
}
