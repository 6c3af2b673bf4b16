package weights

import "github.com/comfyrun/comfyrun/engine/tensor"

// matrix returns t as [first dimension, the others]; a vector is a column.
func matrix(t *tensor.Tensor) *tensor.Tensor {
	rows := 1
	if len(t.Shape) > 0 {
		rows = max(t.Dim(0), 1)
	}
	return tensor.Of(t.Data, rows, len(t.Data)/rows)
}

// transposed returns the transposed matrix.
func transposed(m *tensor.Tensor) *tensor.Tensor {
	out := tensor.New(m.Dim(1), m.Dim(0))
	for i := range m.Dim(0) {
		for j, v := range m.Data[i*m.Dim(1):][:m.Dim(1)] {
			out.Data[j*m.Dim(0)+i] = v
		}
	}
	return out
}

// matmul returns a·b for matrices [m, k] and [k, n], summing in float32.
func matmul(a, b *tensor.Tensor) *tensor.Tensor {
	k, n := a.Dim(1), b.Dim(1)
	out := tensor.New(a.Dim(0), n)
	for i := range a.Dim(0) {
		dst, row := out.Data[i*n:][:n], a.Data[i*k:][:k]
		// Four rows of b at once: a load and a store of dst for four products.
		j := 0
		for ; j+4 <= k; j += 4 {
			addFour(dst, b.Data[j*n:][:4*n], [4]float32(row[j:]))
		}
		for ; j < k; j++ {
			addScaled(dst, b.Data[j*n:][:n], row[j])
		}
	}
	return out
}

// addFour adds to dst the four rows of b, each times its factor.
func addFour(dst, b []float32, f [4]float32) {
	n := len(dst)
	b0, b1, b2, b3 := b[:n], b[n:][:n], b[2*n:][:n], b[3*n:][:n]
	f0, f1, f2, f3 := f[0], f[1], f[2], f[3]
	for i, v := range dst {
		dst[i] = v + (f0*b0[i] + f1*b1[i]) + (f2*b2[i] + f3*b3[i])
	}
}

// addScaled adds f·src to dst.
func addScaled(dst, src []float32, f float32) {
	src = src[:len(dst)]
	for i, v := range src {
		dst[i] += f * v
	}
}

func multiply(data []float32, f float32) {
	for i := range data {
		data[i] *= f
	}
}
