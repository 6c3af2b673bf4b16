package tensor

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// The methods that Resize knows.
const (
	Nearest      = "nearest"       // floor(dst·in/out)
	NearestExact = "nearest-exact" // floor((dst+½)·in/out)
	Bilinear     = "bilinear"      // without antialiasing, edges clamped
	Bicubic      = "bicubic"       // cubic convolution with A = -0.75, without antialiasing
	AreaMean     = "area"          // mean over the covered source pixels
	Bislerp      = "bislerp"       // spherical interpolation of the channel vectors
	Lanczos      = "lanczos"       // Pillow's 8-bit Lanczos filter; for pictures
)

// ResizeMethods returns the names of all methods, sorted.
func ResizeMethods() []string {
	return []string{AreaMean, Bicubic, Bilinear, Bislerp, Lanczos, Nearest, NearestExact}
}

// Resize scales the last two dimensions of t, [batch, channel, height, width],
// to height and width. The methods other than bislerp and lanczos are those of
// torch.nn.functional.interpolate with align_corners=False, antialias=False,
// in float32. Lanczos cuts the values to 8 bits, as pictures in [0, 1], first
// and takes 1, 3 or 4 channels; with 4 the last one is alpha.
//
// The result never shares t's data.
func Resize(t *Tensor, width, height int, method string) (*Tensor, error) {
	if len(t.Shape) != 4 {
		return nil, fmt.Errorf("resize tensor: shape %v has not 4 dimensions", t.Shape)
	}
	if width < 1 || height < 1 || t.Shape[2] < 1 || t.Shape[3] < 1 {
		return nil, fmt.Errorf("resize tensor: %v to %dx%d: every side must be at least 1", t.Shape, width, height)
	}
	switch method {
	case Nearest:
		return resizeTaps(t, nearestTaps(t.Shape[3], width), nearestTaps(t.Shape[2], height)), nil
	case NearestExact:
		return resizeTaps(t, nearestExactTaps(t.Shape[3], width), nearestExactTaps(t.Shape[2], height)), nil
	case Bilinear:
		return resizeLinear(t, linearTaps(t.Shape[3], width), linearTaps(t.Shape[2], height)), nil
	case Bicubic:
		return resizeTaps(t, cubicTaps(t.Shape[3], width), cubicTaps(t.Shape[2], height)), nil
	case AreaMean:
		return resizeArea(t, width, height), nil
	case Bislerp:
		return resizeBislerp(t, width, height), nil
	case Lanczos:
		return resizeLanczos(t, width, height)
	}
	return nil, fmt.Errorf("resize tensor: method %q is none of %s", method, strings.Join(ResizeMethods(), ", "))
}

// CenterCrop cuts t, [batch, channel, height, width], to the aspect ratio of
// width to height, taking the same number of columns, or rows, from both
// sides. The number is rounded half to even.
func CenterCrop(t *Tensor, width, height int) (*Tensor, error) {
	if len(t.Shape) != 4 || width < 1 || height < 1 {
		return nil, fmt.Errorf("crop tensor: shape %v to the ratio %d:%d", t.Shape, width, height)
	}
	oldW, oldH := float64(t.Shape[3]), float64(t.Shape[2])
	old, want := oldW/oldH, float64(width)/float64(height)
	var x, y int
	if old > want {
		x = int(math.RoundToEven((oldW - oldW*(want/old)) / 2))
	} else if old < want {
		y = int(math.RoundToEven((oldH - oldH*(old/want)) / 2))
	}
	return Crop(t, Rect{X: x, Y: y, Width: t.Shape[3] - 2*x, Height: t.Shape[2] - 2*y})
}

// Rect is a rectangle of a picture, in pixels from its upper left corner.
type Rect struct{ X, Y, Width, Height int }

// Crop copies a rectangle of the last two dimensions of t, [batch, channel,
// height, width].
func Crop(t *Tensor, r Rect) (*Tensor, error) {
	if len(t.Shape) != 4 {
		return nil, fmt.Errorf("crop tensor: shape %v has not 4 dimensions", t.Shape)
	}
	h, w := t.Shape[2], t.Shape[3]
	if r.X < 0 || r.Y < 0 || r.Width < 1 || r.Height < 1 || r.X+r.Width > w || r.Y+r.Height > h {
		return nil, fmt.Errorf("crop tensor: %dx%d at %d,%d does not lie within %dx%d", r.Width, r.Height, r.X, r.Y, w, h)
	}
	out := New(t.Shape[0], t.Shape[1], r.Height, r.Width)
	for row := range t.Shape[0] * t.Shape[1] * r.Height {
		plane, y := row/r.Height, row%r.Height+r.Y
		copy(out.Data[row*r.Width:(row+1)*r.Width], t.Data[(plane*h+y)*w+r.X:])
	}
	return out, nil
}

// Repeat returns t with its first dimension brought to n: cut when it is
// longer, its items taken in turn again when it is shorter.
func (t *Tensor) Repeat(n int) *Tensor {
	if len(t.Shape) == 0 || t.Shape[0] == n || t.Shape[0] == 0 {
		return t
	}
	if t.Shape[0] > n {
		return t.Rows(0, n)
	}
	s := slices.Clone(t.Shape)
	s[0] = n
	data := make([]float32, 0, s.Elements())
	for i := range n {
		data = append(data, t.Index(i%t.Shape[0]).Data...)
	}
	return &Tensor{Shape: s, Data: data}
}
