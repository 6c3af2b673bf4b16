package diffusion

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// dense is a matrix in float64, row by row.
type dense struct {
	rows, columns int
	data          []float64
}

func matrixOf(data []float32, rows, columns int) dense {
	m := newDense(rows, columns)
	for i, v := range data {
		m.data[i] = float64(v)
	}
	return m
}

func newDense(rows, columns int) dense { return dense{rows, columns, make([]float64, rows*columns)} }

func (m dense) row(i int) []float64 { return m.data[i*m.columns:][:m.columns] }

// lowRank returns the factors up [rows, rank], with the singular values in it,
// and down [rank, columns] of the product nearest to a. It iterates a subspace
// that is somewhat larger, so that singular values close to each other are told
// apart well enough.
// Source: Halko, Martinsson and Tropp, Finding Structure with Randomness, 2011.
func lowRank(a dense, rank int) (up, down []float32) {
	const spare, turns, enough = 8, 40, 1e-9
	k := min(rank+spare, a.rows, a.columns)
	v := newDense(k, a.columns) // a vector in each row
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range v.data {
		v.data[i] = rng.NormFloat64()
	}
	last := 0.0
	for range turns {
		v.orthonormalise()
		u := a.times(v)
		u.orthonormalise()
		v = a.transposedTimes(u)
		caught := 0.0
		for _, x := range v.data {
			caught += x * x
		}
		if math.Abs(caught-last) <= enough*caught {
			break
		}
		last = caught
	}
	v.orthonormalise()
	return a.project(v, rank)
}

// times returns a·v of each row of v.
func (a dense) times(v dense) dense {
	out := newDense(v.rows, a.rows)
	for k := range v.rows {
		for i := range a.rows {
			out.data[k*a.rows+i] = dot64(a.row(i), v.row(k))
		}
	}
	return out
}

// transposedTimes returns aᵀ·u of each row of u.
func (a dense) transposedTimes(u dense) dense {
	out := newDense(u.rows, a.columns)
	for k := range u.rows {
		for i, f := range u.row(k) {
			addTimes(out.row(k), a.row(i), f)
		}
	}
	return out
}

// orthonormalise makes the rows perpendicular and of length 1; those that depend
// on others become 0.
func (m dense) orthonormalise() {
	const none = 1e-12
	for i := range m.rows {
		row := m.row(i)
		before := math.Sqrt(dot64(row, row))
		for range 2 { // once leaves rounding errors
			for j := range i {
				addTimes(row, m.row(j), -dot64(row, m.row(j)))
			}
		}
		length := math.Sqrt(dot64(row, row))
		f := 0.0
		if length > none*before {
			f = 1 / length
		}
		for k := range row {
			row[k] *= f
		}
	}
}

// project returns the factors of a in the space of v's rows, by the
// eigenvectors of what they are mapped to.
func (a dense) project(v dense, rank int) (up, down []float32) {
	b := a.times(v)
	gram := newDense(v.rows, v.rows)
	for i := range v.rows {
		for j := range v.rows {
			gram.data[i*v.rows+j] = dot64(b.row(i), b.row(j))
		}
	}
	turn := gram.eigenvectors()
	up, down = make([]float32, a.rows*rank), make([]float32, rank*a.columns)
	for r := range rank {
		left, right := make([]float64, a.rows), make([]float64, a.columns)
		for k, f := range turn.row(r) {
			addTimes(left, b.row(k), f)
			addTimes(right, v.row(k), f)
		}
		for i, x := range left {
			up[i*rank+r] = float32(x)
		}
		for i, x := range right {
			down[r*a.columns+i] = float32(x)
		}
	}
	return up, down
}

// eigenvectors returns those of a symmetric matrix as rows, the largest
// eigenvalue first, by Jacobi's rotations. The matrix becomes diagonal.
func (m dense) eigenvectors() dense {
	n := m.rows
	vectors := newDense(n, n)
	for i := range n {
		vectors.data[i*n+i] = 1
	}
	const sweeps = 30
	for range sweeps {
		if !m.sweep(vectors) {
			break
		}
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(m.data[j*n+j], m.data[i*n+i]) })
	out := newDense(n, n)
	for i, from := range order {
		copy(out.row(i), vectors.row(from))
	}
	return out
}

// sweep turns every pair of axes once; false says that nothing was left to do.
func (m dense) sweep(vectors dense) bool {
	n, turned := m.rows, false
	for p := range n {
		for q := p + 1; q < n; q++ {
			off, pp, qq := m.data[p*n+q], m.data[p*n+p], m.data[q*n+q]
			if off*off <= 1e-24*math.Abs(pp*qq) || off == 0 {
				continue
			}
			turned = true
			angle := math.Atan2(2*off, qq-pp) / 2
			c, s := math.Cos(angle), math.Sin(angle)
			rotate(m.row(p), m.row(q), c, s)
			for i := range n {
				x, y := m.data[i*n+p], m.data[i*n+q]
				m.data[i*n+p], m.data[i*n+q] = c*x-s*y, s*x+c*y
			}
			rotate(vectors.row(p), vectors.row(q), c, s)
		}
	}
	return turned
}

func rotate(a, b []float64, c, s float64) {
	for i, x := range a {
		a[i], b[i] = c*x-s*b[i], s*x+c*b[i]
	}
}

func dot64(a, b []float64) float64 {
	var sum float64
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

// addTimes adds b·f to a.
func addTimes(a, b []float64, f float64) {
	for i, v := range b {
		a[i] += v * f
	}
}

// clampOutliers limits the numbers of both factors to the one that 99 of 100
// stay below.
// Source: the extraction of LoRAs of https://github.com/kohya-ss/sd-scripts.
func clampOutliers(up, down []float32) {
	const quantile = 0.99
	all := slices.Concat(up, down)
	slices.Sort(all)
	at := quantile * float64(len(all)-1)
	lo := int(at)
	hi := min(lo+1, len(all)-1)
	limit := float32(float64(all[lo]) + (at-float64(lo))*float64(all[hi]-all[lo]))
	for _, list := range [][]float32{up, down} {
		for i, v := range list {
			list[i] = min(max(v, -limit), limit)
		}
	}
}
