//go:build webgpu

package archtest

import (
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

// sizeOps are operators that may run on the CPU beside a device: they compute
// sizes.
var sizeOps = []string{"Shape", "Slice", "Concat", "Gather", "Range", "Cast", "Add", "Sub", "Mul", "Div", "Round", "And", "Less", "GreaterOrEqual", "Reshape", "Unsqueeze", "Squeeze"}

// TestWebGPUNetworks compares every architecture on WebGPU with the CPU, and
// expects no operators on the CPU but those for sizes.
func TestWebGPUNetworks(t *testing.T) {
	env := orttest.Env(t)
	names := []string{"adapter", "compact", "esrgan x4", "sd15-tiny-fp16 clip_l", "taesd decoder", "taesd encoder", "wide unet"}
	forEach(t, names, func(t *testing.T, n Network) {
		want := n.run(t, env, nn.Target{}, ort.Device{})
		got := n.run(t, env, nn.Target{Provider: nn.WebGPU, PlainAttention: true}, ort.Device{Provider: "webgpu"})
		t.Log(compare(t, want, got, 1e-3), got.cpu)
		for op := range got.cpu {
			if !slices.Contains(sizeOps, op) {
				t.Errorf("%s runs on the CPU", op)
			}
		}
	})
}

// TestWebGPUChannels compares convolutions of few channels. The operator is
// wrong for some numbers of them; when it no longer is, what engine/nn does
// about it can go.
func TestWebGPUChannels(t *testing.T) {
	env := orttest.Env(t)
	for _, c := range []int{3, 4, 6, 8, 9, 12} {
		f := File{}
		f.conv("conv", 32, c, 3)
		n := Network{f, func(p nn.Scope) {
			p.Output("y", nn.Conv(p.In("conv"), p.Input("x", "batch", c, "height", "width"), 32, nn.Same(3)))
		}, f, false}
		device := ort.Device{Provider: "webgpu"}
		want := n.run(t, env, nn.Target{}, ort.Device{})
		compare(t, want, n.run(t, env, nn.Target{Provider: nn.WebGPU}, device), 1e-4)
		plain := n.run(t, env, nn.Target{Provider: nn.CUDA}, device)
		wrong := difference(want.out["y"].Data, plain.out["y"].Data) > 1e-2
		if padded := c > 3 && c%3 == 0 && c%4 != 0; wrong != padded {
			t.Errorf("%d channels: the operator is wrong: %t, channels are added: %t", c, wrong, padded)
		}
	}
}
