// Package compare says how far two pictures are apart.
//
// Vocabulary: a level is a step of the 8-bit scale, 0…255, of one channel of one
// pixel. A [Difference] holds four measures of a pair of pictures: the largest
// and the mean distance in levels, the structural similarity (SSIM), and the
// distance of perceptual hashes. [Limits] are what a pair may be apart at most.
// Channels are red, green and blue, and alpha where either picture has it; a
// picture without alpha is opaque. Luma is 0.299 R + 0.587 G + 0.114 B of ITU-R
// BT.601, in levels, not rounded; SSIM and hashes look at nothing else.
package compare

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// ErrSize is what Pictures gives for pictures of different sizes.
var ErrSize = errors.New("pictures differ in size")

// Difference is how far two pictures of one size are apart.
type Difference struct {
	Max   int     // largest distance of a channel, in levels
	Mean  float64 // mean distance of all channels of all pixels, in levels
	SSIM  float64 // 1 for pictures of the same luma, down to -1
	PHash int     // bits of 64 in which the perceptual hashes differ
}

// Identical says that no level differs.
func (d Difference) Identical() bool { return d.Max == 0 }

// Pictures compares two pictures of the same size.
func Pictures(a, b imagefile.Picture) (Difference, error) {
	if a.Width != b.Width || a.Height != b.Height {
		return Difference{}, fmt.Errorf("%w: %dx%d and %dx%d", ErrSize, a.Width, a.Height, b.Width, b.Height)
	}
	d := Difference{SSIM: 1}
	d.Max, d.Mean = levels(a, b)
	if d.Max > 0 {
		d.SSIM = SSIM(a, b)
		d.PHash = Distance(PHash(a), PHash(b))
	}
	return d, nil
}

// levels returns the largest and the mean distance of two pictures' channels.
func levels(a, b imagefile.Picture) (largest int, mean float64) {
	sum, n := 0, len(a.RGB)
	for i, v := range a.RGB {
		d := distance(v, b.RGB[i])
		sum, largest = sum+d, max(largest, d)
	}
	if a.Alpha != nil || b.Alpha != nil {
		pixels := a.Width * a.Height
		n += pixels
		for i := range pixels {
			d := distance(alpha(a, i), alpha(b, i))
			sum, largest = sum+d, max(largest, d)
		}
	}
	if n == 0 {
		return 0, 0
	}
	return largest, float64(sum) / float64(n)
}

func distance(a, b byte) int {
	if a > b {
		return int(a - b)
	}
	return int(b - a)
}

func alpha(p imagefile.Picture, i int) byte {
	if p.Alpha == nil {
		return 255
	}
	return p.Alpha[i]
}

// luma returns the brightness of each pixel in levels, row by row.
func luma(p imagefile.Picture) []float64 {
	out := make([]float64, p.Width*p.Height)
	for i := range out {
		c := p.RGB[3*i : 3*i+3]
		out[i] = 0.299*float64(c[0]) + 0.587*float64(c[1]) + 0.114*float64(c[2])
	}
	return out
}

// Digest names the pixels of a picture, whatever file they were read from: the
// SHA-256, in hexadecimal, of "WIDTHxHEIGHT\n", the red, green and blue of each
// pixel row by row, and the alpha of each pixel where any is not opaque.
func Digest(p imagefile.Picture) string {
	h := sha256.New()
	fmt.Fprintf(h, "%dx%d\n", p.Width, p.Height)
	h.Write(p.RGB)
	for _, v := range p.Alpha {
		if v != 255 {
			h.Write(p.Alpha)
			break
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
