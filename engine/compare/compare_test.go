package compare

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// noise is a picture of smooth waves with noise on them.
func noise(width, height int, seed uint64) imagefile.Picture {
	r := rand.New(rand.NewPCG(seed, 7))
	p := imagefile.Picture{Width: width, Height: height, RGB: make([]byte, 3*width*height)}
	for i := range p.RGB {
		x, y := float64(i/3%width), float64(i/3/width)
		v := 128 + 70*math.Sin(x/9+float64(seed)) + 40*math.Cos(y/5) + 8*r.NormFloat64() + float64(i%3)*5
		p.RGB[i] = byte(min(max(v, 0), 255))
	}
	return p
}

// plain is a picture of one colour.
func plain(width, height int, level byte) imagefile.Picture {
	return imagefile.Picture{Width: width, Height: height, RGB: slices.Repeat([]byte{level}, 3*width*height)}
}

func changed(p imagefile.Picture, change func(i int, v byte) byte) imagefile.Picture {
	p.RGB = slices.Clone(p.RGB)
	for i, v := range p.RGB {
		p.RGB[i] = change(i, v)
	}
	return p
}

// naiveSSIM follows equations 13 to 16 of the paper to the letter: a window of two dimensions, means first, then central
// moments.
func naiveSSIM(a, b imagefile.Picture) float64 {
	gray := func(p imagefile.Picture, x, y int) float64 {
		c := p.RGB[3*(y*p.Width+x):]
		return 0.299*float64(c[0]) + 0.587*float64(c[1]) + 0.114*float64(c[2])
	}
	total, n := 0.0, 0
	for y0 := 0; y0+11 <= a.Height; y0++ {
		for x0 := 0; x0+11 <= a.Width; x0++ {
			var sum, ma, mb, va, vb, cov float64
			each := func(f func(w, p, q float64)) {
				for j := range 11 {
					for i := range 11 {
						dx, dy := float64(i-5), float64(j-5)
						f(math.Exp(-(dx*dx+dy*dy)/(2*1.5*1.5)), gray(a, x0+i, y0+j), gray(b, x0+i, y0+j))
					}
				}
			}
			each(func(w, p, q float64) { sum, ma, mb = sum+w, ma+w*p, mb+w*q })
			ma, mb = ma/sum, mb/sum
			each(func(w, p, q float64) {
				va, vb, cov = va+w*(p-ma)*(p-ma)/sum, vb+w*(q-mb)*(q-mb)/sum, cov+w*(p-ma)*(q-mb)/sum
			})
			c1, c2 := math.Pow(0.01*255, 2), math.Pow(0.03*255, 2)
			total += (2*ma*mb + c1) * (2*cov + c2) / ((ma*ma + mb*mb + c1) * (va + vb + c2))
			n++
		}
	}
	return total / float64(n)
}

func TestSSIMNaive(t *testing.T) {
	for _, size := range [][2]int{{11, 11}, {40, 33}, {64, 20}} {
		a := noise(size[0], size[1], 1)
		for name, b := range map[string]imagefile.Picture{
			"other noise": noise(size[0], size[1], 2),
			"brighter":    changed(a, func(_ int, v byte) byte { return byte(min(int(v)+9, 255)) }),
			"negative":    changed(a, func(_ int, v byte) byte { return 255 - v }),
			"one pixel":   changed(a, func(i int, v byte) byte { return v ^ byte(i/3/40) }),
		} {
			got, want := SSIM(a, b), naiveSSIM(a, b)
			if math.Abs(got-want) > 1e-10 {
				t.Errorf("%v %s: %.12f, want %.12f", size, name, got, want)
			}
		}
	}
}

// A picture of one colour has no contrast: what is left of SSIM is the term of luminance.
func TestSSIMConstant(t *testing.T) {
	for _, tt := range []struct{ a, b byte }{{100, 100}, {100, 110}, {0, 255}, {0, 0}, {255, 250}} {
		a, b := float64(tt.a), float64(tt.b)
		want := (2*a*b + 6.5025) / (a*a + b*b + 6.5025)
		for _, side := range []int{1, 5, 30} {
			if got := SSIM(plain(side, side+1, tt.a), plain(side, side+1, tt.b)); math.Abs(got-want) > 1e-9 {
				t.Errorf("%d and %d, side %d: %.9f, want %.9f", tt.a, tt.b, side, got, want)
			}
		}
	}
}

