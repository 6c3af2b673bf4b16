package diffusion

import "github.com/comfyrun/comfyrun/engine/tensor"

// latentFormat is how a family's networks see latents.
type latentFormat struct {
	name  string
	scale float32
	// mean and deviation are per channel; nil for 0 and 1.
	mean, deviation []float32
}

// playground25 is what Playground 2.5 was trained on.
// https://huggingface.co/playgroundai/playground-v2.5-1024px-aesthetic/blob/main/vae/config.json
func playground25() latentFormat {
	return latentFormat{
		name: "playground 2.5", scale: 0.5,
		mean:      []float32{-1.6574, 1.886, -1.383, 2.5155},
		deviation: []float32{8.4927, 5.9022, 6.5498, 5.2299},
	}
}

// in brings a latent into the network's space.
func (f latentFormat) in(latent *tensor.Tensor) *tensor.Tensor {
	return f.each(latent, func(v, mean, deviation float32) float32 {
		return (v - mean) * f.scale / deviation
	})
}

// out is the inverse of in.
func (f latentFormat) out(x *tensor.Tensor) *tensor.Tensor {
	return f.each(x, func(v, mean, deviation float32) float32 {
		return float32(v*deviation/f.scale) + mean
	})
}

func (f latentFormat) each(t *tensor.Tensor, change func(v, mean, deviation float32) float32) *tensor.Tensor {
	out := tensor.New(t.Shape...)
	plane := t.Shape[2:].Elements()
	for i, v := range t.Data {
		mean, deviation := float32(0), float32(1)
		if f.mean != nil {
			c := i / plane % len(f.mean)
			mean, deviation = f.mean[c], f.deviation[c]
		}
		out.Data[i] = change(v, mean, deviation)
	}
	return out
}

// WithPlaygroundLatents returns the model with the latent space of Playground
// 2.5, whose channels are centred and scaled one by one.
func (m *Model) WithPlaygroundLatents() *Model {
	c := *m
	c.format = playground25()
	return &c
}
