package sampling

import "math"

// solveLinear solves the small dense system m·x = v by elimination with pivoting. Both
// arguments are overwritten; the result is v.
func solveLinear(m [][]float64, v []float64) []float64 {
	n := len(v)
	for c := range n {
		p := c
		for r := c + 1; r < n; r++ {
			if math.Abs(m[r][c]) > math.Abs(m[p][c]) {
				p = r
			}
		}
		m[c], m[p], v[c], v[p] = m[p], m[c], v[p], v[c]
		for r := c + 1; r < n; r++ {
			f := m[r][c] / m[c][c]
			for k := c; k < n; k++ {
				m[r][k] -= f * m[c][k]
			}
			v[r] -= f * v[c]
		}
	}
	for r := n - 1; r >= 0; r-- {
		for k := r + 1; k < n; k++ {
			v[r] -= m[r][k] * v[k]
		}
		v[r] /= m[r][r]
	}
	return v
}