// A shift by a constant leaves contrast and structure alone: SSIM is the mean of the terms of luminance.
func TestSSIMShift(t *testing.T) {
	a := changed(noise(30, 30, 3), func(i int, v byte) byte { return v / 2 })
	const shift = 20
	b := changed(a, func(_ int, v byte) byte { return v + shift })
	s := smoother{30, 30, gaussian(window), gaussian(window)}
	want := 0.0
	means := s.smooth(luma(a))
	for _, m := range means {
		want += (2*m*(m+shift) + steadyL) / (m*m + (m+shift)*(m+shift) + steadyL) / float64(len(means))
	}
	if got := SSIM(a, b); math.Abs(got-want) > 1e-9 {
		t.Errorf("%.9f, want %.9f", got, want)
	}
}

// naivePHash samples each small pixel's area finely and sums the transform as it is defined.
func naivePHash(p imagefile.Picture) uint64 {
	const fine = 64
	small := make([]float64, 32*32)
	for y := range 32 * fine {
		for x := range 32 * fine {
			px, py := x*p.Width/(32*fine), y*p.Height/(32*fine)
			c := p.RGB[3*(py*p.Width+px):]
			small[y/fine*32+x/fine] += (0.299*float64(c[0]) + 0.587*float64(c[1]) + 0.114*float64(c[2])) / (fine * fine)
		}
	}
	var coefficients []float64
	for v := 1; v <= 8; v++ {
		for u := 1; u <= 8; u++ {
			sum := 0.0
			for y := range 32 {
				for x := range 32 {
					sum += small[y*32+x] * math.Cos(math.Pi*float64((2*x+1)*u)/64) * math.Cos(math.Pi*float64((2*y+1)*v)/64)
				}
			}
			coefficients = append(coefficients, sum/16)
		}
	}
	sorted := slices.Sorted(slices.Values(coefficients))
	var bits strings.Builder
	for _, c := range coefficients {
		if c > (sorted[31]+sorted[32])/2 {
			bits.WriteByte('1')
		} else {
			bits.WriteByte('0')
		}
	}
	var hash uint64
	for _, c := range bits.String() {
		hash = hash<<1 | uint64(c-'0')
	}
	return hash
}

func TestPHashNaive(t *testing.T) {
	for _, size := range [][2]int{{32, 32}, {64, 128}, {48, 40}, {16, 20}} {
		for seed := range uint64(3) {
			p := noise(size[0], size[1], seed)
			if got, want := PHash(p), naivePHash(p); got != want {
				t.Errorf("%v, seed %d: %016x, want %016x", size, seed, got, want)
			}
		}
	}
}

func TestPHash(t *testing.T) {
	a := noise(128, 96, 1)
	brighter := changed(a, func(_ int, v byte) byte { return byte(min(int(v)+6, 255)) })
	if d := Distance(PHash(a), PHash(brighter)); d > 4 {
		t.Errorf("brightness moves %d bits", d)
	}
	mirrored := changed(a, func(i int, _ byte) byte { return a.RGB[3*(i/3/128*128+127-i/3%128)+i%3] })
	if d := Distance(PHash(a), PHash(mirrored)); d < 12 {
		t.Errorf("mirroring moves only %d bits", d)
	}
	for _, p := range []imagefile.Picture{plain(50, 70, 93), plain(32, 32, 255), {}} {
		if h := PHash(p); h != 0 {
			t.Errorf("a picture of one colour has hash %016x", h)
		}
	}
}

