package arch

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// network is an architecture over the weights of a file.
type network struct {
	weights nn.Weights
	build   func(nn.Scope)
}

// networks returns every architecture over small files, and some over files of
// real sizes, by name. derived has weights that are converted in any case.
func networks(t testing.TB) map[string]network {
	all := map[string]network{}
	for _, name := range []string{"sd15-tiny-fp16", "sd21-tiny-fp16", "sdxl-tiny-fp16", "sdxl-refiner-tiny-fp16", "sd15-inpaint-tiny-fp16", "sd15-full-fp16"} {
		addCheckpoint(t, all, name)
	}
	sdxl, err := DetectUNet(header(weightstest.RealUNets()["sdxl"].Shapes()))
	if err != nil {
		t.Fatal(err)
	}
	all["sdxl-full unet"] = network{sdxl.Model, sdxl.UNet.Build}
	addVariants(t, all)
	addSteering(t, all)
	addPictures(t, all)
	return all
}

// addCheckpoint adds the parts of a checkpoint.
func addCheckpoint(t testing.TB, all map[string]network, name string) {
	c, err := Detect(shapesOf(t, name))
	if err != nil {
		t.Fatal(err)
	}
	all[name+" unet"] = network{c.Model, c.UNet.Build}
	all[name+" vae decoder"] = network{Decoder(c.VAE), VAEDecoder}
	all[name+" vae encoder"] = network{Encoder(c.VAE), VAEEncoder}
	for _, text := range c.Text {
		all[name+" "+text.Name] = network{Tower(text.Weights), text.Net.Build}
	}
}

// shapesOf is a list of tensors that are converted in any case, as half
// precision is on the CPU.
func shapesOf(t testing.TB, name string) derived {
	shapes, err := weightstest.Shapes(name)
	if err != nil {
		t.Fatal(err)
	}
	return derived{shapes}
}

// derived is a file whose weights are converted in any case.
type derived struct{ header }

func (d derived) Lookup(name string) (nn.Source, bool) {
	src, ok := d.header.Lookup(name)
	src.Derive = !strings.Contains(name, "output_blocks") // some are, some are not
	return src, ok
}

// addVariants adds the UNet with each patch, and steered.
func addVariants(t testing.TB, all map[string]network) {
	c, err := Detect(shapesOf(t, "sd15-tiny-fp16"))
	if err != nil {
		t.Fatal(err)
	}
	patches := []Patch{FreeU{}, FreeU{Normalised: true}, IdentityAttention{}, RecordAttention{}}
	for _, r := range []nn.Resampling{nn.ByArea, nn.ByCubic, nn.ByLinear, nn.ByNearest} {
		patches = append(patches, Downscale{Block: 3, Factor: 2, Down: r, Up: r}, Downscale{Block: 2, Factor: 1.5, AfterSkip: true, Down: r, Up: r})
	}
	for _, p := range patches {
		u := c.UNet
		u.Patches = []Patch{p}
		all["unet "+p.Variant()] = network{c.Model, u.Build}
		u.Steered = true
		all["steered unet "+p.Variant()] = network{c.Model, u.Build}
	}
}

// addSteering adds ControlNets and adapters.
func addSteering(t testing.TB, all map[string]network) {
	for name, h := range map[string]nn.Weights{
		"controlnet": shapesOf(t, "controlnet-sd15-tiny-fp16"), "controlnet union": unionControlNet(shapesOf(t, "controlnet-sd15-tiny-fp16").header),
	} {
		c, err := DetectControlNet(h)
		if err != nil {
			t.Fatal(err)
		}
		c.Task = c.Tasks - 1
		all[name] = network{c.Net, c.Build}
		all[name+" hint"] = network{c.Hint, c.BuildHint}
	}
	for name, h := range map[string]header{"adapter": fullAdapter(), "light adapter": lightAdapter()} {
		a, err := DetectAdapter(h)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = network{a.Weights, a.Build}
	}
}

