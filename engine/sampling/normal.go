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
	y := horner(m, []float32{7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1,
		1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1})
	y = float32(y * m)
	y = fma(y, z, float32(exp*-2.12194440e-4))
	y = fmaShort(-z, 0.5, y)
	return fmaShort(exp, 0.693359375, m+y)
}

// sincos32 returns sine and cosine of 0 <= a <= 2π.
func sincos32(a float32) (sin, cos float32) {
	q := (int32(float32(a*1.27323954473516)) + 1) &^ 1
	f := float32(q)
	x := fmaShort(f, -0.78515625, a)
	x = fmaShort(f, -2.4187564849853515625e-4, x)
	x = fmaShort(f, -3.77489497744594108e-8, x)
	z := float32(x * x)

	c := horner(z, []float32{2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2})
	c = float32(c * z)
	c = fma(c, z, -float32(z*0.5)) + 1

	s := horner(z, []float32{-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1})
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

// horner evaluates a polynomial at x, highest power first, with fused steps.
func horner(x float32, coefficients []float32) float32 {
	y := coefficients[0]
	for _, c := range coefficients[1:] {
		p, q := float64(y)*float64(x), float64(c) // fma, which the compiler does not inline
		if s := p + q; math.Float64bits(s)<<35 != 1<<63 {
			y = float32(s)
		} else {
			y = roundTie(p, q)
		}
	}
	return y
}

// fmaShort is fma for operands whose exact result fits into a float64: small
// integers and constants with few bits.
func fmaShort(a, b, c float32) float32 { return float32(float64(a)*float64(b) + float64(c)) }

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
