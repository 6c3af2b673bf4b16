package arch

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
)

// Upscaler is a network that enlarges pictures. Its graph has the input x
// [batch, Channels·Shuffle², height/Shuffle, width/Shuffle] and the output
// image [batch, channel, height·Scale, width·Scale], both in [0, 1].
type Upscaler struct {
	// Family names the architecture.
	Family  string
	Weights nn.Weights
	Build   func(nn.Scope)
	// Scale is the number of output pixels for a pixel of the picture, on a
	// side.
	Scale int
	// Shuffle is the side of the blocks of pixels that come in as channels, 1
	// when pixels come in as they are.
	Shuffle int
	// Channels of a picture.
	Channels int
}

// DetectUpscaler recognises a file of an upscaling network by its names.
func DetectUpscaler(w nn.Weights) (*Upscaler, error) {
	w = unwrapped(w, "module.", "netG.", "params_ema.", "params.")
	has := func(name string) bool { _, ok := w.Lookup(name); return ok }
	switch {
	case has("model.0.weight") && (has("model.1.sub.0.RDB1.conv1.0.weight") || has("model.1.sub.0.RDB1.conv1x1.weight")):
		return newRRDBNet(renamed(w, oldRRDBNames(w)))
	case has("conv_first.weight") && (has("body.0.rdb1.conv1.weight") || has("RRDB_trunk.0.RDB1.conv1.weight")):
		return newRRDBNet(renamed(w, newRRDBName))
	case has("body.0.weight") && has("body.1.weight"):
		return newCompact(w)
	}
	seems := resemblance(w)
	if hasName(w, "layers.0.residual_group.") || hasName(w, "layers.0.blocks.0.") {
		seems = "an upscaler with transformers, such as SwinIR, HAT or DAT"
	}
	return nil, &UnsupportedError{Seems: seems, Wanted: "an upscaling model (ESRGAN, Real-ESRGAN or Compact)"}
}

// unwrapped takes off each prefix that all names have.
func unwrapped(w nn.Weights, prefixes ...string) nn.Weights {
	for _, p := range prefixes {
		if !slices.ContainsFunc(w.Names(), func(n string) bool { return !strings.HasPrefix(n, p) }) {
			w = Under(w, p)
		}
	}
	return w
}

// newRRDBNet is ESRGAN's network with its descendants (Real-ESRGAN, BSRGAN,
// ESRGAN+), named as in Real-ESRGAN's files but for up.0, up.1, …
// Source: Wang et al., ESRGAN: Enhanced Super-Resolution Generative
// Adversarial Networks, 2018.
func newRRDBNet(w nn.Weights) (*Upscaler, error) {
	first, _ := w.Lookup("conv_first.weight")
	last, _ := w.Lookup("conv_last.weight")
	if len(first.Shape) != 4 || len(last.Shape) != 4 {
		return nil, fmt.Errorf("upscaling model: conv_first %v and conv_last %v are not the ends of an RRDB network", first.Shape, last.Shape)
	}
	u := &Upscaler{Family: "ESRGAN", Weights: w, Build: rrdbNet, Scale: 1, Shuffle: 1, Channels: first.Shape[1]}
	u.Scale = 1 << layers(w, "up.%d.weight")
	// Real-ESRGAN's models for smaller factors take blocks of pixels as
	// channels, so that the network still enlarges four times.
	for _, n := range []int{2, 4} {
		if u.Channels == n*n*last.Shape[0] {
			u.Shuffle, u.Channels, u.Scale = n, last.Shape[0], u.Scale/n
		}
	}
	return u, nil
}

// layers returns how many names of a form exist, counted from 0.
func layers(w nn.Weights, form string) int {
	for n := 0; ; n++ {
		if _, ok := w.Lookup(fmt.Sprintf(form, n)); !ok {
			return n
		}
	}
}

// oldRRDBNames returns the translation for files of ESRGAN's first layout, a
// list of layers: 0 the first convolution, 1 the trunk, then one for each
// doubling and the last two.
// https://github.com/xinntao/ESRGAN/blob/master/transfer_RRDB_models.py
func oldRRDBNames(w nn.Weights) func(string) string {
	var places []int
	blocks := 0
	for _, name := range w.Names() {
		var n int
		if scan(name, "model.1.sub.%d.", &n) {
			blocks = max(blocks, n)
		} else if scan(name, "model.%d.", &n) && n > 1 && !slices.Contains(places, n) {
			places = append(places, n)
		}
	}
	slices.Sort(places)
	ups := len(places) - 2
	return func(old string) string {
		var n int
		var rest string
		switch {
		case scan(old, "model.1.sub.%d.%s", &n, &rest):
			if n == blocks {
				return "conv_body." + rest
			}
			return rrdbBlock(n, rest)
		case scan(old, "model.0.%s", &rest):
			return "conv_first." + rest
		case scan(old, "model.%d.%s", &n, &rest):
			switch i := slices.Index(places, n); {
			case i < ups:
				return fmt.Sprintf("up.%d.%s", i, rest)
			case i == ups:
				return "conv_hr." + rest
			}
			return "conv_last." + rest
		}
		return old
	}
}

