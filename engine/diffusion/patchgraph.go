package diffusion

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort/winograd"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// strengthsInput is the input of a graph with branches: the strength of each
// step, [steps].
const strengthsInput = "lora_strengths"

// products tells which weights a graph only multiplies with, as they are: those
// beside which another product can stand.
func (c *component) products() map[string]bool {
	consumers := map[string]bool{} // initializer -> all its uses are products
	for _, n := range c.graph.ONNX.Nodes {
		for i, in := range n.Inputs {
			ok, seen := consumers[in]
			consumers[in] = isProduct(n, i) && (ok || !seen)
		}
	}
	byTensor := map[string]bool{} // tensor of the file -> all of what is made of it
	for _, p := range c.graph.Params {
		for _, from := range p.Source.From {
			ok, seen := byTensor[from]
			byTensor[from] = consumers[p.Name] && (ok || !seen)
		}
	}
	wanted := map[string]bool{}
	for _, p := range c.graph.Params {
		wanted[partName(p.Source)] = true
	}
	out := map[string]bool{}
	for _, name := range c.weights.Names() {
		src, ok := c.weights.Lookup(name)
		as, transformed := forms(src)
		out[name] = ok && (wanted[as] || wanted[transformed]) && byTensor[src.From[0]]
	}
	return out
}

// forms returns what names the weight of a source as it is, and transformed for
// the operator of 3x3 convolutions.
func forms(src nn.Source) (as, transformed string) {
	return partName(src), partName(src.Then(src.Shape, nn.Make{Name: winograd.TransformName}))
}

// isProduct reports whether input i of a node is a weight that its first input
// is multiplied with.
func isProduct(n onnx.Node, i int) bool {
	if i != 1 {
		return false
	}
	switch n.Op {
	case "FusedMatMul":
		return len(n.Inputs) == 2 && len(n.Attrs) == 1 && n.Attrs[0] == onnx.Attr{Name: "transB", Value: int64(1)}
	case "Gemm":
		return len(n.Attrs) == 1 && n.Attrs[0] == onnx.Attr{Name: "transB", Value: int64(1)}
	case winograd.Op:
		return true
	case "Conv":
		return !slices.ContainsFunc(n.Attrs, func(a onnx.Attr) bool { return a.Name == "group" })
	}
	return false
}

// addBranches gives the component a graph that adds the low-rank products, with
// the strengths s as an input: beside a weight, y = x·Wᵀ + ((x·downᵀ)∘s)·upᵀ,
// or, where that is less work, to the weight, y = x·(W + (up∘s)·down)ᵀ.
func (c *component) addBranches(s split) {
	c.variant += c.stepKey(s)
	if len(s.branches) == 0 {
		return
	}
	b := brancher{component: c, split: s, graph: c.graph.ONNX, views: map[string]view{}, scales: map[string]string{}, there: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(s.branches)) {
		src, _ := c.weights.Lookup(name)
		if len(s.merged[name]) > 0 {
			src, _ = mergedWeights{c.weights, c.base, s}.Lookup(name)
		}
		as, transformed := forms(src)
		for _, p := range c.graph.Params {
			switch partName(p.Source) {
			case as:
				b.views[p.Name] = view{p, name, src.Shape, p.Shape}
			case transformed:
				b.views[p.Name] = view{p, name, src.Shape, src.Shape}
			}
		}
	}
	b.graph.Nodes = nil
	for _, n := range c.graph.ONNX.Nodes {
		b.add(n)
	}
	b.graph.Inputs = append(slices.Clip(b.graph.Inputs), onnx.ValueInfo{
		Name: strengthsInput, Type: onnx.Float, Dims: []onnx.Dim{{Size: int64(len(c.steps))}},
	})
	c.graph = &nn.Graph{ONNX: b.graph, Params: c.graph.Params, Forms: c.graph.Forms}
	c.inputs = map[string]*tensor.Tensor{strengthsInput: c.strengths()}
}

// strengths returns the strength of each step; a merge has 0, it is in the
// weights.
func (c *component) strengths() *tensor.Tensor {
	t := tensor.New(len(c.steps))
	for i, s := range c.steps {
		if s.lora != nil {
			t.Data[i] = float32(s.lora.strength)
		}
	}
	return t
}

// view is a param that shows a weight or some of its rows.
type view struct {
	nn.Param
	weight string
	shape  tensor.Shape // of the whole weight
	seen   tensor.Shape // of what the view shows of it
}

// half reports whether the view is in half precision, and what stands beside it
// has to be.
func (v view) half() bool { return v.Type == onnx.Float16 }

// brancher rewrites a graph.
type brancher struct {
	*component
	split
	graph  onnx.Graph
	views  map[string]view
	scales map[string]string // steps of a branch's columns -> value
	there  map[string]bool   // values that need not be made again
}

