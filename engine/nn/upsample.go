package nn

import (
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Upsample repeats each pixel of [batch, channel, height, width] n times in
// both directions.
func Upsample(x *Value, n int) *Value {
	factor := float32(n)
	if !x.b.target.resizesLast() {
		scales := x.b.floats([]float32{1, 1, factor, factor}, 4)
		return x.b.apply(call{op: "Resize", in: []*Value{x, nil, scales}, attrs: repeated()}, []int{x.shape[0], x.shape[1], Any, Any})
	}
	last, scales := x.channelsLast(), x.b.floats([]float32{1, factor, factor, 1}, 4)
	return x.b.apply(call{op: "Resize", in: []*Value{last, nil, scales}, attrs: repeated()}, last.shape).channelsFirst()
}

// UpsampleTo repeats pixels until x has the height and width of like.
func UpsampleTo(x, like *Value) *Value {
	if !x.b.target.resizesLast() {
		return x.resizedWith(like.size(), repeated())
	}
	return x.channelsLast().resizedAt(1, like.pixels(0, 2), repeated()).channelsFirst()
}

// repeated are the attributes of Resize for repeating pixels.
func repeated() []onnx.Attr {
	return []onnx.Attr{attr("mode", "nearest"), attr("coordinate_transformation_mode", "asymmetric"), attr("nearest_mode", "floor")}
}

// resizesLast reports whether pictures are best resized with channels last:
// CUDA's Resize works on any dimensions, and no Transpose passes it.
func (t Target) resizesLast() bool { return t.Provider == CUDA }

// UpConv doubles height and width by repeating pixels and applies a 3x3
// convolution.
func UpConv(p Scope, x *Value, out int) *Value {
	if x.b.target.onCPU() {
		return foldedConv(p, x, out)
	}
	return Conv(p, Upsample(x, 2), out, Same(3))
}

// foldedConv is UpConv for the CPU: four 2x2 convolutions on the small picture,
// one for each position in a doubled pixel, give the same sums with 16 instead
// of 36 products; DepthToSpace interleaves them.
func foldedConv(p Scope, x *Value, out int) *Value {
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
