package ort_test

import (
	"math"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// opCase is a graph of few operators from x (and y, z) to out, and the values
// that it must give.
type opCase struct {
	in    []*tensor.Tensor // x, y, z
	graph func(g *graph)   // from "x", "y", "z" to "out"
	want  *tensor.Tensor
}

func attr(name string, value any) onnx.Attr { return onnx.Attr{Name: name, Value: value} }

// build returns the case's model and its inputs.
func (c opCase) build(name string) (*graph, map[string]*tensor.Tensor) {
	g := newGraph(name)
	in := map[string]*tensor.Tensor{}
	for i, x := range c.in {
		in[g.input("xyz"[i:i+1], len(x.Shape))] = x
	}
	c.graph(g)
	g.output("out", len(c.want.Shape))
	return g, in
}

// runCase runs the case and returns the largest difference, relative to the
// largest value or 1.
func runCase(t *testing.T, name string, c opCase) float64 {
	t.Helper()
	g, in := c.build(name)
	s := g.session(t, ort.Options{})
	got := run(t, s, in)["out"]
	if !got.Shape.Equal(c.want.Shape) {
		t.Errorf("%s: shape %v, want %v", name, got.Shape, c.want.Shape)
		return 0
	}
	if again := run(t, s, in)["out"]; !slices.Equal(got.Data, again.Data) {
		t.Errorf("%s: a second run gives other bits", name)
	}
	worst := difference(got, c.want)
	if worst > 1e-5 {
		t.Errorf("%s: differs by %.2g", name, worst)
	}
	return worst
}

// difference returns the largest difference, relative to the largest value
// wanted or 1.
func difference(got, want *tensor.Tensor) float64 {
	worst, scale := 0.0, 1.0
	for i, v := range want.Data {
		scale = max(scale, math.Abs(float64(v)))
		worst = max(worst, math.Abs(float64(v)-float64(got.Data[i])))
		if got.Data[i] != got.Data[i] {
			worst = math.Inf(1)
		}
	}
	return worst / scale
}

func runCases(t *testing.T, cases map[string]opCase) {
	t.Helper()
	worst, at := 0.0, ""
	for name, c := range cases {
		if d := runCase(t, name, c); d >= worst {
			worst, at = d, name
		}
	}
	t.Logf("worst relative difference %.2g, %s", worst, at)
}

func TestConvolutions(t *testing.T) { runCases(t, convolutions()) }

func TestMatrixProducts(t *testing.T) { runCases(t, matrixProducts()) }

func TestNormalizations(t *testing.T) { runCases(t, normalizations()) }

func TestActivations(t *testing.T) { runCases(t, activations()) }

func TestAttention(t *testing.T) { runCases(t, attentions()) }

func TestResizes(t *testing.T) { runCases(t, resizes()) }

func TestMovements(t *testing.T) { runCases(t, movements()) }

func TestBroadcasts(t *testing.T) { runCases(t, broadcasts()) }

func convolutions() map[string]opCase {
	cases := map[string]opCase{}
	add := func(name string, kernel, stride int, pads [4]int) {
		x, w, b := random(1, 2, 5, 11, 14), random(2, 7, 5, kernel, kernel), random(3, 7)
		cases[name] = opCase{[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Conv", []string{"x", g.weight("w", w), g.weight("b", b)}, []string{"out"},
				attr("strides", []int64{int64(stride), int64(stride)}),
				attr("kernel_shape", []int64{int64(kernel), int64(kernel)}),
				attr("pads", []int64{int64(pads[0]), int64(pads[1]), int64(pads[2]), int64(pads[3])}))
		}, conv(x, w, b, stride, pads)}
	}
	add("3x3", 3, 1, [4]int{1, 1, 1, 1})
	add("1x1", 1, 1, [4]int{})
	add("3x3 by 2", 3, 2, [4]int{1, 1, 1, 1})
	add("3x3 by 2, padded below and right", 3, 2, [4]int{0, 0, 1, 1})
	add("2x2 patches", 2, 2, [4]int{})
	return cases
}

