package winograd

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The paper's G.
var filterMatrix = [6][3]float64{
	{1. / 4, 0, 0},
	{-1. / 6, -1. / 6, -1. / 6},
	{-1. / 6, 1. / 6, -1. / 6},
	{1. / 24, 1. / 12, 1. / 6},
	{1. / 24, -1. / 12, 1. / 6},
	{0, 0, 1},
}

func TestTransform(t *testing.T) {
	for _, size := range [][2]int{{8, 1}, {1, 1}, {3, 4}, {24, 5}, {33, 7}} {
		cout, cin := size[0], size[1]
		src := random(1, cout*cin*9)
		shape := Shape(cout, cin)
		dst := random(2, shape[0]*shape[1]*shape[2]*shape[3])
		Transform(dst, src, cout, cin)
		at := 0
		for p := range shape[0] {
			for o := range shape[1] {
				for i := range cin {
					for lane := range Panel {
						want := float32(0)
						if c := o*Panel + lane; c < cout {
							want = float32(point(src[(c*cin+i)*9:], p/6, p%6))
						}
						if diff := math.Abs(float64(dst[at] - want)); diff > 1e-7 {
							t.Fatalf("%v: point %d, channels %d, %d: %v, want %v", size, p, o*Panel+lane, i, dst[at], want)
						}
						at++
					}
				}
			}
		}
	}
}

// point is value (row, column) of G g Gt.
func point(g []float32, row, column int) float64 {
	sum := 0.0
	for i, a := range filterMatrix[row] {
		for j, b := range filterMatrix[column] {
			sum += a * float64(g[3*i+j]) * b
		}
	}
	return sum
}

// random returns n values of a normal distribution.
func random(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64())
	}
	return out
}

func BenchmarkTransform(b *testing.B) {
	const cout, cin = 320, 320
	shape := Shape(cout, cin)
	dst, src := make([]float32, shape[0]*shape[1]*shape[2]*shape[3]), random(1, cout*cin*9)
	b.SetBytes(int64(4 * len(dst)))
	for b.Loop() {
		Transform(dst, src, cout, cin)
	}
}
