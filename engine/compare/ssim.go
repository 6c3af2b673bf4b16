package compare

import (
	"math"

	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// The constants of SSIM as its authors chose them: a Gaussian window of 11 by 11
// pixels with a standard deviation of 1.5, and (K·L)² with L = 255 levels.
const (
	window  = 11
	spread  = 1.5
	steadyL = 0.01 * 255 * 0.01 * 255
	steadyC = 0.03 * 255 * 0.03 * 255
)

// SSIM is the mean structural similarity of the luma of two pictures of the same
// size (Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli: "Image quality
// assessment: from error visibility to structural similarity", IEEE Transactions
// on Image Processing 13(4), 2004, equation 13), at full resolution, over all
// positions at which the window lies inside of the picture. It is 1 for equal
// luma. Along a side shorter than the window, the window is cut to that side.
func SSIM(a, b imagefile.Picture) float64 {
	if a.Width == 0 || a.Height == 0 {
		return 1
	}
	x, y := luma(a), luma(b)
	s := smoother{width: a.Width, height: a.Height, across: gaussian(min(window, a.Width)), down: gaussian(min(window, a.Height))}
	square := func(p, q []float64) []float64 {
		out := make([]float64, len(p))
		for i, v := range p {
			out[i] = v * q[i]
		}
		return s.smooth(out)
	}
	xx, yy, xy := square(x, x), square(y, y), square(x, y)
	mx, my := s.smooth(x), s.smooth(y)
	sum := 0.0
	for i, m := range mx {
		n := my[i]
		vx, vy, cov := xx[i]-m*m, yy[i]-n*n, xy[i]-m*n
		sum += (2*m*n + steadyL) * (2*cov + steadyC) / ((m*m + n*n + steadyL) * (vx + vy + steadyC))
	}
	return sum / float64(len(mx))
}

// gaussian returns n weights of a bell around their middle; they add up to 1.
func gaussian(n int) []float64 {
	w := make([]float64, n)
	sum := 0.0
	for i := range w {
		d := float64(i) - float64(n-1)/2
		w[i] = math.Exp(-d * d / (2 * spread * spread))
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}

// smoother averages a field under a window that is the product of two.
type smoother struct {
	width, height int
	across, down  []float64
}

// smooth returns the average at each position of the window, row by row.
func (s smoother) smooth(field []float64) []float64 {
	columns, rows := s.width-len(s.across)+1, s.height-len(s.down)+1
	wide := make([]float64, columns*s.height)
	for y := range s.height {
		for x := range columns {
			sum := 0.0
			for i, w := range s.across {
				sum += w * field[y*s.width+x+i]
			}
			wide[y*columns+x] = sum
		}
	}
	out := make([]float64, columns*rows)
	for y := range rows {
		for x := range columns {
			sum := 0.0
			for i, w := range s.down {
				sum += w * wide[(y+i)*columns+x]
			}
			out[y*columns+x] = sum
		}
	}
	return out
}
