package tensor

import "math"

// resizeBislerp interpolates the vectors that the channels form at each pixel
// on the sphere: direction along the great circle between two neighbours
// (Shoemake, "Animating rotation with quaternion curves", 1985), length
// linearly; first along the rows, then along the columns.
func resizeBislerp(t *Tensor, width, height int) *Tensor {
	b, c, h, w := t.Shape[0], t.Shape[1], t.Shape[2], t.Shape[3]
	wide, out := New(b, c, h, width), New(b, c, height, width)
	cols, rows := slerpTaps(w, width), slerpTaps(h, height)
	a, z, v := make([]float32, c), make([]float32, c), make([]float32, c)
	for n := range b {
		for i := range h * width {
			y, x := i/width, i%width
			gather(a, t, n, y*w+cols.index[2*x])
			gather(z, t, n, y*w+cols.index[2*x+1])
			slerp(v, a, z, cols.weight[2*x+1])
			scatter(wide, v, n, i)
		}
		for i := range height * width {
			y, x := i/width, i%width
			gather(a, wide, n, rows.index[2*y]*width+x)
			gather(z, wide, n, rows.index[2*y+1]*width+x)
			slerp(v, a, z, rows.weight[2*y+1])
			scatter(out, v, n, i)
		}
	}
	return out
}

// slerpTaps finds the neighbours as the bilinear resampling of the index
// itself: its whole part, and its fraction as the ratio. The index is clamped
// to the middle of the outermost pixels, and the resampled upper index of the
// last pixel stays below the edge, so both neighbours may be the same pixel.
func slerpTaps(in, out int) taps {
	t := linearTaps(in, out)
	for i := range out {
		lo, hi := t.index[2*i], t.index[2*i+1]
		frac := t.weight[2*i+1]
		at := fma(float32(hi), frac, float32(float32(lo)*t.weight[2*i]))
		next := fma(float32(min(hi+1, in-1)), frac, float32(float32(min(lo+1, in-1))*t.weight[2*i]))
		t.index[2*i], t.index[2*i+1] = int(at), int(next)
		t.weight[2*i+1] = at - float32(int(at))
		t.weight[2*i] = 1 - t.weight[2*i+1]
	}
	return t
}

// gather reads the channel vector of item n at a flat pixel position.
func gather(dst []float32, t *Tensor, n, pixel int) {
	area := t.Shape[2] * t.Shape[3]
	for c := range dst {
		dst[c] = t.Data[(n*len(dst)+c)*area+pixel]
	}
}

func scatter(t *Tensor, v []float32, n, pixel int) {
	area := t.Shape[2] * t.Shape[3]
	for c := range v {
		t.Data[(n*len(v)+c)*area+pixel] = v[c]
	}
}

// slerp writes the vector a fraction r of the way from a to b. Parallel
// vectors give a, opposite ones are mixed linearly, because no great circle
// between them is shorter than the others.
func slerp(dst, a, b []float32, r float32) {
	normA, normB := norm(a), norm(b)
	var dot float32
	for i := range a {
		dot += unit(a[i], normA) * unit(b[i], normB)
	}
	switch {
	case dot > 1-1e-5:
		copy(dst, a)
	case dot < 1e-5-1:
		for i := range dst {
			dst[i] = a[i]*(1-r) + b[i]*r
		}
	default:
		omega := math.Acos(float64(dot))
		wa := float32(math.Sin(float64(1-r)*omega) / math.Sin(omega))
		wb := float32(math.Sin(float64(r)*omega) / math.Sin(omega))
		length := normA*(1-r) + normB*r
		for i := range dst {
			dst[i] = (wa*unit(a[i], normA) + wb*unit(b[i], normB)) * length
		}
	}
}

func norm(v []float32) float32 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return float32(math.Sqrt(sum))
}

// unit scales a component to the unit vector; the zero vector stays zero.
func unit(x, norm float32) float32 {
	if norm == 0 {
		return 0
	}
	return x / norm
}
