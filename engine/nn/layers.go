package nn

import (
	"math"
	"slices"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Linear returns x·Wᵀ + b for a weight [out, in] and a bias [out]. x is
// [batch, tokens, in] or [batch, in].
func Linear(p Scope, x *Value, out int) *Value {
	return LinearNoBias(p, x, out).Add(p.Param("bias", out))
}

// LinearNoBias returns x·Wᵀ.
func LinearNoBias(p Scope, x *Value, out int) *Value {
	return matmul(x, p.Param("weight", out, x.Dim(-1)))
}

// LinearRows is Linear with the rows lo to lo+out of a larger weight, which
// has a bias.
func LinearRows(p Scope, x *Value, lo, out int) *Value {
	return matmul(x, p.Rows("weight", lo, out, x.Dim(-1))).Add(p.Rows("bias", lo, out))
}

// LinearRowsGelu is LinearRows followed by the exact GELU.
func LinearRowsGelu(p Scope, x *Value, lo, out int) *Value {
	y := matmul(x, p.Rows("weight", lo, out, x.Dim(-1)))
	return x.b.apply(call{op: "BiasGelu", domain: microsoft, in: []*Value{y, p.Rows("bias", lo, out)}}, y.shape)
}

// matmul returns x·wᵀ. The weight stays as it lies in the file: transposing it
// while loading would copy it.
func matmul(x, w *Value) *Value {
	shape := append(slices.Clone(x.shape[:len(x.shape)-1]), w.shape[0])
	return x.b.apply(call{op: "FusedMatMul", domain: microsoft, in: []*Value{x, w}, attrs: []onnx.Attr{attr("transB", int64(1))}}, shape)
}

// Window is the geometry of a convolution: a square kernel, its stride and the
// zeros around the picture.
type Window struct {
	Kernel, Stride int
	// Pads are rows and columns of zeros: top, left, bottom, right.
	Pads [4]int
}

// Same returns the window that keeps the picture's size at stride 1.
func Same(kernel int) Window {
	q := kernel / 2
	return Window{Kernel: kernel, Stride: 1, Pads: [4]int{q, q, q, q}}
}

// Conv is a convolution over [batch, channel, height, width] with a weight
// [out, in, kernel, kernel] and a bias.
func Conv(p Scope, x *Value, out int, w Window) *Value {
	if y := winogradConv(p, x, w, out); y != nil {
		return y
	}
	weight := p.Param("weight", out, x.Dim(1), w.Kernel, w.Kernel)
	return conv(x, weight, p.Param("bias", out), w)
}

// ConvAdd is Conv plus a value of its result's shape, or [batch, out, 1, 1].
func ConvAdd(p Scope, x *Value, plus *Value, w Window) *Value {
	out := plus.Dim(1)
	if y := winogradConv(p, x, w, out, plus); y != nil {
		return y
	}
	return Conv(p, x, out, w).Add(plus)
}

func conv(x, weight, bias *Value, w Window) *Value {
	k, s := int64(w.Kernel), int64(w.Stride)
	pads := make([]int64, 4)
	for i, p := range w.Pads {
		pads[i] = int64(p)
	}
	return x.b.apply(call{op: "Conv", in: []*Value{x, weight, bias}, attrs: []onnx.Attr{
		attr("kernel_shape", []int64{k, k}), attr("strides", []int64{s, s}), attr("pads", pads),
	}}, []int{x.shape[0], weight.shape[0], Any, Any})
}

// UpConv doubles height and width by repeating pixels and applies a 3x3
// convolution. Four 2x2 convolutions on the small picture, one for each position
// in a doubled pixel, give the same sums with 16 instead of 36 products;
// DepthToSpace interleaves them.
func UpConv(p Scope, x *Value, out int) *Value {
	in := x.Dim(1)
	if y := winogradConv(p, Upsample(x, 2), Same(3), out); y != nil {
		return y
	}
	weight, ok := p.source("weight", tensor.Shape{out, in, 3, 3})
	if !ok {
		return x
	}
	folded := weight.Then(tensor.Shape{4 * out, in, 2, 2}, Make{Name: "fold-upsample-2x", Apply: foldUpsample(out * in)})
	bias := p.Param("bias", out)
	var parts []*Value
	for phase := range 4 {
		top, left := 1-phase/2, 1-phase%2
		w := Window{Kernel: 2, Stride: 1, Pads: [4]int{top, left, 1 - top, 1 - left}}
		view := view{label: "weight folded", lo: phase * out, shape: []int{out, in, 2, 2}}
		parts = append(parts, conv(x, p.viewOf(folded, view), bias, w))
	}
	return x.b.apply(call{op: "DepthToSpace", in: []*Value{Concat(1, parts...)}, attrs: []onnx.Attr{
		attr("blocksize", int64(2)), attr("mode", "DCR"),
	}}, []int{x.shape[0], out, Any, Any})
}

// foldUpsample returns the function that turns planes 3x3 kernels into four
// sets of 2x2 kernels, one for each position (row, column) in a doubled pixel.
// At an even position the middle and last taps meet the same source pixel, at
// an odd one the first and middle.
func foldUpsample(planes int) func(dst []float32, src []*tensor.Tensor) error {
	first := [2][3]int{{0, 1, 1}, {0, 0, 1}} // position, tap -> place in the small kernel
	return func(dst []float32, src []*tensor.Tensor) error {
		clear(dst)
		for i := range planes {
			for phase := range 4 {
				small, big := dst[(phase*planes+i)*4:][:4], src[0].Data[9*i:][:9]
				for tap, v := range big {
					small[2*first[phase/2][tap/3]+first[phase%2][tap%3]] += v
				}
			}
		}
		return nil
	}
}

// GroupNorm normalises each of 32 groups of channels of [batch, channel,
// height, width], then scales and shifts by channel.
// Source: Wu and He, Group Normalization, 2018.
func GroupNorm(p Scope, x *Value, eps float32) *Value {
	const groups = 32
	c := x.Dim(1)
	if c%groups != 0 {
		failf("GroupNorm: %d channels do not make %d groups", c, groups)
	}
	ones, zeros := make([]float32, groups), make([]float32, groups)
	for i := range ones {
		ones[i] = 1
	}
	y := x.Reshape(0, groups, Any)
	y = x.b.apply(call{
		op: "InstanceNormalization", in: []*Value{y, x.b.floats(ones, groups), x.b.floats(zeros, groups)},
		attrs: []onnx.Attr{attr("epsilon", eps)},
	}, y.shape)
	return y.ReshapeLike(x).Mul(p.Param("weight", c, 1, 1)).Add(p.Param("bias", c, 1, 1))
}

// LayerNorm normalises the last dimension, eps 1e-5, then scales and shifts.
func LayerNorm(p Scope, x *Value) *Value {
	c := x.Dim(-1)
	return x.b.apply(call{
		op: "LayerNormalization", in: []*Value{x, p.Param("weight", c), p.Param("bias", c)},
		attrs: []onnx.Attr{attr("axis", int64(-1)), attr("epsilon", float32(1e-5))},
	}, x.shape)
}

// Heads describes an attention: the number of heads and whether a token sees
// only itself and those before it.
type Heads struct {
	Count  int
	Causal bool
}

// Attention is softmax(q·kᵀ/√d)·v in h.Count heads; q is [batch, tokens,
// width], k and v may have other numbers of tokens.
func Attention(q, k, v *Value, h Heads) *Value {
	if q.Dim(-1)%h.Count != 0 {
		failf("Attention: width %d does not make %d heads", q.Dim(-1), h.Count)
	}
	attrs := []onnx.Attr{attr("num_heads", int64(h.Count))}
	if h.Causal {
		attrs = append(attrs, attr("unidirectional", int64(1)))
	}
	return q.b.apply(call{op: "MultiHeadAttention", domain: microsoft, in: []*Value{q, k, v}, attrs: attrs}, q.shape)
}

// UpsampleTo repeats pixels until x has the height and width of like.
func UpsampleTo(x, like *Value) *Value {
	return x.resizedWith(like.size(), []onnx.Attr{
		attr("mode", "nearest"), attr("coordinate_transformation_mode", "asymmetric"), attr("nearest_mode", "floor"),
	})
}

// Tokens turns a picture [batch, channel, height, width] into tokens
// [batch, height·width, channel], row by row.
func Tokens(x *Value) *Value { return x.Reshape(0, x.Dim(1), Any).Transpose(0, 2, 1) }

// Picture turns tokens back into a picture with the height and width of like
// and as many channels.
func Picture(x, like *Value) *Value { return x.Transpose(0, 2, 1).ReshapeLike(like) }

// TimestepEmbedding returns [cos(t·f), sin(t·f)] of timesteps [batch], dim
// numbers each, with f_k = 10000^(-k/(dim/2)).
// Source: Vaswani et al., Attention Is All You Need, 2017, with the cosines
// first as in the Stable Diffusion checkpoints.
func TimestepEmbedding(t *Value, dim int) *Value {
	freqs := Frequencies(dim / 2)
	angles := t.Reshape(Any, 1).Mul(t.b.floats(freqs, 1, len(freqs)))
	return Concat(1, angles.Cos(), angles.Sin())
}

// Frequencies returns 10000^(-k/n) for k = 0…n-1, float32 at each step: the
// angle of timestep 999 depends on it.
func Frequencies(n int) []float32 {
	out := make([]float32, n)
	for k := range out {
		out[k] = float32(math.Exp(float64(float32(-math.Log(10000)) * float32(k) / float32(n))))
	}
	return out
}
