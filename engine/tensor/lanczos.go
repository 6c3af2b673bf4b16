package tensor

import (
	"fmt"
	"math"
)

// resizeLanczos is Pillow's Image.resize with LANCZOS on 8-bit pictures: a
// separable windowed sinc with 3 lobes whose support grows when shrinking,
// applied with 22-bit fixed-point weights and rounded to 8 bits after each
// direction. Values outside [0, 1] are clipped; 255·v is cut, not rounded.
func resizeLanczos(t *Tensor, width, height int) (*Tensor, error) {
	b, c, h, w := t.Shape[0], t.Shape[1], t.Shape[2], t.Shape[3]
	if c != 1 && c != 3 && c != 4 {
		return nil, fmt.Errorf("resize tensor: lanczos takes 1, 3 or 4 channels, not %d", c)
	}
	out := New(b, c, height, width)
	horizontal, vertical := lanczosTaps(w, width), lanczosTaps(h, height)
	for n := range b {
		planes := make([][]byte, c)
		for i := range planes {
			planes[i] = bytesOf(t.Data[(n*c+i)*h*w : (n*c+i+1)*h*w])
		}
		if c == 4 {
			premultiply(planes)
		}
		for i := range planes {
			if w != width {
				planes[i] = horizontal.columns(planes[i], w)
			}
			if h != height {
				planes[i] = vertical.rows(planes[i], width)
			}
		}
		if c == 4 {
			unpremultiply(planes)
		}
		for i, p := range planes {
			dst := out.Data[(n*c+i)*height*width:]
			for j, v := range p {
				dst[j] = float32(v) / 255
			}
		}
	}
	return out, nil
}

// Byte converts a value of a picture to 8 bits: 255·v clipped to 0…255 and
// cut, not rounded, so that 0.999 gives 254.
func Byte(v float32) uint8 {
	v *= 255
	switch {
	case v >= 255:
		return 255
	case v > 0: // false for NaN too
		return uint8(v)
	}
	return 0
}

func bytesOf(v []float32) []byte {
	out := make([]byte, len(v))
	for i, x := range v {
		out[i] = Byte(x)
	}
	return out
}

// premultiply scales the colours by alpha, as Pillow does before it filters,
// so that invisible colours do not bleed.
func premultiply(p [][]byte) {
	for i, a := range p[3] {
		for _, c := range p[:3] {
			v := uint32(c[i])*uint32(a) + 128
			c[i] = uint8((v>>8 + v) >> 8)
		}
	}
}

func unpremultiply(p [][]byte) {
	for i, a := range p[3] {
		if a == 0 || a == 255 {
			continue
		}
		for _, c := range p[:3] {
			c[i] = uint8(min(255*uint32(c[i])/uint32(a), 255))
		}
	}
}

// fixedTaps are the weights of one axis in units of 2^-22: output i is made
// of the inputs from first[i] on.
type fixedTaps struct {
	first  []int
	weight [][]int32
}

const (
	lanczosLobes  = 3.0
	fixedBits     = 22
	fixedHalf     = 1 << (fixedBits - 1)
	fixedUnit     = 1 << fixedBits
	lanczosCenter = 0.5
)

func lanczosTaps(in, out int) fixedTaps {
	t := fixedTaps{first: make([]int, out), weight: make([][]int32, out)}
	step := float64(in) / float64(out)
	stretch := max(step, 1)
	support := lanczosLobes * stretch
	for i := range out {
		center := (float64(i) + lanczosCenter) * step
		lo := max(int(center-support+0.5), 0)
		hi := min(int(center+support+0.5), in)
		weights, sum := make([]float64, hi-lo), 0.0
		for k := range weights {
			weights[k] = lanczos((float64(k+lo) - center + lanczosCenter) * (1 / stretch))
			sum += weights[k]
		}
		t.first[i], t.weight[i] = lo, make([]int32, hi-lo)
		for k, w := range weights {
			t.weight[i][k] = int32(math.Trunc(math.Copysign(0.5, w) + w/sum*fixedUnit))
		}
	}
	return t
}

func lanczos(x float64) float64 {
	if x < -lanczosLobes || x >= lanczosLobes {
		return 0
	}
	return sinc(x) * sinc(x/lanczosLobes)
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(x*math.Pi) / (x * math.Pi)
}

func fixedToByte(v int32) byte { return uint8(min(max(v>>fixedBits, 0), 255)) }

// columns filters the rows of a plane that is width wide.
func (t fixedTaps) columns(src []byte, width int) []byte {
	out := make([]byte, len(src)/width*len(t.first))
	for i := range out {
		y, x := i/len(t.first), i%len(t.first)
		row, sum := src[y*width+t.first[x]:], int32(fixedHalf)
		for k, w := range t.weight[x] {
			sum += int32(row[k]) * w
		}
		out[i] = fixedToByte(sum)
	}
	return out
}

// rows filters the columns of a plane that is width wide.
func (t fixedTaps) rows(src []byte, width int) []byte {
	out := make([]byte, len(t.first)*width)
	for y := range t.first {
		for x := range width {
			sum, at := int32(fixedHalf), t.first[y]*width+x
			for k, w := range t.weight[y] {
				sum += int32(src[at+k*width]) * w
			}
			out[y*width+x] = fixedToByte(sum)
		}
	}
	return out
}
