// Package nn builds ONNX graphs layer by layer. An architecture is a function
// over a Scope: it names the weights it wants, and the layers append operators
// to the graph.
//
// Vocabulary: a Scope is a place in a checkpoint's naming tree ("input_blocks.1.0"),
// a Param is a weight that the graph wants, a Value is the output of an
// operator. Channels are known while the graph is built, batch, height, width
// and tokens are symbolic, so that one graph serves every size.
//
// Which operators a layer becomes depends on the Target that the graph is built
// for. A Value knows its element type: inputs and outputs of a graph are
// float32, weights and layers have the target's precision, and where both meet
// in one operator the lower precision wins.
//
// A mistake in an architecture panics inside this package with a private type;
// Build returns it as an error that names the architecture's line.
package nn

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Any is the size of a dimension that is known only when the graph runs.
const Any = -1

// Weights tells which weights a checkpoint has for one graph. Names are those
// that an architecture uses; where a file calls them otherwise, the
// implementation translates. Every one of Names must be wanted by the graph.
type Weights interface {
	Lookup(name string) (Source, bool)
	Names() []string
}

// Source says where a weight comes from.
type Source struct {
	Shape tensor.Shape
	// From lists the tensors of the file that the weight is made of.
	From []string
	// Make computes the weight from them; nil takes the single tensor as it is.
	Make *Make
	// Derive says that the weight is converted in any case, so that another form
	// of it, which computes faster, costs no conversion of its own.
	Derive bool
}

// Make computes a weight from tensors of a file. Name identifies the
// computation: equal names do the same.
type Make struct {
	Name  string
	Apply func(dst []float32, src []*tensor.Tensor) error
}

// Param is a weight that a graph wants. It appears in the graph as the
// initializer Name, whose bytes are rows Row to Row+Shape[0] of the source.
type Param struct {
	Name   string
	Shape  tensor.Shape // as the operator sees it
	Source Source
	// Offset is the number of elements of the source to skip.
	Offset int
	// Type is the element type that the operator wants: Float or Float16.
	Type onnx.ElemType
}

// Graph is a built graph and the weights that it wants, in the order of use.
// Initializers of weights are not part of ONNX yet: engine/diffusion adds them
// once it knows in which file each lies.
type Graph struct {
	ONNX   onnx.Graph
	Params []Param
	// Forms tells of values that are another value in another shape or element
	// type what that is: see Root.
	Forms map[string]string
}

// Root returns the value that a value shows in another shape or element type,
// through any number of such steps, or the value itself: that of a layer's input
// may be an input of the graph.
func (g *Graph) Root(value string) string {
	for {
		of, ok := g.Forms[value]
		if !ok {
			return value
		}
		value = of
	}
}

// Build is that of the zero Target, the CPU in fp32.
func Build(name string, w Weights, architecture func(Scope)) (*Graph, error) {
	return Target{}.Build(name, w, architecture)
}

// Build runs an architecture function and returns its graph. The error is
// about the checkpoint (*WeightsError) or about a mistake in the function.
func (t Target) Build(name string, w Weights, architecture func(Scope)) (g *Graph, err error) {
	b := &builder{
		target:  t,
		graph:   &Graph{ONNX: onnx.Graph{Name: name}, Forms: map[string]string{}},
		weights: w, params: map[string]*Value{}, consts: map[string]*Value{}, used: map[string]bool{}, asked: map[string]bool{},
		problems: &WeightsError{Name: name},
	}
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(fault)
			if !ok {
				panic(p)
			}
			// A wrong weight is the likelier cause of what failed after it.
			b.findUnexpected()
			if g, err = nil, b.problems.orNil(); err == nil {
				err = f.err
			}
		}
	}()
	architecture(Scope{b: b})
	b.prune()
	b.findUnexpected()
	if err := b.problems.orNil(); err != nil {
		return nil, err
	}
	return b.graph, nil
}

// prune removes nodes of which nothing is used: pictures are turned round before
// it is known what looks at them. Graphs for the CPU have none.
func (b *builder) prune() {
	used := map[string]bool{}
	for _, o := range b.graph.ONNX.Outputs {
		used[o.Name] = true
	}
	var kept []onnx.Node
	for _, n := range slices.Backward(b.graph.ONNX.Nodes) {
		if !slices.ContainsFunc(n.Outputs, func(o string) bool { return used[o] }) && !b.target.onCPU() {
			continue
		}
		for _, in := range n.Inputs {
			used[in] = true
		}
		kept = append(kept, n)
	}
	slices.Reverse(kept)
	b.graph.ONNX.Nodes = kept
}

// findUnexpected notes the weights that the graph did not ask for. While a size
// is missing that stops the build, what would have come later is noted too:
// the names still show what kind of file it is.
func (b *builder) findUnexpected() {
	for _, n := range b.weights.Names() {
		if !b.asked[n] {
			b.problems.Unexpected = append(b.problems.Unexpected, n)
		}
	}
}

// WeightsError lists what a checkpoint lacks, what it has that the architecture
// does not know, and what has another shape than expected.
type WeightsError struct {
	Name       string
	Missing    []string
	Unexpected []string
	Shapes     []string
}

func (e *WeightsError) Error() string {
	var parts []string
	if len(e.Missing) > 0 {
		parts = append(parts, fmt.Sprintf("%d weights are missing: %s", len(e.Missing), Abbreviate(e.Missing)))
	}
	if len(e.Unexpected) > 0 {
		parts = append(parts, fmt.Sprintf("%d weights are not expected: %s", len(e.Unexpected), Abbreviate(e.Unexpected)))
	}
	if len(e.Shapes) > 0 {
		parts = append(parts, fmt.Sprintf("%d weights have an unexpected shape: %s", len(e.Shapes), Abbreviate(e.Shapes)))
	}
	return e.Name + ": " + strings.Join(parts, "; ")
}

func (e *WeightsError) orNil() error {
	if len(e.Missing)+len(e.Unexpected)+len(e.Shapes) == 0 {
		return nil
	}
	return e
}

// Abbreviate joins names for a message, the first eight of them.
func Abbreviate(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// builder collects one graph.
type builder struct {
	target   Target
	graph    *Graph
	weights  Weights
	prefixes map[string]bool // every scope under which a weight lies
	params   map[string]*Value
	consts   map[string]*Value
	used     map[string]bool // names of values
	asked    map[string]bool // names of weights
	problems *WeightsError
	last     int // counter for value names
	// batch is the input whose first dimension is the batch of the graph, nil
	// where none has a batch.
	batch *Value
}

// fault carries an architecture's mistake to Build.
type fault struct{ err error }

// failf stops the build. The message begins with the first line outside this
// package, where the architecture's mistake is.
func failf(format string, args ...any) {
	panic(fault{fmt.Errorf("%s: %s", caller(), fmt.Sprintf(format, args...))})
}

func caller() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if !strings.Contains(f.Function, "/engine/nn.") || strings.HasSuffix(f.File, "_test.go") {
			return fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)
		}
		if !more {
			return "engine/nn"
		}
	}
}

// IsWeights reports whether err says that a checkpoint does not fit an
// architecture.
func IsWeights(err error) bool {
	var w *WeightsError
	return errors.As(err, &w)
}
