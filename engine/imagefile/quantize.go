package imagefile

import (
	"fmt"
	"strings"
)

// The ways in which Quantize hides that there are few colours.
const (
	DitherNone           = "none"
	DitherFloydSteinberg = "floyd-steinberg"
	DitherBayer2         = "bayer-2" // ordered, with a pattern of 2 by 2 pixels
	DitherBayer4         = "bayer-4"
	DitherBayer8         = "bayer-8"
	DitherBayer16        = "bayer-16"
)

// Dithers returns the names that Quantize takes.
func Dithers() []string {
	return []string{DitherNone, DitherFloydSteinberg, DitherBayer2, DitherBayer4, DitherBayer8, DitherBayer16}
}

var bayerOrders = map[string]int{DitherBayer2: 2, DitherBayer4: 4, DitherBayer8: 8, DitherBayer16: 16}

// Quantize reduces a picture to a palette that Palette picks for it. Colours
// are matched as Pillow's convert("P", palette=…) does it. Alpha is dropped.
func Quantize(p Picture, colours int, dither string) (Picture, error) {
	if colours < 1 || colours > 256 {
		return Picture{}, fmt.Errorf("quantize picture: %d colours, 1 to 256 are possible", colours)
	}
	if len(p.RGB) == 0 {
		return Picture{}, fmt.Errorf("quantize picture: no pixels")
	}
	m := &matcher{palette: Palette(p, colours), nearest: map[[3]byte]int{}}
	order, ordered := bayerOrders[dither]
	switch {
	case dither == DitherNone:
		return m.plain(p), nil
	case dither == DitherFloydSteinberg:
		return m.diffused(p), nil
	case ordered:
		return m.plain(ordered8(p, order, len(m.palette))), nil
	}
	return Picture{}, fmt.Errorf("quantize picture: %q is none of %s", dither, strings.Join(Dithers(), ", "))
}

// matcher finds palette colours. It looks at the upper 6 bits of a colour
// only, after Thomas Lane's colour cache in the JPEG library's jquant2.c.
type matcher struct {
	palette [][3]byte
	nearest map[[3]byte]int
}

func (m *matcher) find(c [3]byte) [3]byte {
	for k := range c {
		c[k] &^= 3
	}
	at, known := m.nearest[c]
	if !known {
		best := 1 << 30
		for i, p := range m.palette {
			d := 0
			for k := range p {
				x := int(p[k]) - int(c[k])
				d += x * x
			}
			if d < best {
				best, at = d, i
			}
		}
		m.nearest[c] = at
	}
	return m.palette[at]
}

// plain gives every pixel its palette colour.
func (m *matcher) plain(p Picture) Picture {
	out := newPicture(p.Width, p.Height)
	for i := 0; i < len(p.RGB); i += 3 {
		c := m.find([3]byte(p.RGB[i : i+3]))
		copy(out.RGB[i:], c[:])
	}
	return out
}

// diffused hands the error of each pixel on: 7/16 to the right, 3/16, 5/16 and
// 1/16 to the pixels below (Floyd and Steinberg, "An adaptive algorithm for
// spatial greyscale", 1976). Errors are kept in sixteenths and divided towards
// zero. What a row hands on beyond its last pixel is Pillow's: the blue
// channel's sums stand for red and green too.
func (m *matcher) diffused(p Picture) Picture {
	out := newPicture(p.Width, p.Height)
	below := make([][3]int, p.Width+1) // of the row above, shifted by one
	for y := range p.Height {
		var right, left, last [3]int // 7/16 so far, 5/16+1/16, 1/16
		for x := range p.Width {
			i := 3 * (y*p.Width + x)
			var c [3]byte
			for k := range c {
				c[k] = clip8(int32(int(p.RGB[i+k]) + (right[k]+below[x+1][k])/16))
			}
			chosen := m.find(c)
			copy(out.RGB[i:], chosen[:])
			for k := range c {
				e := int(c[k]) - int(chosen[k])
				below[x][k] = 3*e + left[k]
				left[k] = 5*e + last[k]
				last[k] = e
				right[k] = 7 * e
			}
		}
		below[p.Width] = [3]int{left[2], last[2], last[2]}
	}
	return out
}

// ordered8 adds a pattern of thresholds whose strength is 512 divided by the
// number of colours (Bayer, "An optimum method for two-level rendition of
// continuous-tone pictures", 1973).
func ordered8(p Picture, order, colours int) Picture {
	spread := 2 * 256 / float64(colours)
	out := newPicture(p.Width, p.Height)
	for i, v := range p.RGB {
		x, y := i/3%p.Width, i/3/p.Width
		t := float32(spread*bayer(x%order, y%order, order) + 0.5)
		out.RGB[i] = byte(min(max(float32(v)+t, 0), 255))
	}
	return out
}

// bayer is the threshold at x, y of a pattern of order by order pixels: each
// halving of the pattern adds one of -1.5, 0.5, 1.5, -0.5, a quarter as
// strong as the one before; the result lies within -0.5 and 0.5.
func bayer(x, y, order int) float64 {
	v, weight := 0.0, 1.0
	for bit := order / 2; bit > 0; bit /= 2 {
		quarter := 0
		if y&bit != 0 {
			quarter = 2
		}
		if x&bit != 0 {
			quarter++
		}
		v += [4]float64{-1.5, 0.5, 1.5, -0.5}[quarter] * weight
		weight *= 4
	}
	return v / float64(order*order)
}