// unionControlNet adds to a ControlNet what a union of two has.
func unionControlNet(h header) header {
	h = maps.Clone(h)
	prefix := ""
	if _, ok := h["control_model.input_hint_block.0.weight"]; ok {
		prefix = "control_model."
	}
	linear := func(name string, out, in int) {
		h[prefix+name+".weight"], h[prefix+name+".bias"] = tensor.Shape{out, in}, tensor.Shape{out}
	}
	width, emb := h[prefix+"input_blocks.0.0.weight"][0], h[prefix+"time_embed.0.weight"][0]
	h[prefix+"task_embedding"] = tensor.Shape{2, width}
	linear("control_add_embedding.linear_1", emb, 2*NumberWidth)
	linear("control_add_embedding.linear_2", emb, emb)
	linear("spatial_ch_projs", width, width)
	layer := "transformer_layes.0."
	linear(layer+"attn.in_proj", 3*width, width)
	linear(layer+"attn.out_proj", width, width)
	linear(layer+"mlp.c_fc", 4*width, width)
	linear(layer+"mlp.c_proj", width, 4*width)
	for _, norm := range []string{"ln_1", "ln_2"} {
		h[prefix+layer+norm+".weight"], h[prefix+layer+norm+".bias"] = tensor.Shape{width}, tensor.Shape{width}
	}
	return h
}

// fullAdapter is a small T2I-Adapter.
func fullAdapter() header {
	h := header{}
	h.conv("conv_in", 32, 192, 3)
	in := 32
	for i, width := range []int{32, 32, 64, 64, 128, 128, 128, 128} {
		p := fmt.Sprintf("body.%d.", i)
		if in != width {
			h.conv(p+"in_conv", width, in, 1)
		}
		h.conv(p+"block1", width, width, 3)
		h.conv(p+"block2", width, width, 1)
		in = width
	}
	return h
}

// lightAdapter is a small one of the light kind.
func lightAdapter() header {
	h := header{}
	in := 64
	for i, width := range []int{32, 64, 128, 128} {
		p := fmt.Sprintf("body.%d.", i)
		h.conv(p+"in_conv", 16, in, 1)
		for j := range 2 {
			h.conv(fmt.Sprintf("%sbody.%d.block1", p, j), 16, 16, 3)
			h.conv(fmt.Sprintf("%sbody.%d.block2", p, j), 16, 16, 3)
		}
		h.conv(p+"out_conv", width, 16, 1)
		in = width
	}
	return h
}

// addPictures adds upscalers and tiny autoencoders.
func addPictures(t testing.TB, all map[string]network) {
	for name, h := range map[string]nn.Weights{
		"esrgan x4": shapesOf(t, "esrgan-x4-tiny"), "esrgan x2": shapesOf(t, "esrgan-x2-old-tiny"), "compact": compactNet(),
	} {
		u, err := DetectUpscaler(h)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = network{u.Weights, u.Build}
	}
	tiny := TAESD{Scale: 0.18215, Shift: 0.1}
	all["taesd decoder"] = network{tinyDecoder(), tiny.BuildDecoder}
	all["taesd encoder"] = network{tinyEncoder(), tiny.BuildEncoder}
}

// compactNet is a small upscaler of the Compact kind.
func compactNet() header {
	h := header{}
	h.conv("body.0", 16, 3, 3)
	h["body.1.weight"] = tensor.Shape{16}
	h.conv("body.2", 16, 16, 3)
	h["body.3.weight"] = tensor.Shape{1}
	h.conv("body.4", 12, 16, 3)
	return h
}

// tinyDecoder and tinyEncoder are the halves of TAESD at a quarter of its width.
func tinyDecoder() header {
	h := header{}
	h.conv("1", 16, 4, 3)
	for i := 3; i < 19; i++ {
		switch {
		case i == 6 || i == 11 || i == 16: // upsampling, with which the layer behind belongs
			h[fmt.Sprintf("%d.weight", i+1)] = tensor.Shape{16, 16, 3, 3}
		case i == 7 || i == 12 || i == 17:
		case i == 18:
			h.tinyBlock("18")
		default:
			h.tinyBlock(fmt.Sprint(i))
		}
	}
	h.conv("19", 3, 16, 3)
	return h
}

func tinyEncoder() header {
	h := header{}
	h.conv("0", 16, 3, 3)
	h.tinyBlock("1")
	for _, i := range []int{2, 6, 10} {
		h[fmt.Sprintf("%d.weight", i)] = tensor.Shape{16, 16, 3, 3}
		for j := 1; j <= 3; j++ {
			h.tinyBlock(fmt.Sprint(i + j))
		}
	}
	h.conv("14", 4, 16, 3)
	return h
}

func (h header) tinyBlock(p string) {
	for _, i := range []int{0, 2, 4} {
		h.conv(fmt.Sprintf("%s.conv.%d", p, i), 16, 16, 3)
	}
}
