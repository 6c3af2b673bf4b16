package nn

import (
	"fmt"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

// Pictures are [batch, channel, height, width] for those who describe
// architectures, and for ONNX's convolutions. Where GPUs work, channels come
// last: the runtimes' providers turn convolutions round, and put a Transpose
// before and behind each; two that meet cancel each other. So on GPUs what can
// do with channels last takes them so, and no Transpose remains on CUDA but at
// the ends of the graph.

// channelsLast returns a picture as [batch, height, width, channel].
func (v *Value) channelsLast() *Value {
	if v.last == nil {
		v.last = v.Transpose(0, 2, 3, 1)
		v.last.first = v
	}
	return v.last
}

// channelsFirst returns a picture that has channels last as [batch, channel,
// height, width].
func (v *Value) channelsFirst() *Value {
	if v.first == nil {
		v.first = v.Transpose(0, 3, 1, 2)
		v.first.last = v
	}
	return v.first
}

// Tokens turns a picture [batch, channel, height, width] into tokens
// [batch, height·width, channel], row by row.
func Tokens(x *Value) *Value {
	if x.b.target.onCPU() {
		return x.Reshape(0, x.Dim(1), Any).Transpose(0, 2, 1)
	}
	return x.channelsLast().Reshape(0, Any, x.Dim(1))
}

// Picture turns tokens back into a picture with the height and width of like
// and as many channels.
func Picture(x, like *Value) *Value {
	if x.b.target.onCPU() {
		return x.Transpose(0, 2, 1).ReshapeLike(like)
	}
	if x.b.target.Provider == CUDA {
		like := like.settled()
		return x.ReshapeLike(like).Reshape(0, 0, 0, x.Dim(2)).channelsFirst()
	}
	return x.ReshapeLike(like.channelsLast()).channelsFirst()
}

// ConvTokens is a convolution of kernel 1 whose result is tokens.
func ConvTokens(p Scope, x *Value, out int) *Value {
	if x.b.target.onCPU() {
		return Tokens(Conv(p, x, out, Same(1)))
	}
	return Linear(p, Tokens(x), out)
}

// ConvPicture turns tokens into a picture like another one, on which a
// convolution of kernel 1 is applied.
func ConvPicture(p Scope, x, like *Value) *Value {
	if x.b.target.onCPU() {
		return Conv(p, Picture(x, like), like.Dim(1), Same(1))
	}
	return Picture(Linear(p, x, like.Dim(1)), like)
}

// pixels returns height (0) and width (1) of a picture, lo to hi-1 of them, as a
// vector of int64.
func (v *Value) pixels(lo, hi int) *Value { return v.settled().sizes(1+lo, 1+hi) }

// settled returns a picture as [batch, height, width, 1, channel], whose sizes
// the operator Shape gives to the host, where operators want them, whatever is
// done about layouts. Where CUDA's provider turns convolutions round, it computes
// on the GPU with what Shape gave, and asks for the sizes of a picture that it
// has turned in such a way: with a copy there and one back, for which all waits.
func (v *Value) settled() *Value {
	return v.b.once("settled "+v.name, func() *Value { return v.channelsLast().Reshape(0, 0, 0, 1, v.Dim(1)) })
}

// sizes returns the sizes of dimensions lo to hi-1 as a vector of int64.
func (v *Value) sizes(lo, hi int) *Value {
	return v.b.once(fmt.Sprintf("Shape(%s)[%d:%d]", v.name, lo, hi), func() *Value {
		attrs := []onnx.Attr{attr("start", int64(lo)), attr("end", int64(hi))}
		return v.b.apply(call{op: "Shape", in: []*Value{v}, attrs: attrs, elem: onnx.Int64}, []int{hi - lo})
	})
}
