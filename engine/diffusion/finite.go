package diffusion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// OverflowError says that a network in half precision gave something that is no
// number: an intermediate result was beyond 65504, the largest half.
type OverflowError struct {
	Network string // "unet", "vae_decoder"
	Output  string // of the network's graph
	// Count of Elements values are NaN or infinite.
	Count, Elements int
}

// Error names the network, its output, and how much of it is no number.
func (e *OverflowError) Error() string {
	return fmt.Sprintf("%s overflowed in fp16: %d of %d values of its output %s are NaN or infinite", e.Network, e.Count, e.Elements, e.Output)
}

func isOverflow(err error) bool {
	var o *OverflowError
	return errors.As(err, &o)
}

// checkFinite returns an OverflowError for the first output, by name, of a
// network in half precision that is not all numbers.
func (c *component) checkFinite(out map[string]*tensor.Tensor) error {
	if c.target.Precision != nn.Float16 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(out)) {
		t := out[name]
		if n := infinite(t.Data); n > 0 {
			return &OverflowError{Network: c.name, Output: name, Count: n, Elements: len(t.Data)}
		}
	}
	return nil
}

// infinite counts NaN and infinities.
func infinite(data []float32) int {
	n := 0
	for _, v := range data {
		if v-v != 0 {
			n++
		}
	}
	return n
}

// runWide is pool.run for networks that have often been found to overflow in
// half precision: one that does is run again in float32, and from then on.
func (r *Runtime) runWide(ctx context.Context, c *component, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	key := c.key()
	r.widening.Lock()
	wide := r.widened[key]
	r.widening.Unlock()
	if wide != nil {
		return r.pool.run(ctx, wide, in)
	}
	out, err := r.pool.run(ctx, c, in)
	if !isOverflow(err) {
		return out, err
	}
	t := c.target
	t.Precision = nn.Float32
	wide, failed := c.on(t)
	if failed != nil {
		return nil, errors.Join(err, failed)
	}
	r.notice("%v; it runs in fp32 from now on", err)
	r.widening.Lock()
	if r.widened == nil {
		r.widened = map[string]*component{}
	}
	r.widened[key] = wide
	r.widening.Unlock()
	return r.pool.run(ctx, wide, in)
}
