package diffusion

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// pixelsPerLatent is the number of pixels on each side that a latent pixel of
// the Stable Diffusion families spans.
const pixelsPerLatent = 8

// featureKey names what a control makes of its picture for a size.
type featureKey struct {
	control       *Control
	height, width int
}

// lookAt returns what a control makes of its picture, fitted to the latent of
// e: made once for a run and size.
func (g *guidance) lookAt(ctx context.Context, c *Control, e evaluation) (residuals, error) {
	key := featureKey{c, e.x.Dim(2), e.x.Dim(3)}
	made, ok := g.features[key]
	if !ok {
		x, err := c.Net.fitHint(c.Hint, key)
		if err != nil {
			return nil, err
		}
		if made, err = c.Net.run(ctx, x, key); err != nil {
			return nil, err
		}
		if g.features == nil {
			g.features = map[featureKey]residuals{}
		}
		g.features[key] = made
	}
	out := residuals{}
	for name, t := range made {
		out[name] = t
	}
	return out, nil
}

// fitHint brings pictures to the size that the network wants for a latent:
// [batch, channel, height, width].
func (c *ControlNet) fitHint(im Image, k featureKey) (*tensor.Tensor, error) {
	x, err := im.ChannelsFirst()
	if err != nil {
		return nil, err
	}
	channels, unit := 3, pixelsPerLatent
	if c.adapter != nil {
		channels, unit = c.adapter.Channels, c.adapter.Shuffle
	}
	if x.Dim(1) < channels {
		return nil, fmt.Errorf("fit picture: it has %d channels, %s wants %d", x.Dim(1), c.File(), channels)
	}
	roundUp := func(latent int) int { return (latent*pixelsPerLatent + unit - 1) / unit * unit }
	h, w := roundUp(k.height), roundUp(k.width)
	if x, err = tensor.CenterCrop(x, w, h); err != nil {
		return nil, err
	}
	if x, err = tensor.Resize(x, w, h, tensor.NearestExact); err != nil {
		return nil, err
	}
	if channels == 1 {
		return channelMean(x), nil
	}
	return tensor.Narrow(x, 1, 0, channels)
}

// channelMean returns the mean over the channels: [batch, 1, height, width].
func channelMean(x *tensor.Tensor) *tensor.Tensor {
	out := tensor.New(x.Dim(0), 1, x.Dim(2), x.Dim(3))
	n, plane := x.Dim(1), x.Dim(2)*x.Dim(3)
	for i := range out.Data {
		var sum float32
		for c := range n {
			sum += x.Data[(i/plane*n+c)*plane+i%plane]
		}
		out.Data[i] = sum / float32(n)
	}
	return out
}

// run looks at pictures of the right size.
func (c *ControlNet) run(ctx context.Context, x *tensor.Tensor, k featureKey) (residuals, error) {
	if c.adapter == nil {
		return c.runtime.pool.run(ctx, c.hint, map[string]*tensor.Tensor{"image": x})
	}
	out, err := c.runtime.pool.run(ctx, c.hint, map[string]*tensor.Tensor{"x": unshuffled(x, c.adapter.Shuffle)})
	if err != nil {
		return nil, err
	}
	// Where a side of the latent halves to an odd size, the adapter rounds down
	// and the UNet up; such features have no place.
	for name, t := range out {
		n := c.adapter.Halvings(name)
		if t.Dim(2) != halvedUp(k.height, n) || t.Dim(3) != halvedUp(k.width, n) {
			delete(out, name)
		}
	}
	return out, nil
}

// halvedUp halves a size n times, rounding up.
func halvedUp(size, n int) int { return (size + 1<<n - 1) >> n }
