package diffusion

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// LoadControlDifference is LoadControlNet for files whose weights may be
// differences from those of a model, to which they are added.
// https://github.com/lllyasviel/ControlNet/blob/main/tool_transfer_control.py
func (r *Runtime) LoadControlDifference(ctx context.Context, path string, m *Model) (*ControlNet, error) {
	f, err := weights.Open(path)
	if err != nil {
		return nil, unpickled(path, err)
	}
	a, err := arch.DetectControlNet(tensorsOf(f))
	if err != nil || !a.Difference {
		return r.LoadControlNet(ctx, path)
	}
	c := &ControlNet{runtime: r, means: takesMeans(path)}
	if err := c.build(f, a, m.unet.target); err != nil {
		return nil, err
	}
	s, err := c.net.differenceFrom(m.unet)
	if err != nil {
		return nil, err
	}
	c.net, err = c.net.with(s)
	return c, err
}

// differenceFrom returns the step that adds another component's weights to
// those of the same names.
func (c *component) differenceFrom(other *component) (step, error) {
	s := step{name: "difference from " + other.state(), digest: other.digest, changes: map[string][]change{}}
	for _, name := range other.weights.Names() {
		src, ok := c.weights.Lookup(name)
		if !ok {
			continue
		}
		have, _ := other.weights.Lookup(name)
		if !have.Shape.Equal(src.Shape) {
			return s, fmt.Errorf("%s: %s is a difference of shape %v, but %v in %s: it was made for another family of models", c.file.Path, name, src.Shape, have.Shape, other.file.Path)
		}
		info, _ := c.file.Tensor(src.From[0])
		s.changes[name] = []change{&difference{other: other, name: name, dtype: info.DType}}
	}
	return s, nil
}

// difference adds the weight of another model, both and the sum in the
// precision of the difference.
type difference struct {
	other *component
	name  string
	dtype tensor.DType
}

func (d *difference) apply(w *tensor.Tensor) (*tensor.Tensor, error) {
	o, err := d.other.weight(d.name)
	if err != nil {
		return nil, err
	}
	if err := roundTo(o.Data, d.dtype); err != nil {
		return nil, err
	}
	for i, v := range o.Data {
		w.Data[i] += v
	}
	return w, roundTo(w.Data, d.dtype)
}

func (d *difference) branch() (*loraChange, bool) { return nil, false }

// roundTo rounds numbers to an element type.
func roundTo(data []float32, d tensor.DType) error {
	if d == tensor.F32 {
		return nil
	}
	raw := make([]byte, len(data)*d.Size())
	if err := tensor.Encode(raw, data, d); err != nil {
		return err
	}
	return tensor.Decode(data, raw, d)
}