// add appends a node, and the branches beside it.
func (b *brancher) add(n onnx.Node) {
	v, ok := view{}, false
	if len(n.Inputs) > 1 {
		v, ok = b.views[n.Inputs[1]]
	}
	var uses []use
	if ok {
		uses = v.uses(b.branches[v.weight])
	}
	if len(uses) == 0 {
		b.graph.Nodes = append(b.graph.Nodes, n)
		return
	}
	f := factors{view: v, uses: uses}
	if f.isSmall() && b.takesComputed(n) && b.component.graph.Root(n.Inputs[0]) != textInput {
		n.Inputs = slices.Clone(n.Inputs)
		n.Inputs[1] = b.changed(f)
		b.graph.Nodes = append(b.graph.Nodes, n)
		return
	}
	out := n.Outputs[0]
	n.Outputs = []string{out + ".plain"}
	b.graph.Nodes = append(b.graph.Nodes, n)
	b.declare(out, n.Outputs[0])
	b.node("Add", "", []string{n.Outputs[0], b.branch(n, f)}, out)
}

// declare gives a value the type that is declared for another, if one is.
func (b *brancher) declare(like, name string) {
	for _, v := range b.graph.Values {
		if v.Name == like {
			v.Name = name
			b.graph.Values = append(slices.Clip(b.graph.Values), v)
			return
		}
	}
}

// textInput is the graph input of the text's states: few rows, whatever the
// size of the picture.
const textInput = "context"

// maxSmall bounds the rows of x for which the product beside a weight is less
// work than adding to the weight: out·in/(out+in). The pictures that such
// weights see, those of the first levels, have more.
const maxSmall = 330

// isSmall reports whether the product is better added to the weight than put
// beside it.
func (f factors) isSmall() bool {
	out, in := f.seen[0], f.seen[1:].Elements()
	flat := len(f.seen) == 2 || len(f.seen) == 4 && f.seen[2] == 1 && f.seen[3] == 1
	return flat && out*in <= maxSmall*(out+in)
}

// takesComputed reports whether a weight of the node may be computed in the graph.
// CUDA's provider turns those of convolutions round as it loads them, and takes
// computed ones for turned (ONNX Runtime 1.30).
func (b *brancher) takesComputed(n onnx.Node) bool {
	return n.Op != "Conv" || b.target.Provider != nn.CUDA
}

// changed appends W + (up∘s)·down and returns its value.
func (b *brancher) changed(f factors) string {
	down, up := f.down(), f.up()
	down.shape, up.shape = tensor.Shape(down.shape[:2]), tensor.Shape(up.shape[:2])
	w := f.Param.Name
	scaled := b.node("Mul", "", []string{b.weightOf(up), b.scale(f, false)}, up.name+".scaled")
	if len(f.seen) == 2 {
		return b.node("Gemm", "", []string{scaled, b.weightOf(down), w}, w+".changed")
	}
	flat := b.node("Reshape", "", []string{w, b.dims(f.seen[:2])}, w+".flat")
	flat = b.node("Gemm", "", []string{scaled, b.weightOf(down), flat}, w+".changed.flat")
	return b.node("Reshape", "", []string{flat, b.dims(f.seen)}, w+".changed")
}

// dims returns a constant for a shape.
func (b *brancher) dims(s tensor.Shape) string {
	name := "lora_dims_" + strings.Trim(strings.ReplaceAll(s.String(), " ", "_"), "[]")
	if !b.there[name] {
		b.there[name] = true
		var raw []byte
		for _, d := range s {
			raw = binary.LittleEndian.AppendUint64(raw, uint64(d))
		}
		b.initializer(name, raw, len(s))
	}
	return name
}

func (b *brancher) node(op, domain string, in []string, out string, attrs ...onnx.Attr) string {
	b.graph.Nodes = append(b.graph.Nodes, onnx.Node{Name: out + "@" + op, Op: op, Domain: domain, Inputs: in, Outputs: []string{out}, Attrs: attrs})
	return out
}

// branch appends the product beside node n and returns its value.
func (b *brancher) branch(n onnx.Node, f factors) string {
	d, up := b.reduced(n, f), b.weightOf(f.up())
	name := n.Outputs[0] + ".branch"
	if len(f.seen) == 4 {
		return b.node("Conv", "", []string{d, up}, name, onnx.Attr{Name: "kernel_shape", Value: []int64{1, 1}})
	}
	// As the weight is multiplied: by an operator that the device has.
	return b.node(n.Op, n.Domain, []string{d, up}, name, onnx.Attr{Name: "transB", Value: int64(1)})
}

// reduced returns the value with rank columns, times the strengths. Views of
// one weight share it.
func (b *brancher) reduced(n onnx.Node, f factors) string {
	down, scale := b.weightOf(f.down()), b.scale(f, len(f.seen) == 4)
	d := n.Inputs[0] + "*" + down
	scaled := d + "*" + scale
	if b.there[scaled] {
		return scaled
	}
	b.there[scaled] = true
	if n.Op == winograd.Op {
		n.Op, n.Domain, n.Attrs = "Conv", "", []onnx.Attr{
			{Name: "kernel_shape", Value: []int64{3, 3}}, {Name: "pads", Value: []int64{1, 1, 1, 1}},
		}
	}
	b.node(n.Op, n.Domain, []string{n.Inputs[0], down}, d, n.Attrs...)
	return b.node("Mul", "", []string{d, scale}, scaled)
}

