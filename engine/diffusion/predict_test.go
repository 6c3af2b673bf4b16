package diffusion

import (
	"context"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// predict returns the denoised prediction alone.
func (m *Model) predict(ctx context.Context, x *tensor.Tensor, inputs map[string]*tensor.Tensor, sigma float32) (*tensor.Tensor, error) {
	out, err := m.outputs(ctx, evaluation{x: x, inputs: inputs, sigma: sigma})
	return out["out"], err
}
