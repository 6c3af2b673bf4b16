package tensor

import (
	"fmt"
	"math"
)

// Canny returns the edges of pictures, t being [batch, 1 or 3, height, width]
// with values in [0, 1]; the result is [batch, 1, height, width] with 1 on
// edges. The method is Canny's ("A computational approach to edge detection",
// 1986) with kornia's choices: gray is 0.299 R + 0.587 G + 0.114 B; blur of 5
// pixels with standard deviation 1, reflected at the edges; Sobel gradients,
// edges repeated; the strength sqrt(gx²+gy²+1e-6) must exceed that of both
// neighbours along the gradient, to 45 degrees. What exceeds high is an edge,
// and what exceeds low and touches an edge is one too.
func Canny(t *Tensor, low, high float64) (*Tensor, error) {
	if len(t.Shape) != 4 || t.Shape[1] != 3 && t.Shape[1] != 1 {
		return nil, fmt.Errorf("find edges: shape %v is not [batch 1 height width] or 3", t.Shape)
	}
	if low > high || low <= 0 || high >= 1 {
		return nil, fmt.Errorf("find edges: thresholds %g and %g are not in order between 0 and 1", low, high)
	}
	blurred, err := Gaussian{Radius: 2, Sigma: 0.5}.Blur(luma(t))
	if err != nil {
		return nil, err
	}
	out := New(blurred.Shape...)
	area := t.Shape[2] * t.Shape[3]
	for p := range t.Shape[0] {
		g := gradientsOf(plane{blurred.Data[p*area : (p+1)*area], t.Shape[3]})
		g.thin()
		copy(out.Data[p*area:], g.connected(float32(low), float32(high)))
	}
	return out, nil
}

// luma is the brightness of RGB pictures.
func luma(t *Tensor) *Tensor {
	if t.Shape[1] == 1 {
		return t
	}
	out := New(t.Shape[0], 1, t.Shape[2], t.Shape[3])
	area := t.Shape[2] * t.Shape[3]
	for i := range out.Data {
		rgb := t.Data[i/area*3*area+i%area:]
		out.Data[i] = float32(0.299*rgb[0]) + float32(0.587*rgb[area]) + float32(0.114*rgb[2*area])
	}
	return out
}

// gradients is the strength of an edge at each pixel and the direction across
// it, in eighths of a turn from right over down.
type gradients struct {
	strength   plane
	directions []int8
}

// compass is the offsets to the neighbours, from right over down.
var compass = [8][2]int{{1, 0}, {1, 1}, {0, 1}, {-1, 1}, {-1, 0}, {-1, -1}, {0, -1}, {1, -1}}

// gradientsOf applies the Sobel kernels.
func gradientsOf(p plane) *gradients {
	w, h := p.width, len(p.data)/p.width
	g := &gradients{strength: plane{make([]float32, len(p.data)), w}, directions: make([]int8, len(p.data))}
	at := func(x, y int) float32 { return p.data[min(max(y, 0), h-1)*w+min(max(x, 0), w-1)] }
	for i := range p.data {
		x, y := i%w, i/w
		gx := at(x+1, y-1) - at(x-1, y-1) + 2*(at(x+1, y)-at(x-1, y)) + at(x+1, y+1) - at(x-1, y+1)
		gy := at(x-1, y+1) - at(x-1, y-1) + 2*(at(x, y+1)-at(x, y-1)) + at(x+1, y+1) - at(x+1, y-1)
		g.strength.data[i] = float32(math.Sqrt(float64(float32(float32(gx*gx)+float32(gy*gy)) + 1e-6)))
		eighths := math.RoundToEven(math.Atan2(float64(gy), float64(gx)) * 4 / math.Pi)
		g.directions[i] = int8((int(eighths) + 8) % 8)
	}
	return g
}

// at is the strength at a pixel, 0 beyond the edges.
func (g *gradients) at(x, y int) float32 {
	w := g.strength.width
	if x < 0 || x >= w || y < 0 || y >= len(g.strength.data)/w {
		return 0
	}
	return g.strength.data[y*w+x]
}

// thin sets to 0 what is not stronger than both neighbours across the edge.
func (g *gradients) thin() {
	w := g.strength.width
	out := make([]float32, len(g.strength.data))
	for i, v := range g.strength.data {
		d := compass[g.directions[i]]
		x, y := i%w, i/w
		if v-g.at(x+d[0], y+d[1]) > 0 && v-g.at(x-d[0], y-d[1]) > 0 {
			out[i] = v
		}
	}
	g.strength.data = out
}

// connected is 1 where the strength exceeds high, or exceeds low with a chain
// of such pixels that leads to a stronger one.
func (g *gradients) connected(low, high float32) []float32 {
	w, h := g.strength.width, len(g.strength.data)/g.strength.width
	out := make([]float32, len(g.strength.data))
	var open []int
	reach := func(i int, threshold float32) {
		if out[i] == 0 && g.strength.data[i] > threshold {
			out[i] = 1
			open = append(open, i)
		}
	}
	for i := range out {
		reach(i, high)
	}
	for len(open) > 0 {
		i := open[len(open)-1]
		open = open[:len(open)-1]
		for _, d := range compass {
			x, y := i%w+d[0], i/w+d[1]
			if x >= 0 && x < w && y >= 0 && y < h {
				reach(y*w+x, low)
			}
		}
	}
	return out
}

// plane is one channel of a picture, row by row.
type plane struct {
	data  []float32
	width int
}
