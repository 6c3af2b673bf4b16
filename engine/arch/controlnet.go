package arch

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
)

// Residual names a picture of features that a ControlNet or an adapter adds to
// those of a UNet, and the input of a steered UNet that takes it: any of its
// dimensions may be 1, so a single 0 stands for nothing to add.
type Residual struct {
	Place Place
	// Block counts the input blocks; 0 for Middle.
	Block int
}

// Place says to what a residual is added.
type Place string

// The places.
const (
	Input  Place = "input"  // output of an input block, which is also its skip
	Skip   Place = "skip"   // output of an input block on its way to an output block only
	Middle Place = "middle" // output of the middle block
)

func (r Residual) String() string {
	if r.Place == Middle {
		return string(Middle)
	}
	return fmt.Sprintf("%s.%d", r.Place, r.Block)
}

// IsResidual reports whether a graph's input or output is a residual.
func IsResidual(name string) bool {
	place, _, _ := strings.Cut(name, ".")
	return place == string(Input) || place == string(Skip) || place == string(Middle)
}

// steer adds a residual to h where the UNet is steered.
func (n net) steer(p nn.Scope, r Residual, h *nn.Value) *nn.Value {
	if !n.heads.Steered {
		return h
	}
	name := r.String()
	return h.Add(p.Input(name, name+".batch", name+".channel", name+".height", name+".width"))
}

// ControlNet is a copy of a UNet's first half that turns a picture, the hint,
// into residuals for the skips and the middle block.
// Source: Zhang et al., Adding Conditional Control to Text-to-Image Diffusion
// Models, 2023.
type ControlNet struct {
	UNet UNet
	// Hint and Net are the weights of the two graphs, named as in the original
	// release: https://huggingface.co/lllyasviel/ControlNet-v1-1.
	Hint, Net nn.Weights
	// Difference says that the weights are to be added to those of a UNet.
	Difference bool
	// Tasks is the number of kinds of hints that a union of ControlNets knows,
	// 0 for an ordinary one.
	Tasks int
	// Task is the kind of the hint, counted from 0; -1 leaves it open.
	Task int
}

// DetectControlNet recognises a ControlNet file in the original or the
// diffusers layout.
func DetectControlNet(w nn.Weights) (*ControlNet, error) {
	_, difference := w.Lookup("difference")
	n := w
	switch {
	case hasName(w, "lora_controlnet"):
		return nil, errors.New("a Control-LoRA is not supported: use the full ControlNet")
	case len(shapeOf(w, "controlnet_cond_embedding.conv_in.weight")) == 4:
		n = ldmControlNet(w)
	case len(shapeOf(w, "control_model.input_hint_block.0.weight")) == 4:
		n = Under(w, "control_model.")
	}
	if len(shapeOf(n, "input_hint_block.0.weight")) != 4 || len(shapeOf(n, "zero_convs.0.0.weight")) != 4 {
		return nil, &UnsupportedError{Seems: resemblance(w), Wanted: "a ControlNet for Stable Diffusion 1, 2 or XL"}
	}
	c := &ControlNet{UNet: controlHeads(n), Difference: difference, Task: -1}
	if table := shapeOf(n, "task_embedding"); len(table) == 2 {
		c.Tasks = table[0]
	}
	isHint := func(name string) bool {
		first, _, _ := strings.Cut(name, ".")
		return first == "input_hint_block" || first == "task_embedding" || first == "transformer_layes" || first == "spatial_ch_projs"
	}
	c.Hint = chosen(n, isHint)
	c.Net = chosen(n, func(name string) bool { return !isHint(name) && name != "difference" })
	return c, nil
}

// chosen returns the weights whose names f wants.
func chosen(w nn.Weights, f func(string) bool) nn.Weights {
	return renamed(w, func(name string) string {
		if f(name) {
			return name
		}
		return ""
	})
}

// controlHeads returns the rule for attention heads: 8 in Stable Diffusion 1,
// whose transformers begin with a convolution, and 64 wide in the others, of
// which Stable Diffusion 2 has the narrower text.
func controlHeads(w nn.Weights) UNet {
	for _, name := range w.Names() {
		if strings.HasSuffix(name, ".attn2.to_k.weight") && len(shapeOf(w, name)) == 2 && shapeOf(w, name)[1] == sd2Context {
			return sd2().UNet
		}
	}
	for _, name := range w.Names() {
		if strings.HasSuffix(name, ".proj_in.weight") && len(shapeOf(w, name)) == 2 {
			return sdxl().UNet
		}
	}
	return sd1().UNet
}

