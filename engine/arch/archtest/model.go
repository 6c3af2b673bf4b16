package archtest

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort/winograd"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Model completes a graph with pseudo-random weights, which it carries: the
// same for each graph over the file. They are of a size that keeps signals
// finite through any number of layers.
func (n Network) Model(t testing.TB, g *nn.Graph) *onnx.Model {
	t.Helper()
	m := &onnx.Model{
		Producer: "test", Opset: map[string]int64{"": 18, "com.microsoft": 1, winograd.Domain: winograd.Version}, Graph: g.ONNX,
	}
	inits := append([]onnx.Initializer{}, g.ONNX.Initializers...)
	for _, p := range g.Params {
		data := n.weight(t, p.Source).Data[p.Offset:][:p.Shape.Elements()]
		dims := make([]int64, len(p.Shape))
		for i, d := range p.Shape {
			dims[i] = int64(d)
		}
		inits = append(inits, onnx.Initializer{Name: p.Name, Type: p.Type, Dims: dims, Raw: encode(data, p.Type)})
	}
	m.Graph.Initializers = inits
	return m
}

// weight makes a source's weight of the file's tensors.
func (n Network) weight(t testing.TB, s nn.Source) *tensor.Tensor {
	t.Helper()
	var parts []*tensor.Tensor
	for _, from := range s.From {
		parts = append(parts, n.File.random(from))
	}
	if s.Make == nil {
		return parts[0]
	}
	w := tensor.New(s.Shape...)
	must(t, s.Make.Apply(w.Data, parts))
	return w
}

// random returns a tensor of the file.
func (f File) random(name string) *tensor.Tensor {
	h := fnv.New64a()
	h.Write([]byte(name))
	rng := rand.New(rand.NewPCG(h.Sum64(), 1))
	w := tensor.New(f[name]...)
	scale, offset := 0.02, 0.0
	switch {
	case len(w.Shape) > 1:
		scale = math.Sqrt(float64(w.Shape[0]) / float64(w.Shape.Elements()))
	case strings.HasSuffix(name, ".weight"):
		offset = 1
	}
	for i := range w.Data {
		w.Data[i] = half(float32(offset + scale*rng.NormFloat64()))
	}
	return w
}

// half rounds to what float16 has, so that all precisions have the same
// weights.
func half(v float32) float32 {
	return tensor.F16ToF32(tensor.F32ToF16(v))
}

// encode returns numbers as an initializer has them.
func encode(data []float32, t onnx.ElemType) []byte {
	var raw []byte
	for _, v := range data {
		if t == onnx.Float16 {
			raw = binary.LittleEndian.AppendUint16(raw, tensor.F32ToF16(v))
		} else {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
	}
	return raw
}

// Inputs returns pseudo-random inputs for a graph: two pictures of few
// pixels, even where they are halved often, and 77 tokens.
func Inputs(g *nn.Graph) map[string]*tensor.Tensor {
	in := map[string]*tensor.Tensor{}
	for _, v := range g.ONNX.Inputs {
		var shape tensor.Shape
		for _, d := range v.Dims {
			size := sizeOf(d)
			if (d.Name == "height" || d.Name == "width") && v.Name == "image" {
				size *= 2
			} else if d.Name == "height" && v.Name == "z" {
				size /= 2
			}
			shape = append(shape, size)
		}
		t := tensor.New(shape...)
		h := fnv.New64a()
		h.Write([]byte(v.Name))
		rng := rand.New(rand.NewPCG(h.Sum64(), 2))
		for i := range t.Data {
			t.Data[i] = float32(rng.NormFloat64())
			if v.Name == "timesteps" {
				t.Data[i] = float32(981 - 300*i)
			}
		}
		in[v.Name] = t
	}
	return in
}

// sizeOf is the size that a dimension gets.
func sizeOf(d onnx.Dim) int {
	switch {
	case d.Name == "":
		return int(d.Size)
	case strings.HasSuffix(d.Name, "batch"):
		return 2
	case d.Name == "tokens":
		return 77
	case strings.HasSuffix(d.Name, "height") && !arch.IsResidual(d.Name):
		return 16
	case strings.HasSuffix(d.Name, "width") && !arch.IsResidual(d.Name):
		return 4
	}
	return 1 // residuals are added to anything so
}
