//go:build webgpu

package archtest

import (
	"syscall"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(0, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Round(time.Millisecond)
}

func TestZZ(t *testing.T) {
	env := orttest.Env(t)
	for _, name := range []string{"wide unet", "sd15-tiny-fp16 vae decoder"} {
		n := Networks(t)[name]
		g, err := nn.Target{Provider: nn.WebGPU, PlainAttention: true}.Build("network", n.Weights, n.Build)
		must(t, err)
		s, err := env.NewSession(n.Model(t, g), ort.Options{Name: "network", Device: ort.Device{Provider: "webgpu"}, Placement: true})
		must(t, err)
		in := Inputs(g)
		c0 := cpu()
		_, err = s.Run(t.Context(), in)
		must(t, err)
		c1 := cpu()
		for range 3 {
			_, err = s.Run(t.Context(), in)
		}
		c2 := cpu()
		t.Log(name, c1-c0, (c2-c1)/3)
		s.Close()
	}
}
