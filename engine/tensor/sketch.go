package tensor

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
)

// Sketch is a summary of tensors by which their distance from others of the same
// shapes can be estimated when only the sketches are at hand: every element,
// with a sign by its position, goes into one of eight sums (M. Charikar, K.
// Chen, M. Farach-Colton: "Finding frequent items in data streams", 2002; M.
// Thorup, Y. Zhang: "Tabulation based 4-universal hashing with applications to
// second moment estimation", 2004). The sums are divided by the root of the
// number of elements. Estimates are off by a quarter or so, and differences
// below 1e-7 of the values drown in rounding.
type Sketch [sketchSums]float32

const sketchSums = 8

// SketchOf summarises tensors one after the other; nil ones are left out.
func SketchOf(ts ...*Tensor) Sketch {
	var sums [sketchSums]float64
	n := 0
	for _, t := range ts {
		if t == nil {
			continue
		}
		places := placesOf(uint64(n/16)) >> (4 * (n % 16))
		for _, v := range t.Data {
			// Of four bits the lowest three choose the sum, the other the sign.
			sums[places&7] += float64(math.Float32frombits(math.Float32bits(v) ^ uint32(places&8)<<28))
			if n++; n%16 == 0 {
				places = placesOf(uint64(n / 16))
			} else {
				places >>= 4
			}
		}
	}
	var s Sketch
	for i, sum := range sums {
		s[i] = float32(sum / math.Sqrt(float64(max(n, 1))))
	}
	return s
}

// placesOf gives each of sixteen elements four random bits. It is the finalizer of
// SplitMix64 (G. L. Steele, D. Lea, C. H. Flood: "Fast splittable pseudorandom
// number generators", 2014).
func placesOf(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Distance estimates the root of the mean square difference of the tensors behind
// two sketches.
func (s Sketch) Distance(o Sketch) float64 {
	sum := 0.0
	for i, v := range s {
		d := float64(v) - float64(o[i])
		sum += d * d
	}
	return math.Sqrt(sum)
}

// Size estimates the root of the mean square of the tensors' elements.
func (s Sketch) Size() float64 { return s.Distance(Sketch{}) }

// String is the sketch as 43 letters: its numbers in little-endian order, in
// base64 without padding.
func (s Sketch) String() string {
	var raw [4 * sketchSums]byte
	for i, v := range s {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(v))
	}
	return base64.RawStdEncoding.EncodeToString(raw[:])
}

// ParseSketch reads what String wrote.
func ParseSketch(text string) (Sketch, error) {
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(raw) != 4*sketchSums {
		return Sketch{}, fmt.Errorf("read sketch %.60q: not %d numbers in base64", text, sketchSums)
	}
	var s Sketch
	for i := range s {
		s[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return s, nil
}
