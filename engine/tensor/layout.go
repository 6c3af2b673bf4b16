package tensor

import "fmt"

// ChannelsFirst turns [batch, height, width, channel] into [batch, channel,
// height, width], the layout that Resize and the networks take.
func (t *Tensor) ChannelsFirst() (*Tensor, error) {
	if len(t.Shape) != 4 {
		return nil, fmt.Errorf("move channels first: shape %v has not 4 dimensions", t.Shape)
	}
	b, area, c := t.Shape[0], t.Shape[1]*t.Shape[2], t.Shape[3]
	out := New(b, c, t.Shape[1], t.Shape[2])
	transpose(out.Data, t.Data, area, c)
	return out, nil
}

// ChannelsLast turns [batch, channel, height, width] into [batch, height,
// width, channel], the layout of images.
func (t *Tensor) ChannelsLast() (*Tensor, error) {
	if len(t.Shape) != 4 {
		return nil, fmt.Errorf("move channels last: shape %v has not 4 dimensions", t.Shape)
	}
	b, c, area := t.Shape[0], t.Shape[1], t.Shape[2]*t.Shape[3]
	out := New(b, t.Shape[2], t.Shape[3], c)
	transpose(out.Data, t.Data, c, area)
	return out, nil
}

// transpose turns each [rows, cols] block of src into [cols, rows].
func transpose(dst, src []float32, rows, cols int) {
	for n := rows * cols; n > 0 && len(src) >= n; src, dst = src[n:], dst[n:] {
		for r := range rows {
			for c, v := range src[r*cols : (r+1)*cols] {
				dst[c*rows+r] = v
			}
		}
	}
}
