package diffusion

import (
	"context"
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Tiles says how a large picture is worked on in parts: squares of Size with
// Overlap between neighbours, both in pixels of the picture.
type Tiles struct{ Size, Overlap int }

// decodeTiles and encodeTiles are used where memory does not suffice for the
// whole: ComfyUI takes the same ones.
func decodeTiles() Tiles { return Tiles{Size: 512, Overlap: 128} }

func encodeTiles() Tiles { return Tiles{Size: 512, Overlap: 64} }

// divides reports whether the tiles divide x, units of unit pixels each, at
// all: what is not larger than a tile of every layout stays whole.
func (v *VAE) divides(x *tensor.Tensor, t Tiles, unit int) bool {
	for _, l := range t.layouts(unit) {
		if x.Dim(2) > l.height || x.Dim(3) > l.width {
			return true
		}
	}
	return false
}

// DecodeTiled decodes in tiles, which bounds memory. Three layouts of tiles,
// tall, wide and square, are averaged so that seams do not show.
func (v *VAE) DecodeTiled(ctx context.Context, samples *tensor.Tensor, t Tiles) (Image, error) {
	if len(samples.Shape) != 4 || samples.Dim(1) != v.channels {
		return Image{}, fmt.Errorf("decode latent: shape %v, the VAE wants %d channels", samples.Shape, v.channels)
	}
	// An overlap of more than a quarter leaves too little of a tile.
	if t.Size < 4*t.Overlap {
		t.Overlap = t.Size / 4
	}
	layouts := t.layouts(v.scale)
	for i := range layouts {
		layouts[i].scale = float64(v.scale)
	}
	y, err := averaged(samples, layouts, func(tile *tensor.Tensor) (*tensor.Tensor, error) { return v.decode(ctx, tile) })
	if err != nil {
		return Image{}, err
	}
	return picture(y)
}

// EncodeTiled encodes in tiles; see Encode and DecodeTiled.
func (v *VAE) EncodeTiled(ctx context.Context, im Image, t Tiles) (*tensor.Tensor, error) {
	if err := v.checkEncode(im); err != nil {
		return nil, err
	}
	layouts := t.layouts(1)
	for i := range layouts {
		layouts[i].scale = 1 / float64(v.scale)
	}
	var crops []*tensor.Tensor
	for i := range im.Dim(0) {
		crops = append(crops, v.encoderInput(im.Index(i)))
	}
	x, err := tensor.Stack(crops...)
	if err != nil {
		return nil, err
	}
	return averaged(x, layouts, func(tile *tensor.Tensor) (*tensor.Tensor, error) { return v.encode(ctx, tile) })
}

// layout is one way to cut a picture, in units of its input.
type layout struct {
	width, height, overlap int
	scale                  float64 // output pixels per input pixel
}

// layouts returns the tall, wide and square tiles; unit is the number of
// pixels of the picture that one unit of the input stands for.
func (t Tiles) layouts(unit int) []layout {
	size, overlap := t.Size/unit, t.Overlap/unit
	return []layout{
		{width: size / 2, height: size * 2, overlap: overlap},
		{width: size * 2, height: size / 2, overlap: overlap},
		{width: size, height: size, overlap: overlap},
	}
}

// averaged runs every layout over x and returns the mean of the results.
func averaged(x *tensor.Tensor, layouts []layout, run func(*tensor.Tensor) (*tensor.Tensor, error)) (*tensor.Tensor, error) {
	var items []*tensor.Tensor
	for i := range x.Dim(0) {
		var sum *tensor.Tensor
		for _, l := range layouts {
			y, err := l.cover(x.Index(i), run)
			if err != nil {
				return nil, err
			}
			if sum == nil {
				sum = tensor.New(y.Shape...)
			}
			for i, v := range y.Data {
				sum.Data[i] += v
			}
		}
		for i, v := range sum.Data {
			sum.Data[i] = v / float32(len(layouts))
		}
		items = append(items, sum)
	}
	return tensor.Stack(items...)
}

// cover runs tile by tile over x, [1, channel, height, width], and blends the
// results where they overlap.
func (l layout) cover(x *tensor.Tensor, run func(*tensor.Tensor) (*tensor.Tensor, error)) (*tensor.Tensor, error) {
	h, w := x.Dim(2), x.Dim(3)
	if h <= l.height && w <= l.width {
		return run(x)
	}
	var sum, weights *tensor.Tensor
	for _, y := range starts(h, l.height, l.overlap) {
		for _, xx := range starts(w, l.width, l.overlap) {
			area := rect{y: y, x: xx, height: min(l.height, h-y), width: min(l.width, w-xx)}
			tile, err := run(area.crop(x))
			if err != nil {
				return nil, err
			}
			if sum == nil {
				sum = tensor.New(1, tile.Dim(1), l.scaled(h), l.scaled(w))
				weights = tensor.New(sum.Shape...)
			}
			r := region{area: rect{y: l.scaled(y), x: l.scaled(xx), height: tile.Dim(2), width: tile.Dim(3)}}
			r.area = r.area.clip(sum.Dim(2), sum.Dim(3))
			rows, cols := l.fade(tile.Dim(2)), l.fade(tile.Dim(3))
			blendTile(sum, weights, tile, r.area, rows, cols)
		}
	}
	for i, n := range weights.Data {
		sum.Data[i] /= n
	}
	return sum, nil
}

func (l layout) scaled(v int) int { return int(math.RoundToEven(float64(v) * l.scale)) }

// starts returns where tiles begin along a side.
func starts(size, tile, overlap int) []int {
	if size <= tile {
		return []int{0}
	}
	var out []int
	for p := 0; p < size-overlap; p += max(1, tile-overlap) {
		out = append(out, max(0, min(size-overlap, p)))
	}
	return out
}

// fade returns the weights of a tile's rows or columns: they rise over the
// overlap from both ends.
func (l layout) fade(size int) []float32 {
	weights := ones(size)
	n := l.scaled(l.overlap)
	if n >= size {
		return weights
	}
	for k := range n {
		f := float32(k+1) / float32(n)
		weights[k] *= f
		weights[size-1-k] *= f
	}
	return weights
}

// blendTile adds a weighted tile to sum, and the weights to their sum.
func blendTile(sum, weights, tile *tensor.Tensor, at rect, rows, cols []float32) {
	h, w := sum.Dim(2), sum.Dim(3)
	for c := range sum.Dim(1) {
		for y := range at.height {
			src := tile.Data[(c*tile.Dim(2)+y)*tile.Dim(3):]
			to := (c*h+at.y+y)*w + at.x
			for x := range at.width {
				f := rows[y] * cols[x]
				sum.Data[to+x] += src[x] * f
				weights.Data[to+x] += f
			}
		}
	}
}
