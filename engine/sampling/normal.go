package sampling

import "math"

// This file is the arithmetic of torch's AVX2 normal numbers: the single
// precision polynomials of the Cephes library (Moshier 1992) with fused
// multiply-adds in exactly these places. Which products are fused decides the
// last bit; hence float32() around every product that is not.

// boxMuller turns 16 uniforms into 16 normal numbers: element j and j+8 are
// radius and angle of a pair (Box and Muller 1958).
func boxMuller(block []float32) {
	block = block[:16]
	for j := range 8 {
		u1, u2 := 1-block[j], block[j+8]
		r := float32(math.Sqrt(float64(-2 * log32(u1))))
		sin, cos := sincos32(float32(float32(2*math.Pi) * u2))
		block[j] = r * cos
		block[j+8] = r * sin
	}
}

// log32 is the natural logarithm for 0 < x <= 1.
func log32(x float32) float32 {
	x = max(x, 0x1p-126)
	bits := math.Float32bits(x)
	exp := float32(int32(bits>>23) - 126)
	m := math.Float32frombits(bits&0x007fffff | 0x3f000000) // in [0.5, 1)
	if m < 0.707106781186547524 {
		exp--
		m = (m - 1) + m
	} else {
		m--
	}
	z := float32(m * m)
	y := fma(7.0376836292e-2, m, -1.1514610310e-1)
	y = fma(y, m, 1.1676998740e-1)
	y = fma(y, m, -1.2420140846e-1)
	y = fma(y, m, 1.4249322787e-1)
	y = fma(y, m, -1.6668057665e-1)
	y = fma(y, m, 2.0000714765e-1)
	y = fma(y, m, -2.4999993993e-1)
	y = fma(y, m, 3.3333331174e-1)
	y = float32(y * m)
	y = fma(y, z, float32(exp*-2.12194440e-4))
	y = fma(-z, 0.5, y)
	return fma(exp, 0.693359375, m+y)
}

// sincos32 returns sine and cosine of 0 <= a <= 2π.
func sincos32(a float32) (sin, cos float32) {
	q := (int32(float32(a*1.27323954473516)) + 1) &^ 1
	f := float32(q)
	x := fma(f, -0.78515625, a)
	x = fma(f, -2.4187564849853515625e-4, x)
	x = fma(f, -3.77489497744594108e-8, x)
	z := float32(x * x)

	c := fma(2.443315711809948e-5, z, -1.388731625493765e-3)
	c = fma(c, z, 4.166664568298827e-2)
	c = float32(c * z)
	c = fma(c, z, -float32(z*0.5)) + 1

	s := fma(-1.9515295891e-4, z, 8.3321608736e-3)
	s = fma(s, z, -1.6666654611e-1)
	s = float32(s * z)
	s = fma(s, x, x)

	if q&2 != 0 {
		s, c = c, s
	}
	if q&4 != 0 {
		s = -s
	}
	if (q-2)&4 == 0 {
		c = -c
	}
	return s, c
}

// fma returns a·b+c rounded once to float32. The float64 product is exact and
// the float64 sum is rounded to 53 bits; rounding that again can only go wrong
// when it lies exactly between two float32 numbers.
func fma(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	if s := p + q; math.Float64bits(s)<<35 != 1<<63 {
		return float32(s)
	}
	return roundTie(p, q)
}

// roundTie returns p+q rounded once to float32. The float64 sum is rounded to
// odd first (Boldo and Melquiond 2008): an inexact sum whose last bit is 0 moves
// one step towards the exact one.
func roundTie(p, q float64) float32 {
	s := p + q
	back := s - p
	rest := (p - (s - back)) + (q - back) // s+rest is exact (Knuth's TwoSum)
	if rest != 0 && math.Float64bits(s)&1 == 0 {
		s = math.Nextafter(s, math.Copysign(math.Inf(1), rest))
	}
	return float32(s)
}
