package ort_test

import (
	"math"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Plain implementations of operators in float64, after the definitions in
// https://onnx.ai/onnx/operators/ and ONNX Runtime's ContribOperators.md.

// index returns the offset of a position in a row-major tensor.
func index(s tensor.Shape, at ...int) int {
	n := 0
	for i, d := range s {
		n = n*d + at[i]
	}
	return n
}

// build fills a tensor position by position.
func build(f func(at []int) float64, shape ...int) *tensor.Tensor {
	t := tensor.New(shape...)
	at := make([]int, len(shape))
	for i := range t.Data {
		for d, rest := len(shape)-1, i; d >= 0; d-- {
			at[d], rest = rest%shape[d], rest/shape[d]
		}
		t.Data[i] = float32(f(at))
	}
	return t
}

func at(t *tensor.Tensor, pos ...int) float64 { return float64(t.Data[index(t.Shape, pos...)]) }

func mapped(t *tensor.Tensor, f func(float64) float64) *tensor.Tensor {
	out := t.Clone()
	for i, v := range t.Data {
		out.Data[i] = float32(f(float64(v)))
	}
	return out
}

// conv is a convolution; pads are top, left, bottom, right.
func conv(x, w, bias *tensor.Tensor, stride int, pads [4]int) *tensor.Tensor {
	k := w.Dim(2)
	h := (x.Dim(2)+pads[0]+pads[2]-k)/stride + 1
	wd := (x.Dim(3)+pads[1]+pads[3]-k)/stride + 1
	return build(func(p []int) float64 {
		sum := at(bias, p[1])
		for c := range x.Dim(1) {
			for i := range k {
				for j := range k {
					y, z := p[2]*stride+i-pads[0], p[3]*stride+j-pads[1]
					if y >= 0 && y < x.Dim(2) && z >= 0 && z < x.Dim(3) {
						sum += at(x, p[0], c, y, z) * at(w, p[1], c, i, j)
					}
				}
			}
		}
		return sum
	}, x.Dim(0), w.Dim(0), h, wd)
}

// linear multiplies x [B, M, K] with the transpose of w [N, K].
func linear(x, w *tensor.Tensor) *tensor.Tensor {
	return build(func(p []int) float64 {
		sum := 0.0
		for k := range w.Dim(1) {
			sum += at(x, p[0], p[1], k) * at(w, p[2], k)
		}
		return sum
	}, x.Dim(0), x.Dim(1), w.Dim(0))
}

// normalize scales runs of n neighbouring elements to mean 0 and variance 1.
func normalize(x *tensor.Tensor, n int, eps float64) *tensor.Tensor {
	out := x.Clone()
	for lo := 0; lo < len(x.Data); lo += n {
		mean, square := 0.0, 0.0
		for _, v := range x.Data[lo : lo+n] {
			mean += float64(v) / float64(n)
		}
		for _, v := range x.Data[lo : lo+n] {
			square += (float64(v) - mean) * (float64(v) - mean) / float64(n)
		}
		for i, v := range x.Data[lo : lo+n] {
			out.Data[lo+i] = float32((float64(v) - mean) / math.Sqrt(square+eps))
		}
	}
	return out
}

// affine multiplies with scale and adds shift along dimension axis.
func affine(x, scale, shift *tensor.Tensor, axis int) *tensor.Tensor {
	return build(func(p []int) float64 {
		return at(x, p...)*at(scale, p[axis]) + at(shift, p[axis])
	}, x.Shape...)
}

func softmax(row []float64) {
	top, sum := math.Inf(-1), 0.0
	for _, v := range row {
		top = max(top, v)
	}
	for i, v := range row {
		row[i] = math.Exp(v - top)
		sum += row[i]
	}
	for i := range row {
		row[i] /= sum
	}
}

// attention is multi-head attention: q [B, S, H*d], k and v [B, T, H*d], bias
// [3*H*d] or nil. causal leaves out keys behind the query's position.
func attention(q, k, v, bias *tensor.Tensor, heads int, causal bool) *tensor.Tensor {
	width := q.Dim(2)
	if bias != nil {
		one := tensor.Full(1, width)
		part := func(i int) *tensor.Tensor { return tensor.Of(bias.Data[i*width:(i+1)*width], width) }
		q, k, v = affine(q, one, part(0), 2), affine(k, one, part(1), 2), affine(v, one, part(2), 2)
	}
	d, out := width/heads, tensor.New(q.Shape...)
	for b := range q.Dim(0) {
		for h := range heads {
			for s := range q.Dim(1) {
				keys := k.Dim(1)
				if causal {
					keys = s + 1
				}
				row := make([]float64, keys)
				for t := range row {
					for i := range d {
						row[t] += at(q, b, s, h*d+i) * at(k, b, t, h*d+i) / math.Sqrt(float64(d))
					}
				}
				softmax(row)
				for i := range d {
					sum := 0.0
					for t, p := range row {
						sum += p * at(v, b, t, h*d+i)
					}
					out.Data[index(q.Shape, b, s, h*d+i)] = float32(sum)
				}
			}
		}
	}
	return out
}
