package arch

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// conv adds a convolution to a header.
func (h header) conv(name string, out, in, kernel int) {
	h[name+".weight"], h[name+".bias"] = tensor.Shape{out, in, kernel, kernel}, tensor.Shape{out}
}

// parameters builds a graph and returns how many tensors and numbers it wants.
func parameters(t *testing.T, w nn.Weights, build func(nn.Scope)) (tensors, params int) {
	t.Helper()
	g, err := nn.Build("network", w, build)
	if err != nil {
		t.Fatal(err)
	}
	return count(g)
}

// realControlNet is the ControlNet of Stable Diffusion 1.5 at its real size.
// https://huggingface.co/lllyasviel/sd-controlnet-canny/blob/main/config.json
func realControlNet(t *testing.T) header {
	h := header{}
	for name, shape := range list(t, "sd15-full-fp16") {
		rest, ok := strings.CutPrefix(name, "model.diffusion_model.")
		if ok && !strings.HasPrefix(rest, "out") {
			h["control_model."+rest] = shape
		}
	}
	for i, width := range []int{320, 320, 320, 320, 640, 640, 640, 1280, 1280, 1280, 1280, 1280} {
		h.conv(fmt.Sprintf("control_model.zero_convs.%d.0", i), width, width, 1)
	}
	h.conv("control_model.middle_block_out.0", 1280, 1280, 1)
	hint := []int{3, 16, 16, 32, 32, 96, 96, 256, 320}
	for i := range 8 {
		h.conv(fmt.Sprintf("control_model.input_hint_block.%d", 2*i), hint[i+1], hint[i], 3)
	}
	return h
}

// TestRealControlNet counts the published 361,279,120 parameters.
func TestRealControlNet(t *testing.T) {
	c, err := DetectControlNet(realControlNet(t))
	if err != nil {
		t.Fatal(err)
	}
	tensors, params := parameters(t, c.Net, c.Build)
	more, hint := parameters(t, c.Hint, c.BuildHint)
	if tensors+more != 340 || params+hint != 361_279_120 {
		t.Errorf("%d tensors with %d parameters, want 340 with 361279120", tensors+more, params+hint)
	}
	if c.Tasks != 0 || c.Difference || c.UNet.Heads != 8 {
		t.Errorf("recognised as %+v", c)
	}
}

// TestControlNetHeads expects the rules for attention of the UNet that a
// ControlNet is made of.
func TestControlNetHeads(t *testing.T) {
	for name, want := range map[string]UNet{"sd21": sd2().UNet, "sdxl": sdxl().UNet} {
		h := header{}
		for n, shape := range weightstest.RealUNets()[name].Shapes() {
			if !strings.HasPrefix(n, "out") {
				h[n] = shape
			}
		}
		h.conv("zero_convs.0.0", 320, 320, 1)
		h.conv("input_hint_block.0", 16, 3, 3)
		c, err := DetectControlNet(h)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, c.UNet); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestRealUpscalers counts ESRGAN's published 16.70 million parameters.
func TestRealUpscalers(t *testing.T) {
	h := header{}
	h.conv("conv_first", 64, 3, 3)
	for b := range 23 {
		for j := 1; j <= 3; j++ {
			for c := 1; c <= 5; c++ {
				out := 32
				if c == 5 {
					out = 64
				}
				h.conv(fmt.Sprintf("body.%d.rdb%d.conv%d", b, j, c), out, 64+32*(c-1), 3)
			}
		}
	}
	for _, name := range []string{"conv_body", "conv_up1", "conv_up2", "conv_hr"} {
		h.conv(name, 64, 64, 3)
	}
	h.conv("conv_last", 3, 64, 3)
	u, err := DetectUpscaler(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, params := parameters(t, u.Weights, u.Build); params != 16_697_987 || u.Scale != 4 || u.Channels != 3 || u.Shuffle != 1 {
		t.Errorf("%d parameters, x%d, want 16697987, x4", params, u.Scale)
	}
}

// TestRealAdapter counts the T2I-Adapter's published 77 million parameters.
func TestRealAdapter(t *testing.T) {
	h := header{}
	h.conv("conv_in", 320, 192, 3)
	in := 320
	for i, width := range []int{320, 320, 640, 640, 1280, 1280, 1280, 1280} {
		p := fmt.Sprintf("body.%d.", i)
		if in != width {
			h.conv(p+"in_conv", width, in, 1)
		}
		h.conv(p+"block1", width, width, 3)
		h.conv(p+"block2", width, width, 1)
		in = width
	}
	a, err := DetectAdapter(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, params := parameters(t, a.Weights, a.Build); params/1_000_000 != 77 || a.Channels != 3 || a.Shuffle != 8 {
		t.Errorf("%d parameters, blocks of %d pixels, %d channels", params, a.Shuffle, a.Channels)
	}
}

func TestForeignFilesAreNamed(t *testing.T) {
	lora := header{"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": {320, 4}}
	swin := header{"layers.0.residual_group.blocks.0.norm1.weight": {180}}
	odd := header{}
	odd.conv("conv_in", 320, 100, 3)
	odd.conv("body.0.block1", 320, 320, 3)
	_, errControl := DetectControlNet(lora)
	_, errLight := DetectControlNet(header{"lora_controlnet": {1}})
	_, errUpscaler := DetectUpscaler(swin)
	_, errAdapter := DetectAdapter(odd)
	for want, err := range map[string]error{
		"a LoRA": errControl, "Control-LoRA": errLight, "SwinIR": errUpscaler, "channels (64, 192, 256 or 768)": errAdapter,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something of %q", err, want)
		}
	}
	if unsupported := (*UnsupportedError)(nil); !errors.As(errUpscaler, &unsupported) {
		t.Errorf("%T is no *UnsupportedError", errUpscaler)
	}
}
