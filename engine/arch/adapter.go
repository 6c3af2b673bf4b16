package arch

import (
	"fmt"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
)

// Adapter turns a picture into residuals for the way down of a UNet, once for a
// run.
// Source: Mou et al., T2I-Adapter: Learning Adapters to Dig out More
// Controllable Ability for Text-to-Image Diffusion Models, 2023;
// https://github.com/TencentARC/T2I-Adapter.
type Adapter struct {
	Weights nn.Weights
	// Shuffle is the side of the blocks of pixels that come in as channels: 8,
	// or 16 for Stable Diffusion XL.
	Shuffle int
	// Channels of the picture, 1 or 3.
	Channels int
	// light is the smaller network.
	light bool
}

// DetectAdapter recognises a T2I-Adapter file in the original or the diffusers
// layout.
func DetectAdapter(w nn.Weights) (*Adapter, error) {
	w = renamed(w, adapterName)
	a := &Adapter{Weights: w, light: true}
	first := shapeOf(w, "body.0.in_conv.weight")
	if first == nil {
		a.light = false
		first = shapeOf(w, "conv_in.weight")
	}
	if len(first) != 4 || len(shapeOf(w, "body.0.block1.weight")) != 4 && !a.light {
		return nil, &UnsupportedError{Seems: resemblance(w), Wanted: "a T2I-Adapter"}
	}
	switch first[1] {
	case 64, 192:
		a.Shuffle, a.Channels = 8, first[1]/64
	case 256, 768:
		a.Shuffle, a.Channels = 16, first[1]/256
	default:
		return nil, &UnsupportedError{Seems: resemblance(w), Wanted: "a T2I-Adapter of a known number of channels (64, 192, 256 or 768)"}
	}
	return a, nil
}

// adapterName translates diffusers' names, which count levels of two blocks.
// https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/adapter.py
func adapterName(old string) string {
	name, ok := strings.CutPrefix(old, "adapter.")
	if !ok {
		return old
	}
	var level, i int
	var rest string
	switch {
	case scan(name, "body.%d.resnets.%d.%s", &level, &i, &rest):
		return fmt.Sprintf("body.%d.%s", 2*level+i, rest)
	case scan(name, "body.%d.in_conv.%s", &level, &rest):
		return fmt.Sprintf("body.%d.in_conv.%s", 2*level, rest)
	}
	return name
}

// Build traces the network. Input: x [batch, Channels·Shuffle², height,
// width], blocks of pixels in [0, 1]. Outputs: residuals.
func (a *Adapter) Build(p nn.Scope) {
	h := p.Input("x", "batch", a.Channels*a.Shuffle*a.Shuffle, "height", "width")
	if !a.light {
		h = convSame(p.In("conv_in"), h)
	}
	perLevel := 2
	if a.light {
		perLevel = 1
	}
	for level, place := range a.places() {
		if a.halves(level) {
			h = halved(p.In("body.%d.down_opt.op", perLevel*level), h)
		}
		for i := range perLevel {
			h = adapterBlock(p.In("body.%d", perLevel*level+i), h)
		}
		p.Output(place.String(), h)
	}
}

// places lists to what the levels' features are added.
func (a *Adapter) places() []Residual {
	if a.Shuffle == 16 {
		return []Residual{{Input, 3}, {Input, 5}, {Input, 8}, {Middle, 0}}
	}
	return []Residual{{Input, 2}, {Input, 5}, {Input, 8}, {Input, 11}}
}

// halves reports whether a level begins with halving the picture. That of
// Stable Diffusion XL begins at half size and does so once.
func (a *Adapter) halves(level int) bool {
	if a.Shuffle == 16 {
		return level == 2
	}
	return level > 0
}

// halved halves the picture with the convolution that p has, or by means.
func halved(p nn.Scope, h *nn.Value) *nn.Value {
	if !p.Has() {
		return nn.AvgPool(h)
	}
	return nn.Conv(p, h, p.Dim("weight", 0), nn.Window{Kernel: 3, Stride: 2, Pads: [4]int{1, 1, 1, 1}})
}

// adapterBlock is a residual block, or in the light network some between two
// 1x1 convolutions.
func adapterBlock(p nn.Scope, x *nn.Value) *nn.Value {
	if in := p.In("in_conv"); in.Has() {
		x = convKernel(in, x)
	}
	if out := p.In("out_conv"); out.Has() {
		for i := range p.Count("body.%d") {
			x = adapterBlock(p.In("body.%d", i), x)
		}
		return convKernel(out, x)
	}
	h := convKernel(p.In("block2"), convKernel(p.In("block1"), x).ReLU())
	if skip := p.In("skep"); skip.Has() {
		x = convKernel(skip, x)
	}
	return h.Add(x)
}

// convKernel is a convolution that keeps the picture's size with the kernel
// that the weight has.
func convKernel(p nn.Scope, h *nn.Value) *nn.Value {
	return nn.Conv(p, h, p.Dim("weight", 0), nn.Same(p.Dim("weight", 2)))
}

// Halvings returns how often the latent's sides were halved where a residual
// is added.
func (a *Adapter) Halvings(residual string) int {
	for level, place := range a.places() {
		if place.String() != residual {
			continue
		}
		if a.Shuffle == 16 {
			return 1 + level/2
		}
		return level
	}
	return 0
}
