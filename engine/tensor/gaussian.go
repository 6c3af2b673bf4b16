package tensor

import (
	"fmt"
	"math"
)

// Gaussian is a blur over a square of 2·Radius+1 pixels. Sigma is the standard
// deviation in units of the radius, so that the weight of a pixel x, y away
// from the middle is exp(-(x²+y²)/(2·(Sigma·Radius)²)); the weights are divided
// by their sum. This is the kernel of ComfyUI's picture filters, in which the
// square reaches from -1 to 1.
type Gaussian struct {
	Radius int
	Sigma  float64
}

// Blur returns t, [batch, channel, height, width], blurred. Beyond the edges
// the picture is reflected, which needs sides longer than the radius. The
// kernel is a product of two one-dimensional ones, which is how it is applied;
// sums are made in float64.
func (g Gaussian) Blur(t *Tensor) (*Tensor, error) {
	if len(t.Shape) != 4 {
		return nil, fmt.Errorf("blur tensor: shape %v has not 4 dimensions", t.Shape)
	}
	if g.Radius < 1 || g.Radius >= t.Shape[2] || g.Radius >= t.Shape[3] {
		return nil, fmt.Errorf("blur tensor: radius %d is not between 1 and the shorter side of %dx%d", g.Radius, t.Shape[3], t.Shape[2])
	}
	weights := g.weights()
	out := New(t.Shape...)
	area := t.Shape[2] * t.Shape[3]
	for p := range t.Shape[0] * t.Shape[1] {
		convolveReflected(plane{out.Data[p*area : (p+1)*area], t.Shape[3]}, plane{t.Data[p*area : (p+1)*area], t.Shape[3]}, weights)
	}
	return out, nil
}

// Sharpen returns t with its difference from the blurred t added 10·alpha
// times.
func (g Gaussian) Sharpen(t *Tensor, alpha float64) (*Tensor, error) {
	out, err := g.Blur(t)
	if err != nil {
		return nil, err
	}
	for i, v := range out.Data {
		x := float64(t.Data[i])
		out.Data[i] = float32(x + 10*alpha*(x-float64(v)))
	}
	return out, nil
}

// weights is one row of the kernel, with sum 1.
func (g Gaussian) weights() []float64 {
	w := make([]float64, 2*g.Radius+1)
	sum := 0.0
	for i := range w {
		x := float64(i-g.Radius) / float64(g.Radius)
		w[i] = math.Exp(-x * x / (2 * g.Sigma * g.Sigma))
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}

// plane is one channel of a picture, row by row.
type plane struct {
	data  []float32
	width int
}

// convolveReflected applies a symmetric kernel along both axes of src.
func convolveReflected(dst, src plane, weights []float64) {
	w, h, r := src.width, len(src.data)/src.width, len(weights)/2
	rows := make([]float64, len(src.data))
	for i := range rows {
		x, row := i%w, src.data[i-i%w:]
		for k, f := range weights {
			rows[i] += f * float64(row[reflected(x+k-r, w)])
		}
	}
	sums := make([]float64, w)
	for y := range h {
		clear(sums)
		for k, f := range weights {
			for x, v := range rows[reflected(y+k-r, h)*w:][:w] {
				sums[x] += f * v
			}
		}
		for x, v := range sums {
			dst.data[y*w+x] = float32(v)
		}
	}
}

// reflected mirrors a position at the first and the last of n, which are not
// repeated.
func reflected(i, n int) int {
	switch {
	case i < 0:
		return -i
	case i >= n:
		return 2*(n-1) - i
	}
	return i
}