func matrixProducts() map[string]opCase {
	x, w, b := random(1, 2, 9, 17), random(2, 13, 17), random(3, 13)
	wt := build(func(p []int) float64 { return at(w, p[1], p[0]) }, 17, 13)
	row, one := random(4, 3, 17), tensor.Full(1, 13)
	flat := linear(tensor.Of(row.Data, 1, 3, 17), w)
	a, c := random(5, 2, 3, 4, 5), random(6, 2, 3, 5, 6)
	return map[string]opCase{
		"FusedMatMul transB": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("ms.FusedMatMul", []string{"x", g.weight("w", w)}, []string{"out"}, attr("transB", int64(1)))
		}, linear(x, w)},
		"FusedMatMul transB, bias": {[]*tensor.Tensor{x}, func(g *graph) {
			h := g.node("ms.FusedMatMul", []string{"x", g.weight("w", w)}, []string{"h"}, attr("transB", int64(1)))
			g.node("Add", []string{h, g.weight("b", b)}, []string{"out"})
		}, affine(linear(x, w), one, b, 2)},
		"MatMul": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("MatMul", []string{"x", g.weight("w", wt)}, []string{"out"})
		}, linear(x, w)},
		"MatMul batched": {[]*tensor.Tensor{a, c}, func(g *graph) {
			g.node("MatMul", []string{"x", "y"}, []string{"out"})
		}, build(func(p []int) float64 {
			sum := 0.0
			for k := range 5 {
				sum += at(a, p[0], p[1], p[2], k) * at(c, p[0], p[1], k, p[3])
			}
			return sum
		}, 2, 3, 4, 6)},
		"Gemm transB": {[]*tensor.Tensor{row}, func(g *graph) {
			g.node("Gemm", []string{"x", g.weight("w", w), g.weight("b", b)}, []string{"out"}, attr("transB", int64(1)))
		}, build(func(p []int) float64 { return at(flat, 0, p[0], p[1]) + at(b, p[1]) }, 3, 13)},
	}
}

func normalizations() map[string]opCase {
	const groups, eps = 4, 1e-5
	x, scale, shift := random(1, 2, 8, 5, 7), random(2, 8), random(3, 8)
	tokens := random(4, 2, 6, 8)
	return map[string]opCase{
		"group norm": {[]*tensor.Tensor{x}, func(g *graph) {
			h := g.node("Reshape", []string{"x", g.ints("grouped", 0, groups, -1)}, []string{"h"})
			n := g.node("InstanceNormalization", []string{h, g.weight("ones", tensor.Full(1, groups)), g.weight("zeros", tensor.New(groups))},
				[]string{"n"}, attr("epsilon", float32(eps)))
			size := g.node("Shape", []string{"x"}, []string{"size"})
			r := g.node("Reshape", []string{n, size}, []string{"r"})
			m := g.node("Mul", []string{r, g.weight("scale", tensor.Of(scale.Data, 8, 1, 1))}, []string{"m"})
			g.node("Add", []string{m, g.weight("shift", tensor.Of(shift.Data, 8, 1, 1))}, []string{"out"})
		}, affine(normalize(x, 2*5*7, eps), scale, shift, 1)},
		"layer norm": {[]*tensor.Tensor{tokens}, func(g *graph) {
			g.node("LayerNormalization", []string{"x", g.weight("scale", scale), g.weight("shift", shift)}, []string{"out"},
				attr("axis", int64(-1)), attr("epsilon", float32(eps)))
		}, affine(normalize(tokens, 8, eps), scale, shift, 2)},
	}
}