// scale returns the value that holds the strength of each column of a branch:
// [rank], or [rank, 1, 1] before a convolution.
func (b *brancher) scale(f factors, picture bool) string {
	var raw []byte
	for _, u := range f.uses {
		for range u.change.Rank() {
			raw = binary.LittleEndian.AppendUint64(raw, uint64(u.step))
		}
	}
	key := fmt.Sprintf("%v%v%x", picture, f.half(), raw)
	if have := b.scales[key]; have != "" {
		return have
	}
	name := fmt.Sprintf("lora_scale_%d", len(b.scales))
	index := name + ".steps"
	b.initializer(index, raw, len(raw)/8)
	scale := b.node("Gather", "", []string{strengthsInput, index}, name)
	if f.half() {
		scale = b.node("Cast", "", []string{scale}, name+".half", onnx.Attr{Name: "to", Value: int64(onnx.Float16)})
	}
	if picture {
		scale = b.node("Reshape", "", []string{scale, b.dims(tensor.Shape{len(raw) / 8, 1, 1})}, name+".picture")
	}
	b.scales[key] = scale
	return scale
}

// initializer adds a vector of n int64.
func (b *brancher) initializer(name string, raw []byte, n int) {
	b.graph.Initializers = append(slices.Clip(b.graph.Initializers), onnx.Initializer{
		Name: name, Type: onnx.Int64, Dims: []int64{int64(n)}, Raw: raw,
	})
}

// weightOf makes the graph want one of a branch's matrices.
func (b *brancher) weightOf(m matrix) string {
	for _, p := range b.extra {
		if p.Name == m.name {
			return m.name
		}
	}
	b.extra = append(slices.Clip(b.extra), weights.Part{Name: m.name, Shape: m.shape, DType: m.dtype, Transform: &weights.Transform{
		Name: m.name, Apply: func(dst []float32, _ []*tensor.Tensor) error { return m.fill(dst) },
	}})
	return m.name
}

// matrix is a matrix of a branch, computed when the session is made.
type matrix struct {
	name  string
	shape tensor.Shape
	dtype tensor.DType
	fill  func(dst []float32) error
}

// factors are the matrices of the branch beside a view: those of several LoRAs
// one after the other.
type factors struct {
	view
	uses []use
}

// rows returns the rows of the weight that the view shows.
func (v view) rows() (lo, hi int) {
	lo = v.Offset / v.shape[1:].Elements()
	return lo, lo + v.seen[0]
}

// uses returns the changes that concern the view's rows.
func (v view) uses(all []use) []use {
	lo, hi := v.rows()
	var out []use
	for _, u := range all {
		from, to := u.target.Rows(v.shape[0])
		if from < hi && to > lo {
			out = append(out, u)
		}
	}
	return out
}

func (f factors) rank() int {
	n := 0
	for _, u := range f.uses {
		n += u.change.Rank()
	}
	return n
}

// label tells branches apart that have other LoRAs, or another type.
func (f factors) label() string {
	var b strings.Builder
	for _, u := range f.uses {
		fmt.Fprintf(&b, ".%d", u.step)
		if u.target.Parts > 0 {
			fmt.Fprintf(&b, "/%d", u.target.Part)
		}
	}
	if f.half() {
		b.WriteString(halfMark)
	}
	return b.String()
}

// down is [rank, in], or [rank, in, kernel, kernel] for a convolution. Views of
// the same weight share it.
func (f factors) down() matrix {
	shape := append(tensor.Shape{f.rank()}, f.seen[1:]...)
	return matrix{f.weight + ".lora_down" + f.label(), shape, dtypeOf(f.Type), func(dst []float32) error {
		for _, u := range f.uses {
			_, down, err := u.change.Factors(f.part(u))
			if err != nil {
				return err
			}
			dst = dst[copy(dst, down.Data):]
		}
		return nil
	}}
}

// part returns the shape of what a use changes.
func (f factors) part(u use) tensor.Shape {
	lo, hi := u.target.Rows(f.view.shape[0])
	return append(tensor.Shape{hi - lo}, f.view.shape[1:]...)
}

// up is [out, rank], or [out, rank, 1, 1] for a convolution: the rows of the
// view, zeros where a LoRA does not reach.
func (f factors) up() matrix {
	lo, hi := f.rows()
	rank := f.rank()
	shape := tensor.Shape{hi - lo, rank}
	for range len(f.seen) - 2 {
		shape = append(shape, 1)
	}
	return matrix{f.Param.Name + ".lora_up" + f.label(), shape, dtypeOf(f.Type), func(dst []float32) error {
		column := 0
		for _, u := range f.uses {
			up, _, err := u.change.Factors(f.part(u))
			if err != nil {
				return err
			}
			from, to := u.target.Rows(f.view.shape[0])
			for row := max(lo, from); row < min(hi, to); row++ {
				copy(dst[(row-lo)*rank+column:], up.Index(row-from).Data)
			}
			column += u.change.Rank()
		}
		return nil
	}}
}
