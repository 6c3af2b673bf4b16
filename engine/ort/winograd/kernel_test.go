//go:build cgo

package winograd

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// layer returns a convolution as networks have them: activations of variance
// 1, weights of deviation 0.02.
func layer(batch, cin, cout, h, w int) (c convolution, weight []float32) {
	weight = random(3, cout*cin*9)
	for i := range weight {
		weight[i] *= 0.02
	}
	shape := Shape(cout, cin)
	u := make([]float32, shape[0]*shape[1]*shape[2]*shape[3])
	Transform(u, weight, cout, cin)
	return convolution{threads: 1, x: random(4, batch*cin*h*w), u: u, bias: random(5, cout),
		batch: batch, cin: cin, cout: cout, h: h, w: w}, weight
}

// exact computes one value of the convolution.
func exact(c *convolution, weight []float32, b, o, y, x int) float64 {
	sum := float64(c.bias[o])
	for i := range c.cin {
		g, plane := weight[(o*c.cin+i)*9:], c.x[(b*c.cin+i)*c.h*c.w:]
		for tap := range 9 {
			if r, s := y+tap/3-1, x+tap%3-1; r >= 0 && r < c.h && s >= 0 && s < c.w {
				sum += float64(g[tap]) * float64(plane[r*c.w+s])
			}
		}
	}
	switch at := (b*c.cout+o)*c.h*c.w + y*c.w + x; len(c.plus) {
	case 0:
	case c.batch * c.cout:
		sum += float64(c.plus[b*c.cout+o])
	default:
		sum += float64(c.plus[at])
	}
	return sum
}

// difference compares every step-th value of got with exact arithmetic. It
// returns the largest difference, relative to the largest value.
func difference(c *convolution, weight, got []float32, step int) float64 {
	worst, scale := 0.0, 0.0
	for at := 0; at < len(got); at += step {
		plane := c.h * c.w
		want := exact(c, weight, at/plane/c.cout, at/plane%c.cout, at%plane/c.w, at%c.w)
		scale = max(scale, math.Abs(want))
		worst = max(worst, math.Abs(want-float64(got[at])))
		if got[at] != got[at] {
			return math.Inf(1)
		}
	}
	return worst / scale
}

// sizes are batch, channels in and out, height, width and the step of values
// that are checked.
var sizes = [][6]int{
	{1, 1, 1, 1, 1, 1}, {1, 8, 8, 1, 7, 1}, {1, 8, 8, 9, 1, 1}, {3, 5, 3, 2, 3, 1}, {1, 4, 16, 4, 4, 1},
	{1, 16, 16, 5, 6, 1}, {2, 16, 24, 7, 65, 1}, {2, 3, 12, 33, 17, 1}, {1, 33, 40, 20, 64, 7}, {5, 32, 32, 3, 4, 1},
	{1, 9, 8, 100, 2, 1}, {1, 128, 16, 30, 31, 11}, {1, 129, 16, 12, 12, 3}, {1, 400, 8, 37, 64, 29}, {2, 800, 408, 8, 9, 97},
}

func TestKernels(t *testing.T) {
	for _, kernel := range kernels {
		worst := 0.0
		for _, s := range sizes {
			c, weight := layer(s[0], s[1], s[2], s[3], s[4])
			c.kernel = kernel
			got, _, ok := c.run()
			if !ok {
				t.Logf("%s: this processor has none", kernel)
				break
			}
			d := difference(&c, weight, got, s[5])
			if worst = max(worst, d); d > 1e-5 {
				t.Errorf("%s %v: relative difference %.2g", kernel, s, d)
			}
		}
		t.Logf("%s: worst relative difference %.2g", kernel, worst)
	}
}

func TestPlus(t *testing.T) {
	for _, kernel := range kernels {
		for name, elements := range map[string]int{"full": 2 * 9 * 7 * 13, "channels": 2 * 9} {
			c, weight := layer(2, 6, 9, 7, 13)
			c.kernel, c.plus = kernel, random(6, elements)
			if got, _, ok := c.run(); ok && difference(&c, weight, got, 1) > 1e-5 {
				t.Errorf("%s, %s: relative difference %.2g", kernel, name, difference(&c, weight, got, 1))
			}
		}
	}
}

// However a convolution is divided, its bits are the same.
func TestDivision(t *testing.T) {
	for _, s := range [][5]int{{1, 320, 320, 16, 20}, {1, 640, 400, 33, 32}, {2, 24, 16, 40, 41}} {
		for _, kernel := range kernels {
			c, _ := layer(s[0], s[1], s[2], s[3], s[4])
			c.kernel = kernel
			want, one, ok := c.run()
			if !ok {
				continue
			}
			units := []int{one}
			for _, c.threads = range []int{2, 3, 8, 64} {
				got, n, _ := c.run()
				units = append(units, n)
				if !slices.Equal(got, want) {
					t.Errorf("%s %v: %d threads give other bits than one", kernel, s, c.threads)
				}
			}
			if !slices.IsSorted(units) || units[4] <= one {
				t.Errorf("%s %v: units for 1, 2, 3, 8 and 64 threads: %v", kernel, s, units)
			}
		}
	}
}

// The numbers that a convolution of a diffusion network is off by.
func TestAccuracy(t *testing.T) {
	for _, s := range [][5]int{{1, 320, 320, 64, 64}, {1, 640, 640, 32, 32}, {1, 2560, 64, 16, 16}, {1, 512, 64, 64, 64}, {1, 128, 128, 64, 64}} {
		c, weight := layer(s[0], s[1], s[2], s[3], s[4])
		got, _, _ := c.run()
		d := difference(&c, weight, got, 977)
		t.Logf("%s: %.2g", fmt.Sprint(s), d)
		if d > 1e-5 {
			t.Errorf("%v: relative difference %.2g", s, d)
		}
	}
}
