package archtest

import (
	"fmt"
	"maps"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// conv adds a convolution to a file.
func (f File) conv(name string, out, in, kernel int) {
	f[name+".weight"], f[name+".bias"] = tensor.Shape{out, in, kernel, kernel}, tensor.Shape{out}
}

// linear adds a linear layer.
func (f File) linear(name string, out, in int) {
	f[name+".weight"], f[name+".bias"] = tensor.Shape{out, in}, tensor.Shape{out}
}

// unionOf adds to a ControlNet what a union of two has.
func unionOf(f File) File {
	f = maps.Clone(f)
	prefix := ""
	if _, ok := f["control_model.input_hint_block.0.weight"]; ok {
		prefix = "control_model."
	}
	width, emb := f[prefix+"input_blocks.0.0.weight"][0], f[prefix+"time_embed.0.weight"][0]
	f[prefix+"task_embedding"] = tensor.Shape{2, width}
	f.linear(prefix+"control_add_embedding.linear_1", emb, 2*arch.NumberWidth)
	f.linear(prefix+"control_add_embedding.linear_2", emb, emb)
	f.linear(prefix+"spatial_ch_projs", width, width)
	layer := prefix + "transformer_layes.0."
	f.linear(layer+"attn.in_proj", 3*width, width)
	f.linear(layer+"attn.out_proj", width, width)
	f.linear(layer+"mlp.c_fc", 4*width, width)
	f.linear(layer+"mlp.c_proj", width, 4*width)
	for _, norm := range []string{"ln_1", "ln_2"} {
		f[layer+norm+".weight"], f[layer+norm+".bias"] = tensor.Shape{width}, tensor.Shape{width}
	}
	return f
}

// fullAdapter is a small T2I-Adapter.
func fullAdapter() File {
	f := File{}
	f.conv("conv_in", 32, 192, 3)
	in := 32
	for i, width := range []int{32, 32, 64, 64, 128, 128, 128, 128} {
		p := fmt.Sprintf("body.%d.", i)
		if in != width {
			f.conv(p+"in_conv", width, in, 1)
		}
		f.conv(p+"block1", width, width, 3)
		f.conv(p+"block2", width, width, 1)
		in = width
	}
	return f
}

// lightAdapter is a small one of the light kind.
func lightAdapter() File {
	f := File{}
	in := 64
	for i, width := range []int{32, 64, 128, 128} {
		p := fmt.Sprintf("body.%d.", i)
		f.conv(p+"in_conv", 16, in, 1)
		for j := range 2 {
			f.conv(fmt.Sprintf("%sbody.%d.block1", p, j), 16, 16, 3)
			f.conv(fmt.Sprintf("%sbody.%d.block2", p, j), 16, 16, 3)
		}
		f.conv(p+"out_conv", width, 16, 1)
		in = width
	}
	return f
}

// compact is a small upscaler of the Compact kind, with both kinds of PReLU.
func compact() File {
	f := File{"body.1.weight": {16}, "body.3.weight": {1}}
	f.conv("body.0", 16, 3, 3)
	f.conv("body.2", 16, 16, 3)
	f.conv("body.4", 12, 16, 3)
	return f
}

// tinyDecoder is half of TAESD at a quarter of its width.
func tinyDecoder() File {
	f := File{}
	f.conv("1", 16, 4, 3)
	f.tinyLayers([]int{3, 4, 5, 8, 9, 10, 13, 14, 15, 18}, []int{7, 12, 17})
	f.conv("19", 3, 16, 3)
	return f
}

// tinyEncoder is the other half.
func tinyEncoder() File {
	f := File{}
	f.conv("0", 16, 3, 3)
	f.tinyLayers([]int{1, 3, 4, 5, 7, 8, 9, 11, 12, 13}, []int{2, 6, 10})
	f.conv("14", 4, 16, 3)
	return f
}

// tinyLayers adds layers of TAESD: residual blocks, and convolutions without a
// bias.
func (f File) tinyLayers(blocks, plain []int) {
	for _, i := range blocks {
		f.tinyBlock(i)
	}
	for _, i := range plain {
		f[fmt.Sprintf("%d.weight", i)] = tensor.Shape{16, 16, 3, 3}
	}
}

func (f File) tinyBlock(layer int) {
	for _, i := range []int{0, 2, 4} {
		f.conv(fmt.Sprintf("%d.conv.%d", layer, i), 16, 16, 3)
	}
}
