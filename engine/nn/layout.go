package nn

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

// sizesLast returns the sizes of a picture with channels last as int64: the
// graph's batch, height and width as given, and a number of channels.
func (b *builder) sizesLast(size *Value, channels int) *Value {
	return Concat(0, b.batchSize(), size, b.ints(channels))
}
