package tensor

import (
	"fmt"
	"math"
	"runtime"
	"sync"
)

// Gaussian is a blur over a square of 2·Radius+1 pixels. Sigma is the standard
// deviation in units of the radius, so that the weight of a pixel x, y away
// from the middle is exp(-(x²+y²)/(2·(Sigma·Radius)²)); the weights are divided
// by their sum. This is the kernel of ComfyUI's picture filters, in which the
// square reaches from -1 to 1.
//
// All arithmetic is in float32, in torch's order: pictures are cut to 8 bits
// afterwards, so the last bit of a flat area decides about a level.
type Gaussian struct {
	Radius int
	Sigma  float64
}

// Blur returns t, [batch, channel, height, width], blurred. Beyond the edges
// the picture is reflected, which needs sides longer than the radius.
func (g Gaussian) Blur(t *Tensor) (*Tensor, error) {
	return g.apply(t, g.kernel())
}

// Sharpen returns t with its difference from the blurred t added 10·alpha
// times.
func (g Gaussian) Sharpen(t *Tensor, alpha float64) (*Tensor, error) {
	k := g.kernel()
	for i := range k {
		k[i] *= float32(-10 * alpha)
	}
	middle := len(k) / 2
	k[middle] = k[middle] - sum(k) + 1
	return g.apply(t, k)
}

// kernel is the square of weights, row by row.
func (g Gaussian) kernel() []float32 {
	n := 2*g.Radius + 1
	k := make([]float32, n*n)
	at := func(i int) float32 { return float32(float64(i-g.Radius) / float64(g.Radius)) }
	for i := range k {
		x, y := at(i%n), at(i/n)
		d := float32(math.Sqrt(float64(float32(x*x) + float32(y*y))))
		k[i] = float32(math.Exp(float64(-float32(d*d) / float32(2*g.Sigma*g.Sigma))))
	}
	total := sum(k)
	for i := range k {
		k[i] /= total
	}
	return k
}

func (g Gaussian) apply(t *Tensor, kernel []float32) (*Tensor, error) {
	if len(t.Shape) != 4 {
		return nil, fmt.Errorf("filter tensor: shape %v has not 4 dimensions", t.Shape)
	}
	h, w := t.Shape[2], t.Shape[3]
	if g.Radius < 1 || g.Radius >= h || g.Radius >= w {
		return nil, fmt.Errorf("filter tensor: radius %d is not between 1 and the shorter side of %dx%d", g.Radius, w, h)
	}
	out := New(t.Shape...)
	var wait sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for first := range workers {
		wait.Go(func() {
			padded := make([]float32, w+2*g.Radius)
			for row := first; row < len(t.Data)/w; row += workers {
				y, top := row%h, row-row%h
				for k := range 2*g.Radius + 1 {
					at := (top + reflected(y+k-g.Radius, h)) * w
					reflect(padded, t.Data[at:at+w])
					addRow(out.Data[row*w:(row+1)*w], padded, kernel[k*(2*g.Radius+1):][:2*g.Radius+1])
				}
			}
		})
	}
	wait.Wait()
	return out, nil
}

// reflect copies a row into the middle of a longer one and mirrors it at its
// ends.
func reflect(dst, row []float32) {
	r := (len(dst) - len(row)) / 2
	for i := range dst {
		dst[i] = row[reflected(i-r, len(row))]
	}
}

// addRow adds a row of the kernel's products.
func addRow(dst, padded, weights []float32) {
	for k, f := range weights {
		for x, v := range padded[k : k+len(dst)] {
			dst[x] = fma(v, f, dst[x])
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
