package tensor

import (
	"math"
	"math/rand/v2"
	"testing"
)

func normal(r *rand.Rand, size float64, shape ...int) *Tensor {
	t := New(shape...)
	for i := range t.Data {
		t.Data[i] = float32(size * r.NormFloat64())
	}
	return t
}

// Estimates of distance are right on the average of many pairs and not far off in any, from differences as large as the
// values down to a millionth.
func TestSketchDistance(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []float64{1, 1e-3, 1e-6} {
		sum, worst := 0.0, 1.0
		const pairs = 60
		for range pairs {
			a := normal(r, 1, 1, 4, 16, 16)
			b, d := a.Clone(), normal(r, size, 1, 4, 16, 16)
			exact := 0.0
			for i := range b.Data {
				b.Data[i] += d.Data[i]
				delta := float64(b.Data[i]) - float64(a.Data[i])
				exact += delta * delta / float64(len(b.Data))
			}
			ratio := SketchOf(a).Distance(SketchOf(b)) / math.Sqrt(exact)
			sum, worst = sum+ratio/pairs, max(worst, ratio, 1/ratio)
		}
		if sum < 0.85 || sum > 1.1 || worst > 4 {
			t.Errorf("differences of %g: mean ratio %.3f, worst %.2f", size, sum, worst)
		}
	}
}

func TestSketchText(t *testing.T) {
	a := normal(rand.New(rand.NewPCG(3, 4)), 2, 5, 7)
	s := SketchOf(a, nil)
	got, err := ParseSketch(s.String())
	if err != nil || got != s || len(s.String()) != 43 {
		t.Errorf("%v became %v, %v", s, got, err)
	}
	if s.Distance(SketchOf(Of(a.Data[:10], 10), Of(a.Data[10:], 25))) != 0 {
		t.Error("the same numbers in two tensors have another sketch")
	}
	if SketchOf(nil).Size() != 0 || SketchOf(Full(3, 4096)).Size() == 0 {
		t.Error("size of nothing, or of a constant, is wrong")
	}
	for _, wrong := range []string{"", "AAAA", s.String() + "A", "!" + s.String()[1:]} {
		if _, err := ParseSketch(wrong); err == nil {
			t.Errorf("%q was read", wrong)
		}
	}
}

// BenchmarkSketch is the cost for a picture of 1024 by 1024.
func BenchmarkSketch(b *testing.B) {
	t := Full(0.5, 1, 1024, 1024, 3)
	for b.Loop() {
		SketchOf(t)
	}
}
