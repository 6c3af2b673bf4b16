package sampling

import "math"

// betaQuantile returns x with I_x(a, b) = p, the inverse of the regularised
// incomplete beta function, by bisection to the last bit.
func betaQuantile(p, a, b float64) float64 {
	switch {
	case p >= 1:
		return 1
	case p == 0.5 && a == b:
		return 0.5 // exactly, because callers round it to an index
	}
	lo, hi := 0.0, 1.0
	for range 200 {
		mid := (lo + hi) / 2
		if mid <= lo || mid >= hi {
			break
		}
		if betaRegular(mid, a, b) < p {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// betaRegular returns I_x(a, b) for 0 < x < 1, by the continued fraction (DLMF
// 8.17.22) on the side where it converges fast.
func betaRegular(x, a, b float64) float64 {
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab - la - lb + a*math.Log(x) + b*math.Log1p(-x))
	if x > (a+1)/(a+b+2) {
		return 1 - front*betaFraction(1-x, b, a)/b
	}
	return front * betaFraction(x, a, b) / a
}

// betaFraction evaluates the continued fraction with Lentz's method.
func betaFraction(x, a, b float64) float64 {
	const tiny = 1e-300
	guard := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/guard(1-(a+b)*x/(a+1))
	sum := d
	for i := 1; i <= 500; i++ {
		m := float64(i)
		even := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d = 1 / guard(1+even*d)
		c = guard(1 + even/c)
		sum *= d * c
		odd := -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d = 1 / guard(1+odd*d)
		c = guard(1 + odd/c)
		sum *= d * c
		if math.Abs(d*c-1) < 1e-15 {
			break
		}
	}
	return sum
}
