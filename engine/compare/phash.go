package compare

import (
	"math"
	"math/bits"
	"slices"

	"github.com/comfyrun/comfyrun/engine/imagefile"
)

const (
	hashSide  = 32 // of the square that a picture is shrunk to
	hashBlock = 8  // frequencies of each axis that count
)

// flat is the amplitude of a frequency, in levels, below which it counts as
// absent: rounding must not set bits of a picture of one colour.
const flat = 1e-6

// PHash is the perceptual hash of a picture by the discrete cosine transform (C.
// Zauner: "Implementation and Benchmarking of Perceptual Image Hash Functions",
// 2010, section 3.2.1): the luma, shrunk to 32 by 32, is transformed; of the
// frequencies 1…8 of both axes a bit is set, row by row from the highest bit on,
// where the coefficient is above the median of all 64. Shrinking is by the mean
// of the area that a small pixel covers, in place of a box filter and picking
// pixels.
func PHash(p imagefile.Picture) uint64 {
	if p.Width == 0 || p.Height == 0 {
		return 0
	}
	small := shrink(luma(p), p.Width, p.Height)
	coefficients := frequencies(small)
	sorted := slices.Clone(coefficients)
	slices.Sort(sorted)
	median := (sorted[len(sorted)/2-1] + sorted[len(sorted)/2]) / 2
	var hash uint64
	for i, c := range coefficients {
		if c > median+flat {
			hash |= 1 << (63 - i)
		}
	}
	return hash
}

// Distance is the number of bits in which two hashes differ, 0…64. Unrelated
// pictures are around 32 apart.
func Distance(a, b uint64) int { return bits.OnesCount64(a ^ b) }

// shrink returns the means of the areas of a field under a grid of hashSide by
// hashSide equal parts; pixels on a border count for the part that is inside.
func shrink(field []float64, width, height int) []float64 {
	wide := make([]float64, hashSide*height)
	for y := range height {
		for x := range hashSide {
			wide[y*hashSide+x] = covered(width, x, func(i int) float64 { return field[y*width+i] })
		}
	}
	out := make([]float64, hashSide*hashSide)
	for y := range hashSide {
		for x := range hashSide {
			out[y*hashSide+x] = covered(height, y, func(i int) float64 { return wide[i*hashSide+x] })
		}
	}
	return out
}

// covered is the mean over part k of hashSide equal parts of n values.
func covered(n, k int, value func(int) float64) float64 {
	from, to := float64(k*n)/hashSide, float64((k+1)*n)/hashSide
	sum := 0.0
	for i := int(from); i < n && float64(i) < to; i++ {
		sum += value(i) * (min(float64(i+1), to) - max(float64(i), from))
	}
	return sum / (to - from)
}

// frequencies returns the coefficients 1…hashBlock of both axes of the
// orthonormal discrete cosine transform (type II) of a square, row by row.
func frequencies(square []float64) []float64 {
	var basis [hashBlock][hashSide]float64
	for k := range basis {
		for i := range basis[k] {
			basis[k][i] = math.Sqrt(2.0/hashSide) * math.Cos(math.Pi*(float64(i)+0.5)*float64(k+1)/hashSide)
		}
	}
	var rows [hashSide][hashBlock]float64
	for y := range rows {
		for k := range basis {
			for i, b := range basis[k] {
				rows[y][k] += b * square[y*hashSide+i]
			}
		}
	}
	out := make([]float64, 0, hashBlock*hashBlock)
	for v := range basis {
		for u := range hashBlock {
			sum := 0.0
			for y, b := range basis[v] {
				sum += b * rows[y][u]
			}
			out = append(out, sum)
		}
	}
	return out
}
