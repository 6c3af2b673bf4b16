package ort

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Probe tries the device with small graphs whose results are compared with the
// CPU's. It tells whether half precision and the fused attention operator
// can be used; a device that does not work at all, or computes wrong, is an
// *Error with CodeDevice. Name, Software and the sizes of its memory are not
// known to ONNX Runtime and left alone. Probing a GPU takes about a second.
func (e *Env) Probe(ctx context.Context, d Device) (*Capabilities, error) {
	if d.cpu() {
		return &Capabilities{Attention: true}, e.Check(ctx)
	}
	p := prober{e, d}
	if err := p.try(ctx, convolution(onnx.Float), 1e-4); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		if known, ok := err.(*Error); ok {
			return nil, known
		}
		return nil, &Error{Op: "probe device", Code: CodeDevice, Provider: d.String(), Message: err.Error()}
	}
	c := &Capabilities{Float16: p.try(ctx, convolution(onnx.Float16), 1e-2) == nil}
	c.Attention = p.try(ctx, attention(onnx.Float), 1e-3) == nil
	if c.Float16 && c.Attention {
		c.Attention = p.try(ctx, attention(onnx.Float16), 1e-2) == nil
	}
	return c, ctx.Err()
}

// prober tries graphs on a device.
type prober struct {
	env    *Env
	device Device
}

// try runs the model on the device and on the CPU. Results must not differ by
// more than tolerance times the largest value, and no node may have been left
// to the CPU.
func (p prober) try(ctx context.Context, m *onnx.Model, tolerance float64) error {
	in := map[string]*tensor.Tensor{}
	for i, v := range m.Graph.Inputs {
		in[v.Name] = wave(i, v)
	}
	want, _, err := p.run(ctx, m, Device{}, in)
	if err != nil {
		return err
	}
	got, placed, err := p.run(ctx, m, p.device, in)
	if err != nil {
		return err
	}
	for _, n := range placed {
		if n.Provider == "CPU" {
			return fmt.Errorf("%s has no kernel for %s", p.device, n.Op)
		}
	}
	worst, scale := 0.0, 0.0
	for i, v := range want.Data {
		scale = max(scale, math.Abs(float64(v)))
		if d := math.Abs(float64(v) - float64(got.Data[i])); d > worst || d != d {
			worst = d
		}
	}
	if !(worst <= tolerance*scale) {
		return fmt.Errorf("%s: the result is off by %.2g of %.2g", m.Graph.Name, worst, scale)
	}
	return nil
}

// run returns the first output and which provider ran what.
func (p prober) run(ctx context.Context, m *onnx.Model, d Device, in map[string]*tensor.Tensor) (*tensor.Tensor, []Placed, error) {
	s, err := p.env.NewSession(m, Options{Name: "probe " + m.Graph.Name, Device: d, Threads: 1, Placement: true})
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	out, err := s.Run(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	placed, err := s.Placement()
	return out[s.outputs[0]], placed, err
}

// wave returns values in [-1, 1] that look random.
func wave(seed int, v onnx.ValueInfo) *tensor.Tensor {
	var shape tensor.Shape
	for _, d := range v.Dims {
		shape = append(shape, int(d.Size))
	}
	t := tensor.New(shape...)
	for i := range t.Data {
		t.Data[i] = float32(math.Sin(float64(i*i%7919 + 13*seed + i)))
	}
	return t
}

// convolution is the model x -> Conv -> Sigmoid -> Add of a weight, computed in
// the given type.
func convolution(t onnx.ElemType) *onnx.Model {
	const channels = 8
	b := sample{t: t, model: onnx.Model{Opset: map[string]int64{"": 21, "com.microsoft": 1}, Graph: onnx.Graph{Name: "convolution"}}}
	x := b.input("x", 1, channels, 9, 7)
	h := b.node("Conv", []string{x, b.weight("kernel", channels, channels, 3, 3), b.weight("shift", channels)},
		onnx.Attr{Name: "pads", Value: []int64{1, 1, 1, 1}}, onnx.Attr{Name: "kernel_shape", Value: []int64{3, 3}})
	h = b.node("Add", []string{b.node("Sigmoid", []string{h}), h})
	return b.output(b.node("MatMul", []string{h, b.weight("matrix", 7, 5)}), 1, channels, 9, 5)
}

// attention is the fused operator at the sizes of a small cross attention.
func attention(t onnx.ElemType) *onnx.Model {
	const heads, width, queries, keys = 2, 40, 70, 77
	b := sample{t: t, model: onnx.Model{Opset: map[string]int64{"": 21, "com.microsoft": 1}, Graph: onnx.Graph{Name: "attention"}}}
	in := []string{b.input("q", 1, queries, heads*width), b.input("k", 1, keys, heads*width), b.input("v", 1, keys, heads*width)}
	return b.output(b.node("MultiHeadAttention", in, onnx.Attr{Name: "num_heads", Value: int64(heads)}), 1, queries, heads*width)
}

// sample is a model in the making that computes in type t between inputs and
// outputs of float32.
type sample struct {
	t     onnx.ElemType
	model onnx.Model
}

func value(name string, dims ...int64) onnx.ValueInfo {
	v := onnx.ValueInfo{Name: name, Type: onnx.Float}
	for _, d := range dims {
		v.Dims = append(v.Dims, onnx.Dim{Size: d})
	}
	return v
}

func (b *sample) input(name string, dims ...int64) string {
	b.model.Graph.Inputs = append(b.model.Graph.Inputs, value(name, dims...))
	return b.cast(name, b.t)
}

func (b *sample) output(name string, dims ...int64) *onnx.Model {
	b.model.Graph.Outputs = []onnx.ValueInfo{value(b.cast(name, onnx.Float), dims...)}
	return &b.model
}

func (b *sample) cast(name string, to onnx.ElemType) string {
	if b.t == onnx.Float {
		return name
	}
	return b.node("Cast", []string{name}, onnx.Attr{Name: "to", Value: int64(to)})
}

// node appends an operator and returns its output's name.
func (b *sample) node(op string, in []string, attrs ...onnx.Attr) string {
	n := onnx.Node{Name: fmt.Sprintf("%s %d", op, len(b.model.Graph.Nodes)), Op: op, Inputs: in, Attrs: attrs}
	if op == "MultiHeadAttention" {
		n.Domain = "com.microsoft"
	}
	n.Outputs = []string{n.Name}
	b.model.Graph.Nodes = append(b.model.Graph.Nodes, n)
	return n.Name
}

// weight appends a constant of multiples of 1/64 in [-1/2, 1/2), which both
// types hold exactly.
func (b *sample) weight(name string, dims ...int64) string {
	count := int64(1)
	for _, d := range dims {
		count *= d
	}
	init := onnx.Initializer{Name: name, Type: b.t, Dims: dims}
	for i := range count {
		v := float32(i*i%61+i%3-31) / 64
		if b.t == onnx.Float {
			init.Raw = binary.LittleEndian.AppendUint32(init.Raw, math.Float32bits(v))
		} else {
			init.Raw = binary.LittleEndian.AppendUint16(init.Raw, half(v))
		}
	}
	b.model.Graph.Initializers = append(b.model.Graph.Initializers, init)
	return name
}

// half returns the bits of a value that half precision holds exactly, and that
// is 0 or normal in it.
func half(v float32) uint16 {
	bits := math.Float32bits(v)
	if v == 0 {
		return uint16(bits >> 16)
	}
	return uint16(bits>>16)&0x8000 | uint16((bits>>23&0xff)-127+15)<<10 | uint16(bits>>13)&0x3ff
}
