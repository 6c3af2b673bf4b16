package tensor

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func randomTensor(seed uint64, shape ...int) *Tensor {
	r := rand.New(rand.NewPCG(seed, 0))
	t := New(shape...)
	for i := range t.Data {
		t.Data[i] = r.Float32()
	}
	return t
}

// TestExtreme compares with looking at every pixel of every window.
func TestExtreme(t *testing.T) {
	for _, c := range []struct {
		h, w          int
		before, after int
	}{{1, 1, 1, 1}, {5, 7, 1, 1}, {9, 4, 2, 1}, {16, 17, 4, 3}, {6, 6, 20, 20}, {11, 3, 0, 2}, {8, 8, 3, 0}} {
		in := randomTensor(uint64(c.h*c.w), 2, 2, c.h, c.w)
		for name, pick := range map[string]Extremum{"largest": Largest, "smallest": Smallest} {
			want := in.Clone()
			for i := range in.Data {
				x, y := i%c.w, i/c.w%c.h
				for dy := -min(y, c.before); dy <= min(c.h-1-y, c.after); dy++ {
					for dx := -min(x, c.before); dx <= min(c.w-1-x, c.after); dx++ {
						want.Data[i] = pick(want.Data[i], in.Data[i+dy*c.w+dx])
					}
				}
			}
			if diff := cmp.Diff(want, Extreme(in, Window{c.before, c.after}, pick)); diff != "" {
				t.Errorf("%dx%d, %d and %d, %s:\n%s", c.w, c.h, c.before, c.after, name, diff)
			}
		}
	}
}

func TestSum(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 9, 31, 32, 33, 127, 512, 529, 2048, 3969, 70000} {
		v := randomTensor(uint64(n), n).Data
		exact := 0.0
		for _, x := range v {
			exact += float64(x)
		}
		if got := float64(sum(v)); math.Abs(got-exact) > 1e-6*exact {
			t.Errorf("%d values: %g, want %g", n, got, exact)
		}
	}
}

func TestGaussian(t *testing.T) {
	flat := Full(0.25, 1, 3, 9, 8)
	for _, f := range []func() (*Tensor, error){
		func() (*Tensor, error) { return Gaussian{Radius: 3, Sigma: 0.7}.Blur(flat) },
		func() (*Tensor, error) { return Gaussian{Radius: 3, Sigma: 0.7}.Sharpen(flat, 1.5) },
	} {
		out, err := f()
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range out.Data {
			if math.Abs(float64(v-0.25)) > 1e-5 {
				t.Fatalf("value %d of a flat picture became %g", i, v)
			}
		}
	}
	dot := New(1, 1, 5, 5)
	dot.Data[12] = 1
	out, err := Gaussian{Radius: 1, Sigma: 1}.Blur(dot)
	if err != nil {
		t.Fatal(err)
	}
	side, corner := math.Exp(-0.5), math.Exp(-1)
	total := 1 + 4*side + 4*corner
	for at, want := range map[int]float64{12: 1 / total, 11: side / total, 6: corner / total, 0: 0, 10: 0} {
		if got := float64(out.Data[at]); math.Abs(got-want) > 1e-7 {
			t.Errorf("pixel %d is %g, want %g", at, got, want)
		}
	}
	for _, bad := range []struct{ radius, h, w int }{{0, 9, 9}, {4, 4, 9}, {4, 9, 4}} {
		if _, err := (Gaussian{Radius: bad.radius, Sigma: 1}).Blur(New(1, 1, bad.h, bad.w)); err == nil {
			t.Errorf("radius %d of %dx%d: no error", bad.radius, bad.w, bad.h)
		}
	}
}

// TestCanny has a white square on black: its outline is one line of edges.
func TestCanny(t *testing.T) {
	const n = 20
	in := New(1, 3, n, n)
	for i := range in.Data {
		if x, y := i%n, i/n%n; x >= 6 && x < 14 && y >= 6 && y < 14 {
			in.Data[i] = 1
		}
	}
	out, err := Canny(in, 0.2, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	var count int
	for i, v := range out.Data {
		x, y := i%n, i/n
		onLine := x >= 4 && x <= 15 && y >= 4 && y <= 15 && (x < 8 || x > 11 || y < 8 || y > 11)
		if v != 0 && v != 1 || v == 1 && !onLine {
			t.Errorf("pixel %d,%d is %g", x, y, v)
		}
		count += int(v)
	}
	if count < 28 || count > 60 {
		t.Errorf("%d pixels on edges", count)
	}
	for _, c := range []struct {
		t         *Tensor
		low, high float64
	}{{New(1, 4, 9, 9), 0.1, 0.2}, {New(1, 3, 9, 9), 0.3, 0.2}, {New(1, 3, 9, 9), 0, 0.2}, {New(1, 3, 2, 9), 0.1, 0.2}, {New(9, 9), 0.1, 0.2}} {
		if _, err := Canny(c.t, c.low, c.high); err == nil {
			t.Errorf("%v, %g, %g: no error", c.t.Shape, c.low, c.high)
		}
	}
}

func TestNarrowAndConcat(t *testing.T) {
	in := New(2, 3, 2)
	for i := range in.Data {
		in.Data[i] = float32(i)
	}
	a, err := Narrow(in, 1, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Narrow(in, 1, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Of([]float32{2, 3, 4, 5, 8, 9, 10, 11}, 2, 2, 2), b); diff != "" {
		t.Error(diff)
	}
	both, err := Concat(1, a, b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, both); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct{ dim, first, n int }{{3, 0, 1}, {-1, 0, 1}, {1, 2, 2}, {1, -1, 1}} {
		if _, err := Narrow(in, c.dim, c.first, c.n); err == nil {
			t.Errorf("Narrow %v: no error", c)
		}
	}
	for _, parts := range [][]*Tensor{nil, {in, New(2, 3, 3)}, {in, New(2, 3)}} {
		if _, err := Concat(1, parts...); err == nil {
			t.Errorf("Concat of %d parts: no error", len(parts))
		}
	}
}
