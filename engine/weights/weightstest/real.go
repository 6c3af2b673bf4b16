package weightstest

import (
	"fmt"
	"strings"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// UNet are the sizes of a denoiser of the Stable Diffusion family, as its
// published configuration states them.
type UNet struct {
	Channels  int   // of the outermost level
	In        int   // of the network's picture
	Multiples []int // of Channels, by level
	Depths    []int // of the transformers, by level; 0 for none
	// Middle is the depth of the transformer in the middle, -1 for none, -2 for
	// no middle at all.
	Middle  int
	Blocks  int // residual blocks of a level on the way down
	Context int // width of the text states
	Vector  int // width of the input y, 0 for none
	// ConvProjection says that 1x1 convolutions stand around transformers
	// instead of linear layers.
	ConvProjection bool
}

// RealUNets are the denoisers of Stable Diffusion 2.1, XL and the XL refiner, and XL's
// smaller descendants Vega and KOALA.
// https://huggingface.co/stabilityai/stable-diffusion-2-1/blob/main/unet/config.json
// https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/unet/config.json
// https://huggingface.co/stabilityai/stable-diffusion-xl-refiner-1.0/blob/main/unet/config.json
// https://huggingface.co/segmind/Segmind-Vega/blob/main/unet/config.json
// https://huggingface.co/etri-vilab/koala-700m/blob/main/unet/config.json
func RealUNets() map[string]UNet {
	return map[string]UNet{
		"sd21":    {Channels: 320, In: 4, Multiples: []int{1, 2, 4, 4}, Depths: []int{1, 1, 1, 0}, Middle: 1, Blocks: 2, Context: 1024},
		"sdxl":    {Channels: 320, In: 4, Multiples: []int{1, 2, 4}, Depths: []int{0, 2, 10}, Middle: 10, Blocks: 2, Context: 2048, Vector: 2816},
		"refiner": {Channels: 384, In: 4, Multiples: []int{1, 2, 4, 4}, Depths: []int{0, 4, 4, 0}, Middle: 4, Blocks: 2, Context: 1280, Vector: 2560},
		"vega":    {Channels: 320, In: 4, Multiples: []int{1, 2, 4}, Depths: []int{0, 1, 2}, Middle: -1, Blocks: 2, Context: 2048, Vector: 2816},
		"koala":   {Channels: 320, In: 4, Multiples: []int{1, 2, 4}, Depths: []int{0, 2, 5}, Middle: -2, Blocks: 1, Context: 2048, Vector: 2816},
	}
}

// Shapes lists the tensors with the names of the original checkpoints.
func (u UNet) Shapes() map[string]tensor.Shape {
	s := shapes{}
	mc, emb := u.Channels, 4*u.Channels
	s.linear("time_embed.0", emb, mc)
	s.linear("time_embed.2", emb, emb)
	if u.Vector > 0 {
		s.linear("label_emb.0.0", emb, u.Vector)
		s.linear("label_emb.0.2", emb, emb)
	}
	s.conv("input_blocks.0.0", mc, u.In, 3)
	skips, ch := u.down(s), mc*u.Multiples[len(u.Multiples)-1]
	if u.Middle > -2 {
		s.resBlock("middle_block.0", ch, ch, emb)
		if u.Middle > 0 {
			u.transformer(s, "middle_block.1", ch, u.Middle)
			s.resBlock("middle_block.2", ch, ch, emb)
		}
	}
	u.up(s, skips, ch)
	s.norm("out.0", mc)
	s.conv("out.2", 4, mc, 3)
	return s
}

// down adds the first half and returns the widths of its blocks' results.
func (u UNet) down(s shapes) (skips []int) {
	ch, i := u.Channels, 1
	skips = []int{ch}
	for level, m := range u.Multiples {
		for range u.Blocks {
			s.resBlock(fmt.Sprintf("input_blocks.%d.0", i), ch, m*u.Channels, 4*u.Channels)
			ch = m * u.Channels
			u.transformer(s, fmt.Sprintf("input_blocks.%d.1", i), ch, u.Depths[level])
			skips = append(skips, ch)
			i++
		}
		if level < len(u.Multiples)-1 {
			s.conv(fmt.Sprintf("input_blocks.%d.0.op", i), ch, ch, 3)
			skips = append(skips, ch)
			i++
		}
	}
	return skips
}

// up adds the second half.
func (u UNet) up(s shapes, skips []int, ch int) {
	i := 0
	for level := len(u.Multiples) - 1; level >= 0; level-- {
		for block := range u.Blocks + 1 {
			p := fmt.Sprintf("output_blocks.%d", i)
			skip := skips[len(skips)-1]
			skips = skips[:len(skips)-1]
			s.resBlock(p+".0", ch+skip, u.Multiples[level]*u.Channels, 4*u.Channels)
			ch = u.Multiples[level] * u.Channels
			u.transformer(s, p+".1", ch, u.Depths[level])
			if level > 0 && block == u.Blocks {
				place := ".1.conv"
				if u.Depths[level] > 0 {
					place = ".2.conv"
				}
				s.conv(p+place, ch, ch, 3)
			}
			i++
		}
	}
}

func (u UNet) transformer(s shapes, p string, c, depth int) {
	if depth == 0 {
		return
	}
	s.norm(p+".norm", c)
	for _, proj := range []string{".proj_in", ".proj_out"} {
		s.linear(p+proj, c, c)
		if u.ConvProjection {
			s[p+proj+".weight"] = tensor.Shape{c, c, 1, 1}
		}
	}
	for d := range depth {
		b := fmt.Sprintf("%s.transformer_blocks.%d.", p, d)
		for i, width := range []int{c, u.Context} {
			attn := fmt.Sprintf("%sattn%d.", b, i+1)
			s[attn+"to_q.weight"] = tensor.Shape{c, c}
			s[attn+"to_k.weight"] = tensor.Shape{c, width}
			s[attn+"to_v.weight"] = tensor.Shape{c, width}
			s.linear(attn+"to_out.0", c, c)
		}
		s.linear(b+"ff.net.0.proj", 8*c, c)
		s.linear(b+"ff.net.2", c, 4*c)
		for n := 1; n <= 3; n++ {
			s.norm(fmt.Sprintf("%snorm%d", b, n), c)
		}
	}
}

// OpenCLIP are the sizes of one of OpenCLIP's text towers.
// https://github.com/mlfoundations/open_clip/tree/main/src/open_clip/model_configs
type OpenCLIP struct{ Width, Layers int }

// Shapes lists the tensors with OpenCLIP's names.
func (o OpenCLIP) Shapes() map[string]tensor.Shape {
	s, w := shapes{}, o.Width
	s["positional_embedding"] = tensor.Shape{77, w}
	s["token_embedding.weight"] = tensor.Shape{49408, w}
	s["text_projection"] = tensor.Shape{w, w}
	s["logit_scale"] = tensor.Shape{}
	s.norm("ln_final", w)
	for i := range o.Layers {
		p := fmt.Sprintf("transformer.resblocks.%d.", i)
		s.norm(p+"ln_1", w)
		s.norm(p+"ln_2", w)
		s[p+"attn.in_proj_weight"], s[p+"attn.in_proj_bias"] = tensor.Shape{3 * w, w}, tensor.Shape{3 * w}
		s.linear(p+"attn.out_proj", w, w)
		s.linear(p+"mlp.c_fc", 4*w, w)
		s.linear(p+"mlp.c_proj", w, 4*w)
	}
	return s
}

// shapes collects tensors by name.
type shapes map[string]tensor.Shape

func (s shapes) linear(p string, out, in int) {
	s[p+".weight"], s[p+".bias"] = tensor.Shape{out, in}, tensor.Shape{out}
}

func (s shapes) conv(p string, out, in, kernel int) {
	s[p+".weight"], s[p+".bias"] = tensor.Shape{out, in, kernel, kernel}, tensor.Shape{out}
}

func (s shapes) norm(p string, c int) {
	s[p+".weight"], s[p+".bias"] = tensor.Shape{c}, tensor.Shape{c}
}

func (s shapes) resBlock(p string, in, out, emb int) {
	s.norm(p+".in_layers.0", in)
	s.conv(p+".in_layers.2", out, in, 3)
	s.linear(p+".emb_layers.1", out, emb)
	s.norm(p+".out_layers.0", out)
	s.conv(p+".out_layers.3", out, out, 3)
	if in != out {
		s.conv(p+".skip_connection", out, in, 1)
	}
}

// RealXL lists the tensors of a checkpoint of Stable Diffusion XL's base model:
// its denoiser, both of its text towers and its autoencoder.
func RealXL() (map[string]tensor.Shape, error) {
	all := map[string]tensor.Shape{}
	add := func(prefix string, shapes map[string]tensor.Shape) {
		for name, s := range shapes {
			all[prefix+name] = s
		}
	}
	add("model.diffusion_model.", RealUNets()["sdxl"].Shapes())
	add("conditioner.embedders.1.model.", OpenCLIP{Width: 1280, Layers: 32}.Shapes())
	sd15, err := Shapes("sd15-full-fp16")
	for name, s := range sd15 { // CLIP-L and the autoencoder are the same
		if rest, ok := strings.CutPrefix(name, "cond_stage_model.transformer."); ok {
			all["conditioner.embedders.0.transformer."+rest] = s
		}
		if strings.HasPrefix(name, "first_stage_model.") {
			all[name] = s
		}
	}
	return all, err
}