func activations() map[string]opCase {
	x := random(1, 3, 50)
	for i := range x.Data {
		x.Data[i] *= 8
	}
	quick := func(alpha float64) func(float64) float64 {
		return func(v float64) float64 { return v / (1 + math.Exp(-alpha*v)) }
	}
	unary := func(op string, f func(float64) float64, attrs ...onnx.Attr) opCase {
		return opCase{[]*tensor.Tensor{x}, func(g *graph) { g.node(op, []string{"x"}, []string{"out"}, attrs...) }, mapped(x, f)}
	}
	softmaxed := tensor.New(x.Shape...)
	for r := range 3 {
		row := make([]float64, 50)
		for i := range row {
			row[i] = at(x, r, i)
		}
		softmax(row)
		for i, v := range row {
			softmaxed.Data[r*50+i] = float32(v)
		}
	}
	gelu := func(v float64) float64 { return v * (1 + math.Erf(v/math.Sqrt2)) / 2 }
	return map[string]opCase{
		"SiLU":            unary("ms.QuickGelu", quick(1), attr("alpha", float32(1))),
		"QuickGelu 1.702": unary("ms.QuickGelu", quick(1.702), attr("alpha", float32(1.702))),
		"ms.Gelu":         unary("ms.Gelu", gelu),
		"Sigmoid":         unary("Sigmoid", func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }),
		"Tanh":            unary("Tanh", math.Tanh),
		"Cos":             unary("Cos", math.Cos),
		"Sin":             unary("Sin", math.Sin),
		"Exp":             unary("Exp", math.Exp),
		"Softmax":         {[]*tensor.Tensor{x}, func(g *graph) { g.node("Softmax", []string{"x"}, []string{"out"}, attr("axis", int64(-1))) }, softmaxed},
		"Gelu":            unary("Gelu", gelu),
		"Gelu tanh": unary("Gelu", func(v float64) float64 {
			return v / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
		}, attr("approximate", "tanh")),
		"Sigmoid and Mul": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Mul", []string{"x", g.node("Sigmoid", []string{"x"}, []string{"s"})}, []string{"out"})
		}, mapped(x, quick(1))},
	}
}

func attentions() map[string]opCase {
	cases := map[string]opCase{}
	add := func(name string, shape [4]int, bias *tensor.Tensor, causal bool) { // queries, keys, heads, head size
		width := shape[2] * shape[3]
		q, k, v := random(1, 2, shape[0], width), random(2, 2, shape[1], width), random(3, 2, shape[1], width)
		cases[name] = opCase{[]*tensor.Tensor{q, k, v}, func(g *graph) {
			in := []string{"x", "y", "z"}
			if bias != nil {
				in = append(in, g.weight("bias", bias))
			}
			attrs := []onnx.Attr{attr("num_heads", int64(shape[2]))}
			if causal {
				attrs = append(attrs, attr("unidirectional", int64(1)))
			}
			g.node("ms.MultiHeadAttention", in, []string{"out"}, attrs...)
		}, attention(q, k, v, bias, shape[2], causal)}
	}
	add("self", [4]int{12, 12, 3, 8}, nil, false)
	add("self, packed bias", [4]int{12, 12, 3, 8}, random(4, 72), false)
	add("cross", [4]int{15, 7, 2, 8}, nil, false)
	add("cross, packed bias", [4]int{15, 7, 2, 8}, random(4, 48), false)
	add("one key", [4]int{15, 1, 2, 8}, nil, false)
	add("causal", [4]int{77, 77, 2, 8}, nil, true)
	add("causal, packed bias", [4]int{77, 77, 2, 8}, random(4, 48), true)
	add("long", [4]int{300, 300, 1, 40}, nil, false)
	add("long, wide head", [4]int{150, 150, 1, 160}, nil, false)
	return cases
}

func resizes() map[string]opCase {
	x := random(1, 2, 3, 5, 6)
	nearest := []onnx.Attr{attr("mode", "nearest"), attr("coordinate_transformation_mode", "asymmetric"), attr("nearest_mode", "floor")}
	return map[string]opCase{
		"by scales": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Resize", []string{"x", "", g.weight("scales", tensor.Of([]float32{1, 1, 2, 2}, 4))}, []string{"out"}, nearest...)
		}, build(func(p []int) float64 { return at(x, p[0], p[1], p[2]/2, p[3]/2) }, 2, 3, 10, 12)},
		"to sizes": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Resize", []string{"x", "", "", g.ints("sizes", 2, 3, 9, 11)}, []string{"out"}, nearest...)
		}, build(func(p []int) float64 { return at(x, p[0], p[1], p[2]*5/9, p[3]*6/11) }, 2, 3, 9, 11)},
		"to the size of another": {[]*tensor.Tensor{x, tensor.New(2, 3, 9, 12)}, func(g *graph) {
			g.node("Resize", []string{"x", "", "", g.node("Shape", []string{"y"}, []string{"size"})}, []string{"out"}, nearest...)
		}, build(func(p []int) float64 { return at(x, p[0], p[1], p[2]*5/9, p[3]/2) }, 2, 3, 9, 12)},
		"DepthToSpace": {[]*tensor.Tensor{random(2, 1, 8, 2, 3)}, func(g *graph) {
			g.node("DepthToSpace", []string{"x"}, []string{"out"}, attr("blocksize", int64(2)), attr("mode", "CRD"))
		}, build(func(p []int) float64 {
			return at(random(2, 1, 8, 2, 3), p[0], p[1]*4+p[2]%2*2+p[3]%2, p[2]/2, p[3]/2)
		}, 1, 2, 4, 6)},
	}
}

