package nn

import (
	"slices"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

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

// ConvNoBias is Conv without a bias.
func ConvNoBias(p Scope, x *Value, out int, w Window) *Value {
	weight := p.Param("weight", out, x.Dim(1), w.Kernel, w.Kernel)
	return conv(x, weight, x.b.floats(make([]float32, out), out), w)
}

// ConvAdd is Conv plus a value of its result's shape, or [batch, out, 1, 1].
func ConvAdd(p Scope, x *Value, plus *Value, w Window) *Value {
	out := plus.Dim(1)
	if y := winogradConv(p, x, w, out, plus); y != nil {
		return y
	}
	return sumOf(Conv(p, x, out, w), plus)
}

func conv(x, weight, bias *Value, w Window) *Value {
	x, bias = x.working(), bias.working()
	if n := x.lackingChannels(); n > 0 {
		more := [8]int{5: n}
		x, weight = x.padded(more), weight.padded(more)
	}
	if p := w.Pads; x.b.target.Provider == CUDA && (p[0] != p[2] || p[1] != p[3]) {
		// cuDNN knows no other padding than the same on both sides.
		x, w.Pads = x.padded([8]int{2: p[0], 3: p[1], 6: p[2], 7: p[3]}), [4]int{}
	}
	k, s := int64(w.Kernel), int64(w.Stride)
	pads := make([]int64, 4)
	for i, p := range w.Pads {
		pads[i] = int64(p)
	}
	return x.b.apply(call{op: "Conv", in: []*Value{x, weight, bias}, attrs: []onnx.Attr{
		attr("kernel_shape", []int64{k, k}), attr("strides", []int64{s, s}), attr("pads", pads),
	}}, []int{x.shape[0], weight.shape[0], Any, Any})
}

// lackingChannels returns how many channels a picture lacks to be a sound input
// of a convolution. That of WebGPU is wrong where three channels make a whole
// number of vectors and four do not, as for the nine of an inpainting model.
func (v *Value) lackingChannels() int {
	c := v.Dim(1)
	if v.b.target.Provider != WebGPU || c <= 3 || c%3 != 0 {
		return 0
	}
	return (4 - c%4) % 4
}

// padded puts zeros around a picture: before each of its dimensions, then behind
// each.
func (v *Value) padded(zeros [8]int) *Value {
	shape := slices.Clone(v.shape)
	for i := range shape {
		if shape[i] != Any {
			shape[i] += zeros[i] + zeros[4+i]
		}
	}
	return v.b.apply(call{op: "Pad", in: []*Value{v, v.b.ints(zeros[:]...)}}, shape)
}
