package arch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// TestRealUNets builds the networks at their real sizes and counts what they
// want. The counts for 2.1 and XL are the published ones.
func TestRealUNets(t *testing.T) {
	for name, want := range map[string]struct {
		family          string
		tensors, params int
	}{
		"sd21":    {"Stable Diffusion 2.x", 686, 865_910_724},
		"sdxl":    {"Stable Diffusion XL", 1680, 2_567_463_684},
		"refiner": {"Stable Diffusion XL refiner", 0, 0},
		"vega":    {"Stable Diffusion XL", 0, 0},
		"koala":   {"Stable Diffusion XL", 0, 0},
	} {
		c, err := DetectUNet(header(weightstest.RealUNets()[name].Shapes()))
		if err != nil {
			t.Error(err)
			continue
		}
		g, err := nn.Build(name, c.Model, c.UNet.Build)
		if err != nil {
			t.Error(err)
			continue
		}
		tensors, params := count(g)
		if c.Name != want.family || want.tensors > 0 && (tensors != want.tensors || params != want.params) {
			t.Errorf("%s: %s of %d tensors with %d parameters, want %s of %d with %d",
				name, c.Name, tensors, params, want.family, want.tensors, want.params)
		}
		t.Logf("%s: %d tensors, %d parameters", name, tensors, params)
	}
}

// TestRealOpenCLIP builds the text towers at their real sizes. With their tables
// and projections they have the published 694,659,840 and 354,032,640 parameters.
func TestRealOpenCLIP(t *testing.T) {
	for kind, want := range map[string]struct {
		size   weightstest.OpenCLIP
		params int
	}{
		"clip_g": {weightstest.OpenCLIP{Width: 1280, Layers: 32}, 694_659_840 - (49408+77+1280)*1280},
		"clip_h": {weightstest.OpenCLIP{Width: 1024, Layers: 24}, 354_032_640 - (49408+77+1024)*1024},
	} {
		texts, err := DetectText(header(want.size.Shapes()))
		if err != nil {
			t.Fatal(err)
		}
		g, err := nn.Build(kind, Tower(texts[0].Weights), texts[0].Net.Build)
		if err != nil {
			t.Fatal(err)
		}
		if _, params := count(g); texts[0].Name != kind || params != want.params {
			t.Errorf("%s with %d parameters, want %s with %d", texts[0].Name, params, kind, want.params)
		}
		if src, ok := texts[0].Weights.Lookup("text_projection.weight"); !ok || src.Make == nil {
			t.Errorf("%s: no transposed projection", kind)
		}
	}
}

// TestShortOpenCLIP reads a file that lacks the last layer, as those of the
// diffusers layout do: the one before the last is the last one then.
func TestShortOpenCLIP(t *testing.T) {
	texts, err := DetectText(header(weightstest.OpenCLIP{Width: 64, Layers: 23}.Shapes()))
	if err != nil {
		t.Fatal(err)
	}
	g, err := nn.Build("clip_h", Tower(texts[0].Weights), texts[0].Net.Build)
	if err != nil {
		t.Fatal(err)
	}
	norms := map[string]bool{} // what the final norm is applied to
	for _, n := range g.ONNX.Nodes {
		if n.Op == "LayerNormalization" && n.Inputs[1] == "text_model.final_layer_norm.weight" {
			norms[n.Inputs[0]] = true
		}
	}
	if len(norms) != 1 {
		t.Errorf("the final norm is applied to %v, want the last layer only", norms)
	}
}