func TestPictures(t *testing.T) {
	a := noise(20, 10, 1)
	b := changed(a, func(i int, v byte) byte {
		if i == 7 {
			return v - 12
		}
		return v
	})
	got, err := Pictures(a, b)
	if err != nil || got.Max != 12 || math.Abs(got.Mean-12.0/600) > 1e-12 || got.SSIM >= 1 || got.Identical() {
		t.Errorf("one channel 12 levels darker: %+v, %v", got, err)
	}
	if got, err = Pictures(a, a); err != nil || got != (Difference{SSIM: 1}) || !got.Identical() {
		t.Errorf("itself: %+v, %v", got, err)
	}
	clear := a
	clear.Alpha = slices.Repeat([]byte{255}, 200)
	if got, err = Pictures(a, clear); err != nil || !got.Identical() {
		t.Errorf("opaque alpha: %+v, %v", got, err)
	}
	clear.Alpha = slices.Clone(clear.Alpha)
	clear.Alpha[3] = 55
	if got, err = Pictures(clear, a); err != nil || got.Max != 200 || got.Mean != 200.0/800 || got.SSIM != 1 {
		t.Errorf("alpha 55: %+v, %v", got, err)
	}
	if _, err = Pictures(a, noise(10, 20, 1)); !errors.Is(err, ErrSize) {
		t.Errorf("other sizes: %v", err)
	}
}

func TestDigest(t *testing.T) {
	a := noise(4, 3, 1)
	opaque, turned, clear := a, a, a
	opaque.Alpha = slices.Repeat([]byte{255}, 12)
	turned.Width, turned.Height = 3, 4
	clear.Alpha = make([]byte, 12)
	if Digest(a) != Digest(opaque) || Digest(a) == Digest(turned) || Digest(a) == Digest(clear) || len(Digest(a)) != 64 {
		t.Errorf("digests %s, %s, %s, %s", Digest(a), Digest(opaque), Digest(turned), Digest(clear))
	}
}

func TestLimits(t *testing.T) {
	far := Difference{Max: 9, Mean: 1.234, SSIM: 0.8, PHash: 7}
	for _, tt := range []struct {
		limits Limits
		want   []string
	}{
		{Default(), []string{"max 9 (limit 1)", "mean 1.23 (limit 0.1)"}},
		{Limits{Max: 9, Mean: 2, PHash: -1}, nil},
		{Limits{Max: 255, Mean: 255, SSIM: 0.9, PHash: 6}, []string{"ssim 0.8000 (limit 0.9)", "phash 7 (limit 6)"}},
	} {
		if diff := cmp.Diff(tt.want, tt.limits.Exceeded(far)); diff != "" {
			t.Errorf("%+v: %s", tt.limits, diff)
		}
		if err := tt.limits.Check(); err != nil {
			t.Errorf("%+v: %v", tt.limits, err)
		}
	}
	for _, wrong := range []Limits{{Max: -1}, {Max: 256}, {Mean: -1}, {Mean: math.NaN()}, {SSIM: 1.1}, {PHash: 65}} {
		if wrong.Check() == nil {
			t.Errorf("%+v is allowed", wrong)
		}
	}
}

func TestAmplified(t *testing.T) {
	a := plain(2, 2, 100)
	for _, tt := range []struct{ by, gain, want byte }{{0, 64, 0}, {1, 64, 64}, {10, 25, 250}, {155, 1, 155}} {
		b := changed(a, func(i int, v byte) byte {
			if i == 5 {
				return v + tt.by
			}
			return v
		})
		got, gain := Amplified(a, b)
		if gain != int(tt.gain) || got.RGB[5] != tt.want || got.RGB[4] != 0 {
			t.Errorf("%d levels: gain %d, %v", tt.by, gain, got.RGB)
		}
	}
}

func TestThumbnail(t *testing.T) {
	p := noise(100, 37, 1)
	small := Thumbnail(p, 32)
	if small.Width != 32 || small.Height != 11 || len(small.RGB) != 3*32*11 {
		t.Fatalf("%dx%d, %d bytes", small.Width, small.Height, len(small.RGB))
	}
	if got := Thumbnail(p, 100); got.Width != 100 || !slices.Equal(got.RGB, p.RGB) {
		t.Error("a picture that is small enough was changed")
	}
	if got := Thumbnail(plain(500, 3, 77), 10); got.Height != 1 || !slices.Equal(got.RGB, slices.Repeat([]byte{77}, 30)) {
		t.Errorf("a thin strip: %+v", got)
	}
}

// BenchmarkPictures is the cost of comparing two pictures of 512 by 512.
func BenchmarkPictures(b *testing.B) {
	p, q := noise(512, 512, 1), noise(512, 512, 2)
	for b.Loop() {
		if _, err := Pictures(p, q); err != nil {
			b.Fatal(err)
		}
	}
}