// rrdbBlock is the new name of a weight in block n: RDB1.conv1.0.weight is
// rdb1.conv1.weight.
func rrdbBlock(n int, rest string) string {
	rest = strings.NewReplacer("RDB", "rdb", ".0.weight", ".weight", ".0.bias", ".bias").Replace(rest)
	return fmt.Sprintf("body.%d.%s", n, rest)
}

// newRRDBName translates the names of Real-ESRGAN and BSRGAN.
func newRRDBName(old string) string {
	var n int
	var rest string
	switch {
	case scan(old, "RRDB_trunk.%d.%s", &n, &rest):
		return rrdbBlock(n, rest)
	case scan(old, "conv_up%d.%s", &n, &rest), scan(old, "upconv%d.%s", &n, &rest):
		return fmt.Sprintf("up.%d.%s", n-1, rest)
	}
	return strings.NewReplacer("trunk_conv.", "conv_body.", "HRconv.", "conv_hr.").Replace(old)
}

// slope of every LeakyReLU.
const slope = 0.2

func rrdbNet(p nn.Scope) {
	first := p.In("conv_first")
	x := p.Input("x", "batch", first.Dim("weight", 1), "height", "width")
	f := convSame(first, x)
	h := f
	for i := range p.Count("body.%d") {
		h = rrdb(p.In("body.%d", i), h)
	}
	h = convSame(p.In("conv_body"), h).Add(f)
	for i := range p.Count("up.%d") {
		up := p.In("up.%d", i)
		h = nn.UpConv(up, h, up.Dim("weight", 0)).LeakyReLU(slope)
	}
	h = convSame(p.In("conv_hr"), h).LeakyReLU(slope)
	p.Output("image", convSame(p.In("conv_last"), h))
}

// rrdb is a residual in residual dense block.
func rrdb(p nn.Scope, x *nn.Value) *nn.Value {
	h := x
	for j := 1; j <= 3; j++ {
		h = denseBlock(p.In("rdb%d", j), h)
	}
	return h.Scale(0.2).Add(x)
}

// denseBlock feeds each of five convolutions with the outputs of all before.
// ESRGAN+ adds shortcuts from the input to the second and from there to the
// fourth.
// Source: Rakotonirina and Rasoanaivo, ESRGAN+: Further Improving Enhanced
// Super-Resolution Generative Adversarial Network, 2020.
func denseBlock(p nn.Scope, x *nn.Value) *nn.Value {
	short := p.In("conv1x1")
	all := []*nn.Value{x}
	for c := 1; c <= 4; c++ {
		h := convSame(p.In("conv%d", c), nn.Concat(1, all...)).LeakyReLU(slope)
		if short.Has() && c == 2 {
			h = h.Add(nn.ConvNoBias(short, x, short.Dim("weight", 0), nn.Same(1)))
		} else if short.Has() && c == 4 {
			h = h.Add(all[2])
		}
		all = append(all, h)
	}
	return convSame(p.In("conv5"), nn.Concat(1, all...)).Scale(0.2).Add(x)
}

// newCompact is Real-ESRGAN's small network: convolutions at the picture's
// size, the last of which makes all pixels of a block at once.
// https://github.com/xinntao/Real-ESRGAN/blob/master/realesrgan/archs/srvgg_arch.py
func newCompact(w nn.Weights) (*Upscaler, error) {
	first, _ := w.Lookup("body.0.weight")
	end := layers(w, "body.%d.weight") - 1
	last, _ := w.Lookup(fmt.Sprintf("body.%d.weight", end))
	if len(first.Shape) != 4 || len(last.Shape) != 4 {
		return nil, fmt.Errorf("upscaling model: body.0 %v and body.%d %v are not the ends of a Compact network", first.Shape, end, last.Shape)
	}
	channels, out := first.Shape[1], last.Shape[0]
	scale := int(math.Sqrt(float64(out / channels)))
	if out != channels*scale*scale || scale == 0 {
		return nil, fmt.Errorf("upscaling model: %d output channels are no square of a scale for %d input channels", out, channels)
	}
	return &Upscaler{Family: "Compact", Weights: w, Build: compact(scale), Scale: scale, Shuffle: 1, Channels: channels}, nil
}

func compact(scale int) func(nn.Scope) {
	return func(p nn.Scope) {
		x := p.Input("x", "batch", p.In("body.0").Dim("weight", 1), "height", "width")
		h := x
		for i := range p.Count("body.%d") {
			layer := p.In("body.%d", i)
			if i%2 == 0 {
				h = convSame(layer, h)
			} else {
				h = nn.PReLU(layer, h)
			}
		}
		p.Output("image", nn.PixelShuffle(h, scale).Add(nn.Upsample(x, scale)))
	}
}
