package tensor

import "math"

// taps says how one axis is resampled: output i is the sum over k of
// weight[i*n+k] times input index[i*n+k].
type taps struct {
	n      int
	index  []int
	weight []float32
}

func newTaps(n, out int) taps {
	return taps{n: n, index: make([]int, n*out), weight: make([]float32, n*out)}
}

func (t taps) len() int { return len(t.index) / t.n }

// scale is the step in the source per output pixel, which torch computes in
// float32.
func scale(in, out int) float32 { return float32(in) / float32(out) }

func nearestTaps(in, out int) taps {
	t, s := newTaps(1, out), scale(in, out)
	for i := range out {
		t.index[i] = min(int(float32(i)*s), in-1)
		t.weight[i] = 1
	}
	return t
}

func nearestExactTaps(in, out int) taps {
	t, s := newTaps(1, out), scale(in, out)
	for i := range out {
		t.index[i] = min(int(float32(float32(i)+0.5)*s), in-1)
		t.weight[i] = 1
	}
	return t
}

func linearTaps(in, out int) taps {
	t, s := newTaps(2, out), scale(in, out)
	for i := range out {
		at := max(float32(fma(s, float32(i)+0.5, -0.5)), 0)
		lo := min(int(at), in-1)
		frac := min(max(at-float32(lo), 0), 1)
		t.index[2*i], t.index[2*i+1] = lo, min(lo+1, in-1)
		t.weight[2*i], t.weight[2*i+1] = 1-frac, frac
	}
	return t
}

// cubicTaps uses the cubic convolution kernel (Keys, "Cubic convolution
// interpolation for digital image processing", 1981) with A = -0.75.
func cubicTaps(in, out int) taps {
	t, s := newTaps(4, out), scale(in, out)
	for i := range out {
		at := fma(s, float32(i)+0.5, -0.5)
		lo := int(math.Floor(float64(at)))
		frac := at - float32(lo)
		w := [4]float32{cubicFar(frac + 1), cubicNear(frac), cubicNear(1 - frac), cubicFar(2 - frac)}
		for k, v := range w {
			t.index[4*i+k] = min(max(lo+k-1, 0), in-1)
			t.weight[4*i+k] = v
		}
	}
	return t
}

const cubicA = -0.75

// cubicNear is the kernel at distances up to 1.
func cubicNear(x float32) float32 {
	return float32(float32(fma(cubicA+2, x, -(cubicA+3))*x)*x) + 1
}

// cubicFar is the kernel at distances from 1 to 2.
func cubicFar(x float32) float32 {
	return float32(fma(fma(cubicA, x, -5*cubicA), x, 8*cubicA)*x) - 4*cubicA
}

// fma is a fused multiply-add: one rounding. Where torch's compiled kernels
// fuse, so does this file, and where they do not, the product is converted to
// float32 by itself: pictures are cut to 8 bits, so the last bit of a flat
// area decides about a level.
func fma(x, y, z float32) float32 {
	return float32(float64(x)*float64(y) + float64(z))
}

// resizeTaps resamples the columns of every row, then the rows.
func resizeTaps(t *Tensor, horizontal, vertical taps) *Tensor {
	planes, h, w := t.Shape[0]*t.Shape[1], t.Shape[2], t.Shape[3]
	outW, outH := horizontal.len(), vertical.len()
	out := New(t.Shape[0], t.Shape[1], outH, outW)
	rows := make([]float32, h*outW)
	for p := range planes {
		for y := range h {
			horizontal.apply(rows[y*outW:(y+1)*outW], t.Data[(p*h+y)*w:(p*h+y+1)*w])
		}
		for y := range outH {
			vertical.sumRows(out.Data[(p*outH+y)*outW:(p*outH+y+1)*outW], rows, y)
		}
	}
	return out
}

// order is the sequence in which n taps are summed: compilers turn a·b + c·d
// into fma(a, b, c·d), so the second product is the one that is rounded.
func order(n int) []int {
	if n == 1 {
		return []int{0}
	}
	return []int{1, 0, 2, 3}[:n]
}

// apply resamples one row.
func (t taps) apply(dst, src []float32) {
	seq := order(t.n)
	for i := range dst {
		idx, wt := t.index[i*t.n:(i+1)*t.n], t.weight[i*t.n:(i+1)*t.n]
		sum := src[idx[seq[0]]] * wt[seq[0]]
		for _, k := range seq[1:] {
			sum = fma(src[idx[k]], wt[k], sum)
		}
		dst[i] = sum
	}
}

// sumRows makes output row i out of the rows of a plane.
func (t taps) sumRows(dst, plane []float32, i int) {
	width := len(dst)
	for n, k := range order(t.n) {
		at, w := t.index[i*t.n+k]*width, t.weight[i*t.n+k]
		row := plane[at : at+width]
		for x := range dst {
			if n == 0 {
				dst[x] = row[x] * w
				continue
			}
			dst[x] = fma(row[x], w, dst[x])
		}
	}
}

// resizeLinear sums the four neighbours with the products of their weights.
func resizeLinear(t *Tensor, horizontal, vertical taps) *Tensor {
	planes, h, w := t.Shape[0]*t.Shape[1], t.Shape[2], t.Shape[3]
	outW, outH := horizontal.len(), vertical.len()
	out := New(t.Shape[0], t.Shape[1], outH, outW)
	for row := range planes * outH {
		p, y := row/outH, row%outH
		above := t.Data[(p*h+vertical.index[2*y])*w:][:w]
		below := t.Data[(p*h+vertical.index[2*y+1])*w:][:w]
		wa, wb := vertical.weight[2*y], vertical.weight[2*y+1]
		dst := out.Data[row*outW : (row+1)*outW]
		for x := range dst {
			l, r := horizontal.index[2*x], horizontal.index[2*x+1]
			wl, wr := horizontal.weight[2*x], horizontal.weight[2*x+1]
			sum := fma(above[l], float32(wa*wl), float32(above[r]*float32(wa*wr)))
			sum = fma(below[l], float32(wb*wl), sum)
			dst[x] = fma(below[r], float32(wb*wr), sum)
		}
	}
	return out
}

// resizeArea averages the source pixels that an output pixel touches, from
// floor(i·in/out) to ceil((i+1)·in/out).
func resizeArea(t *Tensor, width, height int) *Tensor {
	planes, h, w := t.Shape[0]*t.Shape[1], t.Shape[2], t.Shape[3]
	out := New(t.Shape[0], t.Shape[1], height, width)
	for p := range planes {
		src := t.Data[p*h*w : (p+1)*h*w]
		for y := range height {
			y0, y1 := y*h/height, ((y+1)*h+height-1)/height
			for x := range width {
				x0, x1 := x*w/width, ((x+1)*w+width-1)/width
				var sum float32
				for sy := y0; sy < y1; sy++ {
					for _, v := range src[sy*w+x0 : sy*w+x1] {
						sum += v
					}
				}
				out.Data[(p*height+y)*width+x] = sum / float32(y1-y0) / float32(x1-x0)
			}
		}
	}
	return out
}