func TestTextEncodersFromTwoFiles(t *testing.T) {
	g := header(weightstest.OpenCLIP{Width: 64, Layers: 32}.Shapes())
	l := header{}
	for name, shape := range list(t, "sd15-tiny-fp16") {
		if rest, ok := strings.CutPrefix(name, "cond_stage_model.transformer."); ok {
			l[rest] = shape
		}
	}
	for _, files := range [][]nn.Weights{{l, g}, {g, l}} {
		texts, err := DetectText(files...)
		if err != nil {
			t.Fatal(err)
		}
		if len(texts) != 2 || texts[0].Name != "clip_l" || texts[1].Name != "clip_g" || texts[0].Net.Stop != -2 {
			t.Errorf("got %v", texts)
		}
		if _, ok := files[texts[0].File].Lookup(tokens); !ok {
			t.Errorf("CLIP-L is said to lie in file %d", texts[0].File)
		}
	}
	for want, files := range map[string][]nn.Weights{
		"same encoder":        {l, l},
		"no supported family": {g, header(weightstest.OpenCLIP{Width: 64, Layers: 24}.Shapes())},
		"a whole checkpoint":  {list(t, "sdxl-tiny-fp16")},
		"T5":                  {header{"encoder.block.0.layer.0.SelfAttention.q.weight": {64, 64}}},
	} {
		if _, err := DetectText(files...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

const tokens = "text_model.embeddings.token_embedding.weight"

// TestDiffusersUNet renames networks to the diffusers layout and expects their
// own names back.
func TestDiffusersUNet(t *testing.T) {
	for name, u := range weightstest.RealUNets() {
		want := u.Shapes()
		c, err := DetectUNet(header(diffusersNames(u, want)))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]tensor.Shape{}
		for _, n := range c.Model.Names() {
			src, _ := c.Model.Lookup(n)
			got[n] = src.Shape
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// diffusersNames renames by position: a level's blocks, then its sampler.
func diffusersNames(u weightstest.UNet, ldm map[string]tensor.Shape) map[string]tensor.Shape {
	var pairs []string
	in, out, last := 1, 0, len(u.Multiples)-1
	for level := range u.Multiples {
		for b := range u.Blocks {
			pairs = append(pairs, fmt.Sprintf("input_blocks.%d.0.", in), fmt.Sprintf("down_blocks.%d.resnets.%d.", level, b))
			pairs = append(pairs, fmt.Sprintf("input_blocks.%d.1.", in), fmt.Sprintf("down_blocks.%d.attentions.%d.", level, b))
			in++
		}
		pairs = append(pairs, fmt.Sprintf("input_blocks.%d.0.op.", in), fmt.Sprintf("down_blocks.%d.downsamplers.0.conv.", level))
		in++
		for b := range u.Blocks + 1 {
			up := fmt.Sprintf("up_blocks.%d.", level)
			pairs = append(pairs, fmt.Sprintf("output_blocks.%d.0.", out), up+fmt.Sprintf("resnets.%d.", b))
			sampler := fmt.Sprintf("output_blocks.%d.1.conv.", out)
			if u.Depths[last-level] > 0 {
				sampler = fmt.Sprintf("output_blocks.%d.2.conv.", out)
			}
			pairs = append(pairs, sampler, up+"upsamplers.0.conv.")
			pairs = append(pairs, fmt.Sprintf("output_blocks.%d.1.", out), up+fmt.Sprintf("attentions.%d.", b))
			out++
		}
	}
	pairs = append(pairs, "middle_block.0.", "mid_block.resnets.0.", "middle_block.1.", "mid_block.attentions.0.", "middle_block.2.", "mid_block.resnets.1.",
		"time_embed.0.", "time_embedding.linear_1.", "time_embed.2.", "time_embedding.linear_2.",
		"label_emb.0.0.", "add_embedding.linear_1.", "label_emb.0.2.", "add_embedding.linear_2.",
		"out.0.", "conv_norm_out.", "out.2.", "conv_out.", "input_blocks.0.0.", "conv_in.",
		"in_layers.0.", "norm1.", "in_layers.2.", "conv1.", "emb_layers.1.", "time_emb_proj.",
		"out_layers.0.", "norm2.", "out_layers.3.", "conv2.", "skip_connection.", "conv_shortcut.")
	return renamedBy(ldm, pairs)
}

// renamedBy replaces, in this order of preference, the odd strings by the even
// ones. Names of attention outputs hold "out.0." and stay.
func renamedBy(in map[string]tensor.Shape, pairs []string) map[string]tensor.Shape {
	r := strings.NewReplacer(append([]string{"to_out.0.", "to_out.0."}, pairs...)...)
	out := map[string]tensor.Shape{}
	for _, n := range slices.Sorted(maps.Keys(in)) {
		out[r.Replace(n)] = in[n]
	}
	return out
}

// TestDiffusersVAE does the same with the autoencoder.
func TestDiffusersVAE(t *testing.T) {
	want := map[string]tensor.Shape{}
	for name, shape := range list(t, "sd15-full-fp16") {
		if rest, ok := strings.CutPrefix(name, vaePrefix); ok {
			want[rest] = shape
		}
	}
	var pairs []string
	for level := range 4 {
		pairs = append(pairs, fmt.Sprintf("decoder.up.%d.upsample.", level), fmt.Sprintf("decoder.up_blocks.%d.upsamplers.0.", 3-level))
		pairs = append(pairs, fmt.Sprintf("decoder.up.%d.", level), fmt.Sprintf("decoder.up_blocks.%d.", 3-level))
		pairs = append(pairs, fmt.Sprintf("encoder.down.%d.downsample.", level), fmt.Sprintf("encoder.down_blocks.%d.downsamplers.0.", level))
		pairs = append(pairs, fmt.Sprintf("encoder.down.%d.", level), fmt.Sprintf("encoder.down_blocks.%d.", level))
	}
	pairs = append(pairs, "block.", "resnets.", "mid.block_1.", "mid_block.resnets.0.", "mid.block_2.", "mid_block.resnets.1.",
		"mid.attn_1.norm.", "mid_block.attentions.0.group_norm.", "mid.attn_1.q.", "mid_block.attentions.0.to_q.",
		"mid.attn_1.k.", "mid_block.attentions.0.to_k.", "mid.attn_1.v.", "mid_block.attentions.0.to_v.",
		"mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0.", "norm_out.", "conv_norm_out.", "nin_shortcut.", "conv_shortcut.")
	diffusers := header(renamedBy(want, pairs))
	for name, shape := range diffusers {
		if strings.Contains(name, ".to_") && len(shape) == 4 {
			diffusers[name] = shape[:2] // linear layers there
		}
	}
	w, err := DetectVAE(diffusers)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), w.Names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for half, build := range map[string]func(nn.Scope){"decoder": VAEDecoder, "encoder": VAEEncoder} {
		part := Decoder(w)
		if half == "encoder" {
			part = Encoder(w)
		}
		if _, err := nn.Build(half, part, build); err != nil {
			t.Error(err)
		}
	}
}
