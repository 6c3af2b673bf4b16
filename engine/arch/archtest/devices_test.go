package archtest

import (
	"errors"
	"regexp"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

// TestDeviceGraphs runs the graphs for devices on the CPU, operators that it
// lacks replaced by others, and compares the results with those of the graphs
// for the CPU.
func TestDeviceGraphs(t *testing.T) {
	env := orttest.Env(t)
	names := []string{
		"adapter", "compact", "controlnet union", "controlnet union hint", "esrgan x4", "sd15-tiny-fp16 clip_l", "sd15-tiny-fp16 vae decoder",
		"sd21-tiny-fp16 clip_h", "taesd decoder", "taesd encoder", "unet freeu true", "wide unet",
	}
	forEach(t, names, func(t *testing.T, n Network) {
		want := n.run(t, env, nn.Target{}, ort.Device{})
		for _, c := range []struct {
			target nn.Target
			limit  float64
		}{
			{nn.Target{Provider: nn.CUDA}, 1e-4},
			{nn.Target{Provider: nn.CUDA, Precision: nn.Float16}, 0.05},
			{nn.Target{Provider: nn.WebGPU, Precision: nn.Float16}, 0.05},
		} {
			t.Log(c.target, compare(t, want, n.run(t, env, c.target, ort.Device{}, emulate), c.limit))
		}
	})
}

// TestCUDASchemas has ONNX Runtime check the graphs for CUDA, operators that only
// CUDA has included: it finds nothing wrong with them but that the CPU has no
// such operators.
func TestCUDASchemas(t *testing.T) {
	env := orttest.Env(t)
	lacking := regexp.MustCompile(`(Could not find an implementation|Failed to find kernel) for (com.microsoft.)?(GroupNorm|SkipGroupNorm|BiasSplitGelu|BiasAdd)\(1\)`)
	n := Networks(t)["wide unet"]
	for _, precision := range []nn.Precision{nn.Float32, nn.Float16} {
		g, err := nn.Target{Provider: nn.CUDA, Precision: precision}.Build("wide", n.Weights, n.Build)
		must(t, err)
		s, err := env.NewSession(n.Model(t, g), ort.Options{Name: "wide"})
		if err == nil {
			s.Close()
		}
		var e *ort.Error
		if !errors.As(err, &e) || !lacking.MatchString(err.Error()) {
			t.Errorf("%s: got %v, want only operators to be lacking", precision, err)
		}
	}
}
