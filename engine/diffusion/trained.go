package diffusion

import (
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// trainedAs finds out which noise schedule the model was trained on and what it
// predicts.
func (m *Model) trainedAs(f *weights.File, c *arch.Checkpoint) error {
	m.schedule = sampling.NewDiscrete(sampling.EPS, false)
	switch c.Predicts {
	case arch.BySpread:
		return m.bySpread(f, c)
	case arch.ByKey:
		return m.byKey(f)
	}
	return nil
}

// bySpread applies the rule of Stable Diffusion 2. Its inpainting network
// predicts noise in any case.
func (m *Model) bySpread(f *weights.File, c *arch.Checkpoint) error {
	src, ok := c.Model.Lookup(arch.SpreadBias)
	if !ok || m.inpaints {
		return nil
	}
	bias, err := f.Read(src.From[0])
	if err != nil {
		return err
	}
	if spread(bias) > arch.SpreadLimit {
		m.schedule = sampling.NewDiscrete(sampling.VPrediction, false)
	}
	return nil
}

// spread returns the standard deviation of all elements.
func spread(t *tensor.Tensor) float64 {
	var sum, squares float64
	for _, v := range t.Data {
		sum += float64(v)
	}
	mean := sum / float64(len(t.Data))
	for _, v := range t.Data {
		squares += (float64(v) - mean) * (float64(v) - mean)
	}
	return math.Sqrt(squares / float64(len(t.Data)))
}

// Markers are tensors whose presence says how a network of the Stable Diffusion
// XL family was trained.
const (
	markVelocity = "v_pred"              // velocity
	markTerminal = "ztsnr"               // with it: zero terminal signal-to-noise ratio
	markMean     = "edm_mean"            // EDM and Playground's latents
	markStd      = "edm_std"             //
	markSigmaMax = "edm_vpred.sigma_max" // velocity over continuous noise levels, as in CosXL
	markSigmaMin = "edm_vpred.sigma_min"
)

// byKey looks for the markers.
func (m *Model) byKey(f *weights.File) error {
	has := func(name string) bool { _, ok := f.Tensor(name); return ok }
	switch {
	case has(markMean) && has(markStd):
		// https://huggingface.co/playgroundai/playground-v2.5-1024px-aesthetic/blob/main/scheduler/scheduler_config.json
		m.schedule = sampling.NewContinuousEDM(sampling.EDM, 0.002, 80, 0.5)
		m.format = playground25()
	case has(markSigmaMax):
		m.editsScaled = true
		return m.continuousVelocity(f)
	case has(markVelocity):
		m.schedule = sampling.NewDiscrete(sampling.VPrediction, has(markTerminal))
	}
	return nil
}

// continuousVelocity reads the noise levels of CosXL from the markers.
func (m *Model) continuousVelocity(f *weights.File) error {
	levels := map[string]float64{markSigmaMin: 0.002, markSigmaMax: 120}
	for name := range levels {
		if _, ok := f.Tensor(name); !ok {
			continue
		}
		t, err := f.Read(name)
		if err != nil {
			return err
		}
		if len(t.Data) != 1 || !(t.Data[0] > 0) {
			return fmt.Errorf("%s is not one noise level", name)
		}
		levels[name] = float64(t.Data[0])
	}
	m.schedule = sampling.NewContinuousEDM(sampling.VPrediction, levels[markSigmaMin], levels[markSigmaMax], 1)
	return nil
}
