package arch

import (
	"fmt"

	"github.com/comfyrun/comfyrun/engine/nn"
)

// Patch changes what a UNet computes between its blocks, or in them. Patches
// act in the order in which they stand.
type Patch interface {
	// Variant names the graph that comes of it: equal names, equal graphs.
	Variant() string
	// Numbers are settings that the graph takes as inputs, [1] each, named by
	// PatchInput, so that it serves all their values.
	Numbers() map[string]float32
	// attach adds the patch to a network; number is an input for a setting.
	attach(n *net, number func(name string) *nn.Value)
}

// PatchInput names the input for a setting of a UNet's patch number i.
func PatchInput(i int, name string) string { return fmt.Sprintf("patch.%d.%s", i, name) }

// changes are what patches do on the way through a network.
type changes struct {
	// before and after change the output of an input block: before it becomes a
	// skip too, and behind that.
	before, after []func(block int, h *nn.Value) *nn.Value
	// join changes the two that an output block joins.
	join []func(h, skip *nn.Value) (*nn.Value, *nn.Value)
	// identity has tokens of the middle block attend to nothing but themselves.
	identity bool
	// record tells how much attention each token of the middle block gets.
	record bool
}

// patch attaches the UNet's patches.
func (n *net) patch(p nn.Scope) {
	for i, patch := range n.heads.Patches {
		patch.attach(n, func(name string) *nn.Value { return p.Input(PatchInput(i, name), 1) })
	}
}

func changed(list []func(int, *nn.Value) *nn.Value, block int, h *nn.Value) *nn.Value {
	for _, f := range list {
		h = f(block, h)
	}
	return h
}

func (c changes) joined(h, skip *nn.Value) (*nn.Value, *nn.Value) {
	for _, f := range c.join {
		h, skip = f(h, skip)
	}
	return h, skip
}

// FreeU strengthens half of the channels that output blocks get from below, and
// scales the lowest frequencies of the skips that they join.
// Source: Si et al., FreeU: Free Lunch in Diffusion U-Net, 2023;
// https://github.com/ChenyangSi/FreeU.
type FreeU struct {
	// Deep and Shallow are for the blocks with four and with two times the
	// channels of the first convolution.
	Deep, Shallow FreeUScale
	// Normalised weighs the strength by the mean over the channels, from 0 at
	// its least to 1 at its most: the second version of the paper.
	Normalised bool
}

// FreeUScale are the factors b, for what comes from below, and s, for the skip.
type FreeUScale struct{ Backbone, Skip float64 }

// Variant is that of Patch.
func (f FreeU) Variant() string { return fmt.Sprintf("freeu %t", f.Normalised) }

// Numbers is that of Patch: the factors less 1, but for b of the first version.
func (f FreeU) Numbers() map[string]float32 {
	less := 0.0
	if f.Normalised {
		less = 1
	}
	return map[string]float32{
		"b1": float32(f.Deep.Backbone - less), "s1": float32(f.Deep.Skip - 1),
		"b2": float32(f.Shallow.Backbone - less), "s2": float32(f.Shallow.Skip - 1),
	}
}

func (f FreeU) attach(n *net, number func(string) *nn.Value) {
	scales := map[int][2]*nn.Value{
		4 * n.width: {number("b1"), number("s1")},
		2 * n.width: {number("b2"), number("s2")},
	}
	n.join = append(n.join, func(h, skip *nn.Value) (*nn.Value, *nn.Value) {
		scale, ok := scales[h.Dim(1)]
		if !ok {
			return h, skip
		}
		return h.Mul(f.strength(n.scope, h, scale[0])), nn.AddLow(skip, scale[1])
	})
}

// strength returns the factors for h: other than 1 in the first half of the
// channels.
func (f FreeU) strength(p nn.Scope, h, b *nn.Value) *nn.Value {
	channels := h.Dim(1)
	half, rest := make([]float32, channels), make([]float32, channels)
	for i := range channels {
		if i < channels/2 {
			half[i] = 1
		} else {
			rest[i] = 1
		}
	}
	if f.Normalised {
		one := p.Constant([]float32{1}, 1)
		return nn.UnitMean(h).Mul(b).Mul(p.Constant(half, channels, 1, 1)).Add(one)
	}
	return p.Constant(half, channels, 1, 1).Mul(b).Add(p.Constant(rest, channels, 1, 1))
}

// Downscale makes the picture smaller behind an input block, and gives each
// output block what comes from below in the size of its skip: objects are laid
// out as in a smaller picture.
// Source: Kohya's Deep Shrink, 2023,
// https://gist.github.com/kohya-ss/84d0f8db11a5ff5d9ae0de6ddc09e5f7.
type Downscale struct {
	Block  int // of the input blocks, the first convolution being 0
	Factor float64
	// AfterSkip leaves the block's skip as it is.
	AfterSkip bool
	Down, Up  nn.Resampling
}

// Variant is that of Patch.
func (d Downscale) Variant() string { return fmt.Sprintf("downscale %+v", d) }

// Numbers is that of Patch.
func (d Downscale) Numbers() map[string]float32 { return nil }

func (d Downscale) attach(n *net, _ func(string) *nn.Value) {
	list := &n.before
	if d.AfterSkip {
		list = &n.after
	}
	*list = append(*list, func(block int, h *nn.Value) *nn.Value {
		if block != d.Block {
			return h
		}
		return nn.Shrink(h, d.Factor, d.Down)
	})
	n.join = append(n.join, func(h, skip *nn.Value) (*nn.Value, *nn.Value) {
		return nn.ResizeTo(h, skip, d.Up), skip
	})
}

// IdentityAttention replaces self-attention in the middle block by its values:
// each token sees only itself.
// Source: Ahn et al., Self-Rectifying Diffusion Sampling with
// Perturbed-Attention Guidance, 2024.
type IdentityAttention struct{}

// Variant is that of Patch.
func (IdentityAttention) Variant() string { return "identity attention" }

// Numbers is that of Patch.
func (IdentityAttention) Numbers() map[string]float32 { return nil }

func (IdentityAttention) attach(n *net, _ func(string) *nn.Value) { n.identity = true }

// RecordAttention adds the output AttentionOutput: how much the tokens of the
// middle block's first self-attention attend to each of them, summed over the
// tokens and averaged over the heads, [batch, tokens].
// Source: Hong et al., Improving Sample Quality of Diffusion Models Using
// Self-Attention Guidance, 2022, section 4.
type RecordAttention struct{}

// AttentionOutput is the output of a UNet with RecordAttention.
const AttentionOutput = "attention"

// Variant is that of Patch.
func (RecordAttention) Variant() string { return "record attention" }

// Numbers is that of Patch.
func (RecordAttention) Numbers() map[string]float32 { return nil }

func (RecordAttention) attach(n *net, _ func(string) *nn.Value) { n.record = true }
