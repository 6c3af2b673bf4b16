package weights

import (
	"math"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Factors returns the factors of an additive change for a weight of the given
// shape, [out, in] or [out, in, kernel, kernel]: the weight grows by up·down,
// where up is [out, rank] and holds the scale, down is [rank, in·kernel·kernel].
func (c *Change) Factors(shape tensor.Shape) (up, down *tensor.Tensor, err error) {
	t, err := c.readAll()
	if err != nil {
		return nil, nil, err
	}
	up, down, scale, err := c.factors(t, shape)
	if err != nil {
		return nil, nil, err
	}
	multiply(up.Data, scale)
	return up, down, nil
}

// Apply changes a weight: w is its old value in float32, and strength how much
// of the change to take. A change that enlarges the weight returns another
// tensor.
func (c *Change) Apply(w *tensor.Tensor, strength float64) (*tensor.Tensor, error) {
	t, err := c.readAll()
	if err != nil {
		return nil, err
	}
	switch c.kind {
	case replacement:
		if !t["set"].Shape.Equal(w.Shape) {
			return nil, c.fail("a weight of shape %v cannot replace one of %v", t["set"].Shape, w.Shape)
		}
		copy(w.Data, t["set"].Data)
		return w, nil
	case difference:
		if len(t["diff"].Data) != len(w.Data) {
			return nil, c.fail("a difference of shape %v does not fit the weight %v", t["diff"].Shape, w.Shape)
		}
		addScaled(w.Data, t["diff"].Data, float32(strength))
		return w, nil
	}
	if len(w.Shape) < 2 {
		return nil, c.fail("a product does not fit the vector %v", w.Shape)
	}
	if t["reshape"] != nil {
		if w, err = c.enlarged(w); err != nil {
			return nil, err
		}
	}
	delta, scale, err := c.delta(t, w)
	if err != nil {
		return nil, err
	}
	if t["dora"] != nil {
		return w, c.decomposed(w, dora{delta, t["dora"], scale, float32(strength)})
	}
	addScaled(w.Data, delta, float32(strength*float64(scale)))
	return w, nil
}

// delta returns what the change adds to a weight at strength 1, before it is
// scaled, and the scale: alpha over the rank, 1 without an alpha.
func (c *Change) delta(t map[string]*tensor.Tensor, w *tensor.Tensor) (delta []float32, scale float32, err error) {
	switch c.kind {
	case hadamard:
		return c.hadamard(t, w.Shape)
	case kronecker:
		return c.kronecker(t, w.Shape)
	case generalised:
		return c.generalised(t, w)
	}
	up, down, scale, err := c.factors(t, w.Shape)
	if err != nil {
		return nil, 0, err
	}
	return matmul(up, down).Data, scale, nil
}

// scaleOf returns alpha over a rank, 1 without an alpha.
func scaleOf(t map[string]*tensor.Tensor, rank int) float32 {
	if t["alpha"] == nil || len(t["alpha"].Data) == 0 || rank == 0 {
		return 1
	}
	return float32(float64(t["alpha"].Data[0]) / float64(rank))
}

// factors brings the factors of a low-rank change to matrices that fit the
// weight.
func (c *Change) factors(t map[string]*tensor.Tensor, shape tensor.Shape) (up, down *tensor.Tensor, scale float32, err error) {
	up, down = matrix(t["up"]), matrix(t["down"])
	scale = scaleOf(t, down.Dim(0))
	if mid := t["mid"]; mid != nil {
		// mid is [rank, rank, kernel, kernel]: contract it with down.
		if len(mid.Shape) < 2 || mid.Dim(1) != down.Dim(0) || len(mid.Data) == 0 {
			return nil, nil, 0, c.fail("a middle of %v does not fit %v", mid.Shape, down.Shape)
		}
		down = contract(mid, down)
	}
	if up.Dim(1) != down.Dim(0) || up.Dim(0)*down.Dim(1) != shape.Elements() {
		return nil, nil, 0, c.fail("factors of %v and %v do not fit the weight %v", up.Shape, down.Shape, shape)
	}
	return up, down, scale, nil
}

// contract returns Σ_q mid[p,q,k]·m[q,i] as the matrix [p, (i,k)]: m seen
// through a kernel.
func contract(mid, m *tensor.Tensor) *tensor.Tensor {
	p, q, in := mid.Dim(0), mid.Dim(1), m.Dim(1)
	kernel := len(mid.Data) / (p * q)
	out := tensor.New(p, in*kernel)
	for i := range p {
		row := out.Data[i*in*kernel:][:in*kernel]
		for j := range q {
			taps := mid.Data[(i*q+j)*kernel:][:kernel]
			for x, v := range m.Data[j*in:][:in] {
				for k, tap := range taps {
					row[x*kernel+k] += tap * v
				}
			}
		}
	}
	return out
}

// hadamard is LoHa: the product, element by element, of two low-rank matrices.
// Source: Hyeon-Woo et al., FedPara, 2022.
func (c *Change) hadamard(t map[string]*tensor.Tensor, shape tensor.Shape) ([]float32, float32, error) {
	a, err := c.half(t["w1a"], t["w1b"], t["t1"])
	if err != nil {
		return nil, 0, err
	}
	b, err := c.half(t["w2a"], t["w2b"], t["t2"])
	if err != nil {
		return nil, 0, err
	}
	if len(a.Data) != len(b.Data) || len(a.Data) != shape.Elements() {
		return nil, 0, c.fail("products of %v and %v do not fit the weight %v", a.Shape, b.Shape, shape)
	}
	for i, v := range b.Data {
		a.Data[i] *= v
	}
	return a.Data, scaleOf(t, matrix(t["w1b"]).Dim(0)), nil
}

// half is a·b, or with a Tucker core m[p,r,k] = Σ_ij core[i,j,k]·b[j,r]·a[i,p].
func (c *Change) half(a, b, core *tensor.Tensor) (*tensor.Tensor, error) {
	a, b = matrix(a), matrix(b)
	if core == nil {
		if a.Dim(1) != b.Dim(0) {
			return nil, c.fail("factors of %v and %v do not fit", a.Shape, b.Shape)
		}
		return matmul(a, b), nil
	}
	if len(core.Data) == 0 || len(core.Shape) < 2 || core.Dim(0) != a.Dim(0) || core.Dim(1) != b.Dim(0) {
		return nil, c.fail("a core of %v does not fit %v and %v", core.Shape, a.Shape, b.Shape)
	}
	return matmul(transposed(a), contract(core, b)), nil
}

// kronecker is LoKr: w1⊗w2, each whole or as factors.
// Source: Yeh et al., Navigating Text-To-Image Customization (LyCORIS), 2024.
func (c *Change) kronecker(t map[string]*tensor.Tensor, shape tensor.Shape) ([]float32, float32, error) {
	w1, w2 := t["w1"], t["w2"]
	rank := 0
	var err error
	if w1 == nil && t["w1a"] != nil && t["w1b"] != nil {
		rank = matrix(t["w1b"]).Dim(0)
		w1, err = c.half(t["w1a"], t["w1b"], nil)
	}
	if w2 == nil && t["w2a"] != nil && t["w2b"] != nil && err == nil {
		rank = matrix(t["w2b"]).Dim(0)
		w2, err = c.half(t["w2a"], t["w2b"], t["t2"])
	}
	if err != nil {
		return nil, 0, err
	}
	if w1 == nil || w2 == nil {
		return nil, 0, c.fail("one of the two factors is missing")
	}
	if len(w1.Data)*len(w2.Data) != shape.Elements() || len(w1.Shape) < 2 || len(w2.Shape) < 2 {
		return nil, 0, c.fail("factors of %v and %v do not fit the weight %v", w1.Shape, w2.Shape, shape)
	}
	return kron(matrix(w1), matrix(w2), shape), scaleOf(t, rank), nil
}

// kron returns a⊗b for matrices. b's columns may be those of a kernel, [in,
// kernel…], which stay together: with the weight's kernel behind the columns the
// order is the same.
func kron(a, b *tensor.Tensor, shape tensor.Shape) []float32 {
	out := make([]float32, shape.Elements())
	rows, cols := b.Dim(0), b.Dim(1)
	width := a.Dim(1) * cols
	for i := range a.Dim(0) {
		for j, v := range a.Data[i*a.Dim(1):][:a.Dim(1)] {
			for r := range rows {
				dst := out[(i*rows+r)*width+j*cols:][:cols]
				for k, x := range b.Data[r*cols:][:cols] {
					dst[k] = v * x
				}
			}
		}
	}
	return out
}

// generalised is GLoRA: b1·b2 + W·a1·a2, in old files b2·b1 + W·a2·a1.
// Source: Chavan et al., One-for-All: Generalized LoRA, 2023.
func (c *Change) generalised(t map[string]*tensor.Tensor, w *tensor.Tensor) ([]float32, float32, error) {
	a1, a2, b1, b2 := matrix(t["a1"]), matrix(t["a2"]), matrix(t["b1"]), matrix(t["b2"])
	rank := a2.Dim(0)
	old := b2.Dim(1) == b1.Dim(0) && b1.Dim(0) == a1.Dim(0) && a1.Dim(0) == a2.Dim(1)
	now := b2.Dim(0) == b1.Dim(1) && b1.Dim(1) == a1.Dim(1) && a1.Dim(1) == a2.Dim(0)
	square := len(w.Shape) > 1 && a2.Dim(0) == w.Dim(0) && w.Dim(0) == w.Dim(1)
	if old && (!now || square) {
		rank = a1.Dim(0)
		a1, a2, b1, b2 = a2, a1, b2, b1
	}
	m := matrix(w)
	in := w.Dim(1)
	kernel := m.Dim(1) / in
	if a1.Dim(0) != in || a1.Dim(1) != a2.Dim(0) || a2.Dim(1) != in || b1.Dim(1) != b2.Dim(0) ||
		b1.Dim(0)*b2.Dim(1) != len(w.Data) {
		return nil, 0, c.fail("factors of %v, %v, %v and %v do not fit the weight %v", a1.Shape, a2.Shape, b1.Shape, b2.Shape, w.Shape)
	}
	delta := matmul(b1, b2).Data
	inner := matmul(a1, a2)
	for k := range kernel {
		product := matmul(tap(m, k, kernel), inner)
		for i, v := range product.Data {
			delta[i*kernel+k] += v
		}
	}
	return delta, scaleOf(t, rank), nil
}

// tap returns the matrix [out, in] of one place in a kernel.
func tap(m *tensor.Tensor, k, kernel int) *tensor.Tensor {
	if kernel == 1 {
		return m
	}
	out := tensor.New(m.Dim(0), m.Dim(1)/kernel)
	for i := range out.Data {
		out.Data[i] = m.Data[i*kernel+k]
	}
	return out
}

// dora is a change of direction and length.
type dora struct {
	delta     []float32
	magnitude *tensor.Tensor
	scale     float32
	strength  float32
}

// decomposed changes w to W + strength·(V·m/|·| − W) with V = W + scale·Δ: the
// file says how long each row (or each input column) shall be.
// Source: Liu et al., DoRA: Weight-Decomposed Low-Rank Adaptation, 2024.
func (c *Change) decomposed(w *tensor.Tensor, d dora) error {
	rows, m := w.Dim(0), matrix(d.magnitude)
	in := len(w.Data) / rows
	byRow := m.Dim(0) == rows
	groups := rows
	if !byRow {
		groups = w.Dim(1)
	}
	if len(m.Data) != groups {
		return c.fail("%d magnitudes do not fit the weight %v", len(m.Data), w.Shape)
	}
	v := make([]float32, len(w.Data))
	copy(v, w.Data)
	addScaled(v, d.delta, d.scale)
	group := func(i int) int { return i / in }
	measured := w.Data
	if !byRow {
		kernel := in / groups
		group = func(i int) int { return i % in / kernel }
		measured = v
	}
	squares := make([]float64, groups)
	for i, x := range measured {
		squares[group(i)] += float64(x) * float64(x)
	}
	const epsilon = 1.1920929e-07 // float32's
	for i := range v {
		g := group(i)
		v[i] *= m.Data[g] / (float32(math.Sqrt(squares[g])) + epsilon)
		if d.strength == 1 {
			w.Data[i] = v[i]
		} else {
			w.Data[i] += d.strength * (v[i] - w.Data[i])
		}
	}
	return nil
}

// enlarged returns w in the corner of a tensor of zeros of the change's shape.
func (c *Change) enlarged(w *tensor.Tensor) (*tensor.Tensor, error) {
	shape, err := c.Shape(w.Shape)
	if err != nil || shape.Equal(w.Shape) {
		return w, err
	}
	if len(shape) != len(w.Shape) {
		return nil, c.fail("the weight %v cannot grow to %v", w.Shape, shape)
	}
	for i, d := range w.Shape {
		if shape[i] < d {
			return nil, c.fail("the weight %v cannot grow to %v", w.Shape, shape)
		}
	}
	out := tensor.New(shape...)
	pad(out.Data, w.Data, shape, w.Shape)
	return out, nil
}

// pad copies src of shape small into the corner of dst of shape big.
func pad(dst, src []float32, big, small tensor.Shape) {
	if len(small) == 1 {
		copy(dst, src)
		return
	}
	to, from := big[1:].Elements(), small[1:].Elements()
	for i := range small[0] {
		pad(dst[i*to:][:to], src[i*from:][:from], big[1:], small[1:])
	}
}