// ldmControlNet gives a ControlNet in the diffusers layout the names of the
// original release.
// https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/controlnets/controlnet.py
func ldmControlNet(w nn.Weights) nn.Weights {
	l := levels{resnets: 1}
	hints := 0
	for _, n := range w.Names() {
		var level, i int
		if scan(n, "down_blocks.%d.resnets.%d.", &level, &i) {
			l.resnets = max(l.resnets, i+1)
		}
		if scan(n, "controlnet_cond_embedding.blocks.%d.", &i) {
			hints = max(hints, i+1)
		}
	}
	return renamed(w, func(old string) string {
		var i int
		var rest string
		switch {
		case scan(old, "controlnet_down_blocks.%d.%s", &i, &rest):
			return fmt.Sprintf("zero_convs.%d.0.%s", i, rest)
		case scan(old, "controlnet_mid_block.%s", &rest):
			return "middle_block_out.0." + rest
		case scan(old, "controlnet_cond_embedding.conv_in.%s", &rest):
			return "input_hint_block.0." + rest
		case scan(old, "controlnet_cond_embedding.blocks.%d.%s", &i, &rest):
			return fmt.Sprintf("input_hint_block.%d.%s", 2*(i+1), rest)
		case scan(old, "controlnet_cond_embedding.conv_out.%s", &rest):
			return fmt.Sprintf("input_hint_block.%d.%s", 2*(hints+1), rest)
		}
		if name := l.name(old); name != "" {
			return name
		}
		return strings.Replace(old, ".in_proj_", ".in_proj.", 1)
	})
}

// BuildHint traces the part that looks at the picture. Input: image [batch, 3,
// 8·height, 8·width] in [0, 1]. Output: hint [batch, width of the network,
// height, width].
func (c *ControlNet) BuildHint(p nn.Scope) {
	first := p.In("input_hint_block.0")
	h := convSame(first, p.Input("image", "batch", first.Dim("weight", 1), "height", "width"))
	// Layers with an odd number are activations; every second convolution after
	// the first halves the picture.
	for i := 2; p.In("input_hint_block.%d", i).Has(); i += 2 {
		conv := p.In("input_hint_block.%d", i)
		w := nn.Same(3)
		if i%4 == 0 {
			w.Stride = 2
		}
		h = nn.Conv(conv, h.SiLU(), conv.Dim("weight", 0), w)
	}
	if c.Tasks > 0 {
		h = c.forTask(p, h)
	}
	p.Output("hint", h)
}

// forTask adds to each channel of the hint what a union of ControlNets makes
// of its mean and of the task. Its transformer sees one token, of which
// attention returns the value as it is.
// https://github.com/xinsir6/ControlNetPlus/blob/main/models/controlnet_union.py
func (c *ControlNet) forTask(p nn.Scope, h *nn.Value) *nn.Value {
	width := h.Dim(1)
	layers := p.Count("transformer_layes.%d")
	x := nn.Mean(h).Add(p.Rows("task_embedding", max(c.Task, 0), 1, width))
	for i := range layers {
		layer := p.In("transformer_layes.%d", i)
		v := nn.LinearRows(layer.In("attn.in_proj"), nn.LayerNorm(layer.In("ln_1"), x), 2*width, width)
		x = nn.Linear(layer.In("attn.out_proj"), v, width).Add(x)
		fc := layer.In("mlp.c_fc")
		y := nn.Linear(fc, nn.LayerNorm(layer.In("ln_2"), x), fc.Dim("weight", 0)).QuickGelu()
		x = nn.Linear(layer.In("mlp.c_proj"), y, width).Add(x)
	}
	x = nn.Linear(p.In("spatial_ch_projs"), x, width)
	if c.Task < 0 {
		return h
	}
	return h.Add(x.Reshape(0, width, 1, 1))
}

// Build traces the network. Inputs are those of the UNet, and hint as BuildHint
// gives it; outputs the residuals of all skips and of the middle block.
func (c *ControlNet) Build(p nn.Scope) {
	n, h := c.UNet.enter(p)
	if c.Tasks > 0 {
		n.emb = n.emb.Add(c.taskEmbedding(p))
	}
	n.emb = n.emb.SiLU()
	h = h.Add(p.Input("hint", "hint.batch", h.Dim(1), "hint.height", "hint.width"))
	skips, h := n.down(p, h)
	for i, skip := range skips {
		p.Output(Residual{Skip, i}.String(), nn.Conv(p.In("zero_convs.%d.0", i), skip, skip.Dim(1), nn.Same(1)))
	}
	h = n.middle(p.In("middle_block"), h)
	p.Output(Residual{Middle, 0}.String(), nn.Conv(p.In("middle_block_out.0"), h, h.Dim(1), nn.Same(1)))
}

// taskEmbedding is added to the timestep's embedding: a number for each task, 1
// for the one at hand and 0 for the others, each as an embedding of its own.
func (c *ControlNet) taskEmbedding(p nn.Scope) *nn.Value {
	numbers := make([]float32, 0, c.Tasks*NumberWidth)
	for task := range c.Tasks {
		number := 0.0
		if task == c.Task {
			number = 1
		}
		freqs := nn.Frequencies(NumberWidth / 2)
		for _, f := range []func(float64) float64{math.Cos, math.Sin} {
			for _, freq := range freqs {
				numbers = append(numbers, float32(f(number*float64(freq))))
			}
		}
	}
	e := p.In("control_add_embedding")
	x := p.Constant(numbers, 1, len(numbers))
	x = nn.Linear(e.In("linear_1"), x, e.In("linear_1").Dim("weight", 0)).SiLU()
	return nn.Linear(e.In("linear_2"), x, e.In("linear_2").Dim("weight", 0))
}