func movements() map[string]opCase {
	x, y := random(1, 2, 6, 4), random(2, 2, 3, 4)
	cut := func(lo, hi int) *tensor.Tensor {
		return build(func(p []int) float64 { return at(x, p[0], lo+p[1], p[2]) }, 2, hi-lo, 4)
	}
	return map[string]opCase{
		"Split": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Split", []string{"x", g.ints("sizes", 2, 4)}, []string{"first", "out"}, attr("axis", int64(1)))
		}, cut(2, 6)},
		"Split evenly": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Split", []string{"x"}, []string{"first", "out", "last"}, attr("axis", int64(1)), attr("num_outputs", int64(3)))
		}, cut(2, 4)},
		"Slice": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Slice", []string{"x", g.ints("from", 1), g.ints("to", -1), g.ints("axes", 1)}, []string{"out"})
		}, cut(1, 5)},
		"Concat": {[]*tensor.Tensor{x, y}, func(g *graph) {
			g.node("Concat", []string{"x", "y"}, []string{"out"}, attr("axis", int64(1)))
		}, build(func(p []int) float64 {
			if p[1] < 6 {
				return at(x, p...)
			}
			return at(y, p[0], p[1]-6, p[2])
		}, 2, 9, 4)},
		"Transpose": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Transpose", []string{"x"}, []string{"out"}, attr("perm", []int64{2, 0, 1}))
		}, build(func(p []int) float64 { return at(x, p[1], p[2], p[0]) }, 4, 2, 6)},
		"Reshape": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Reshape", []string{"x", g.ints("shape", 0, -1, 2)}, []string{"out"})
		}, tensor.Of(x.Data, 2, 12, 2)},
		"Unsqueeze": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Unsqueeze", []string{"x", g.ints("axes", 2, 3)}, []string{"out"})
		}, tensor.Of(x.Data, 2, 6, 1, 1, 4)},
		"Pad": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Pad", []string{"x", g.ints("pads", 0, 1, 0, 0, 2, 1)}, []string{"out"})
		}, build(func(p []int) float64 {
			if p[1] < 1 || p[1] > 6 || p[2] > 3 {
				return 0
			}
			return at(x, p[0], p[1]-1, p[2])
		}, 2, 9, 5)},
	}
}

func broadcasts() map[string]opCase {
	x, y, row := random(1, 2, 3, 4), random(2, 2, 1, 4), random(3, 4)
	binary := func(op string, a, b *tensor.Tensor, f func(p []int) float64) opCase {
		return opCase{[]*tensor.Tensor{a, b}, func(g *graph) { g.node(op, []string{"x", "y"}, []string{"out"}) }, build(f, 2, 3, 4)}
	}
	return map[string]opCase{
		"Add middle":   binary("Add", x, y, func(p []int) float64 { return at(x, p...) + at(y, p[0], 0, p[2]) }),
		"Mul last":     binary("Mul", x, row, func(p []int) float64 { return at(x, p...) * at(row, p[2]) }),
		"Sub reversed": binary("Sub", row, x, func(p []int) float64 { return at(row, p[2]) - at(x, p...) }),
		"Mul constant": {[]*tensor.Tensor{x}, func(g *graph) {
			g.node("Mul", []string{"x", g.weight("c", tensor.Of([]float32{0.18215}, 1))}, []string{"out"})
		}, mapped(x, func(v float64) float64 { return v * float64(float32(0.18215)) })},
	}
}
