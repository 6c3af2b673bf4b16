package diffusion

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
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
	out := map[string]bool{}
	plain := map[string]bool{}
	for _, p := range c.graph.Params {
		plain[partName(p.Source)] = true
	}
	for _, name := range c.weights.Names() {
		src, ok := c.weights.Lookup(name)
		out[name] = ok && plain[partName(src)] && byTensor[src.From[0]]
	}
	return out
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
	case "Conv":
		return !slices.ContainsFunc(n.Attrs, func(a onnx.Attr) bool { return a.Name == "group" })
	}
	return false
}

// addBranches gives the component a graph in which a low-rank product stands
// beside each weight that has one: y = x·Wᵀ + ((x·downᵀ)∘s)·upᵀ, with the
// strengths s as an input.
func (c *component) addBranches(s split) {
	c.variant += c.stepKey(s)
	if len(s.branches) == 0 {
		return
	}
	b := brancher{component: c, split: s, graph: c.graph.ONNX, views: map[string]view{}, scales: map[string]string{}, narrow: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(s.branches)) {
		src, _ := c.weights.Lookup(name)
		if len(s.merged[name]) > 0 {
			src, _ = mergedWeights{c.weights, c.base, s}.Lookup(name)
		}
		for _, p := range c.graph.Params {
			if partName(p.Source) == partName(src) {
				b.views[p.Name] = view{p, name, src.Shape}
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
	c.graph = &nn.Graph{ONNX: b.graph, Params: c.graph.Params}
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
}

// brancher rewrites a graph.
type brancher struct {
	*component
	split
	graph  onnx.Graph
	views  map[string]view
	scales map[string]string // steps of a branch's columns -> value
	narrow map[string]bool   // values that are there already
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
	out := n.Outputs[0]
	n.Outputs = []string{out + "@plain"}
	b.graph.Nodes = append(b.graph.Nodes, n)
	b.node("Add", "", []string{n.Outputs[0], b.branch(n, v, uses)}, out)
}

func (b *brancher) node(op, domain string, in []string, out string, attrs ...onnx.Attr) string {
	b.graph.Nodes = append(b.graph.Nodes, onnx.Node{Name: out + "@" + op, Op: op, Domain: domain, Inputs: in, Outputs: []string{out}, Attrs: attrs})
	return out
}

// branch appends the product beside node n and returns its value.
func (b *brancher) branch(n onnx.Node, v view, uses []use) string {
	f := factors{view: v, uses: uses}
	d, up := b.reduced(n, f), b.weightOf(f.up())
	name := n.Outputs[0] + ".branch"
	if n.Op == "Conv" {
		return b.node("Conv", "", []string{d, up}, name, onnx.Attr{Name: "kernel_shape", Value: []int64{1, 1}})
	}
	return b.node("FusedMatMul", microsoft, []string{d, up}, name, onnx.Attr{Name: "transB", Value: int64(1)})
}

// reduced returns the value with rank columns, times the strengths. Views of
// one weight share it.
func (b *brancher) reduced(n onnx.Node, f factors) string {
	down, scale := b.weightOf(f.down()), b.scale(f, n.Op == "Conv")
	d := n.Inputs[0] + "*" + down
	scaled := d + "*" + scale
	if b.narrow[scaled] {
		return scaled
	}
	b.narrow[scaled] = true
	b.node(n.Op, n.Domain, []string{n.Inputs[0], down}, d, n.Attrs...)
	return b.node("Mul", "", []string{d, scale}, scaled)
}

const microsoft = "com.microsoft"

// scale returns the value that holds the strength of each column of a branch:
// [rank], or [rank, 1, 1] before a convolution.
func (b *brancher) scale(f factors, picture bool) string {
	var raw []byte
	for _, u := range f.uses {
		for range u.change.Rank() {
			raw = binary.LittleEndian.AppendUint64(raw, uint64(u.step))
		}
	}
	key := fmt.Sprintf("%v%x", picture, raw)
	if have := b.scales[key]; have != "" {
		return have
	}
	name := fmt.Sprintf("lora_scale_%d", len(b.scales))
	index := name + ".steps"
	b.initializer(index, raw, len(raw)/8)
	b.scales[key] = b.node("Gather", "", []string{strengthsInput, index}, name)
	if picture {
		b.initializer(name+".shape", binary.LittleEndian.AppendUint64(
			binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(len(raw)/8)), 1), 1), 3)
		b.scales[key] = b.node("Reshape", "", []string{name, name + ".shape"}, name+".picture")
	}
	return b.scales[key]
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
	b.extra = append(slices.Clip(b.extra), weights.Part{Name: m.name, Shape: m.shape, Transform: &weights.Transform{
		Name: m.name, Apply: func(dst []float32, _ []*tensor.Tensor) error { return m.fill(dst) },
	}})
	return m.name
}

// matrix is a matrix of a branch, computed when the session is made.
type matrix struct {
	name  string
	shape tensor.Shape
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
	row := v.shape[1:].Elements()
	lo = v.Offset / row
	return lo, lo + v.Param.Shape[0]
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

// label tells branches apart that have other LoRAs.
func (f factors) label() string {
	var b strings.Builder
	for _, u := range f.uses {
		fmt.Fprintf(&b, ".%d", u.step)
		if u.target.Parts > 0 {
			fmt.Fprintf(&b, "/%d", u.target.Part)
		}
	}
	return b.String()
}

// down is [rank, in], or [rank, in, kernel, kernel] for a convolution. Views of
// the same weight share it.
func (f factors) down() matrix {
	shape := append(tensor.Shape{f.rank()}, f.Param.Shape[1:]...)
	return matrix{f.weight + ".lora_down" + f.label(), shape, func(dst []float32) error {
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
	for range len(f.Param.Shape) - 2 {
		shape = append(shape, 1)
	}
	return matrix{f.Param.Name + ".lora_up" + f.label(), shape, func(dst []float32) error {
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
