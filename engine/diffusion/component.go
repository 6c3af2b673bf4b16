package diffusion

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort/winograd"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// component is a part of a model that runs as one session: a graph and the
// file that its weights lie in.
type component struct {
	name  string // "unet", "vae_decoder", "clip": names the weights that it wants
	graph *nn.Graph
	file  *weights.File // nil for arithmetic without weights
	stamp int64         // modification time of the file: a replaced file is another one
	// variant tells graphs over the same weights apart.
	variant string
	// target is what the graph is traced for, by trace, over weights; a tower's
	// tables are among them, its graph does not want them. All are needed to
	// change weights or the target: see with and on.
	target  nn.Target
	weights nn.Weights
	trace   tracer
	// base is the component before any steps, nil for itself.
	base  *component
	steps []step
	// extra are weights of the graph that are in no file: see addBranches.
	extra []weights.Part
	// inputs are given to each run, beside those of the caller.
	inputs map[string]*tensor.Tensor
	// seldom says that the network needs much memory and runs seldom: on a device
	// it gives that back after each run.
	seldom bool
	// roundF16 rounds float32 weights to half precision first, as ComfyUI
	// stores text encoders.
	roundF16 bool
}

// tracer makes a component's graph.
type tracer func(nn.Target, nn.Weights) (*nn.Graph, error)

// tracerOf returns the tracer of an architecture; name is for errors.
func tracerOf(name string, architecture func(nn.Scope)) tracer {
	return func(t nn.Target, w nn.Weights) (*nn.Graph, error) { return t.Build(name, w, architecture) }
}

// newComponent traces the graph of a component that has its name, file, target,
// weights and tracer.
func newComponent(c component) (*component, error) {
	if c.file != nil {
		if info, err := os.Stat(c.file.Path); err == nil {
			c.stamp = info.ModTime().UnixNano()
		}
	}
	graph, err := c.trace(c.target, c.weights)
	if err != nil {
		return nil, err
	}
	c.graph = graph
	return &c, nil
}

// on returns the component with its graph traced for another target.
func (c *component) on(t nn.Target) (*component, error) {
	n := *c.original()
	n.target = t
	var err error
	if n.graph, err = n.trace(t, n.weights); err != nil {
		return nil, err
	}
	return n.with(c.steps...)
}

// key identifies the component's session.
func (c *component) key() string {
	return c.sharedKey() + c.variant
}

// sharedKey identifies the weights that the component's session has in common
// with others.
func (c *component) sharedKey() string {
	place := ""
	if c.file != nil {
		place = fmt.Sprintf("%s@%d,%d", c.file.Path, c.file.Size, c.stamp)
	}
	return place + "#" + c.name + c.precision()
}

// precision tells graphs in half precision from others in keys.
func (c *component) precision() string {
	if c.target.Precision == nn.Float16 {
		return "," + string(nn.Float16)
	}
	return ""
}

// origin holds the places of the files that the component's weights come from.
func (c *component) origin() string {
	places := []string{c.key()}
	for _, s := range c.steps {
		places = append(places, s.name)
	}
	return strings.Join(places, "\n")
}

// digest identifies what the component computes by the content of its file; by
// the file's place where it cannot be read.
func (c *component) digest(d *weights.Digests) string {
	sum, err := d.Digest(context.Background(), c.file.Path)
	if err != nil {
		return digest(c.key())
	}
	parts := []any{sum, c.name, c.variant}
	if c.base != nil {
		parts[2] = c.base.variant
	}
	for _, s := range c.steps {
		parts = append(parts, s.digest(d), s.amount)
	}
	return digest(parts...)
}

// parts lists the tensors that the graph needs, each once.
func (c *component) parts() []weights.Part {
	var parts []weights.Part
	seen := map[string]bool{}
	for _, p := range c.graph.Params {
		name := paramName(p)
		if seen[name] {
			continue
		}
		seen[name] = true
		parts = append(parts, weights.Part{
			Name: name, Shape: p.Source.Shape, From: p.Source.From, Transform: c.transform(p), DType: dtypeOf(p.Type),
		})
	}
	return parts
}

// transform returns how a part is made of the file's tensors, nil when it lies
// in the file as the graph wants it.
func (c *component) transform(p nn.Param) *weights.Transform {
	s := p.Source
	if s.Make != nil {
		return &weights.Transform{Name: s.Make.Name, Apply: s.Make.Apply}
	}
	if info, ok := c.file.Tensor(s.From[0]); c.roundF16 && p.Type != onnx.Float16 && ok && info.DType == tensor.F32 {
		return weights.RoundF16()
	}
	return nil
}

// partName identifies what a source computes.
func partName(s nn.Source) string {
	name := strings.Join(s.From, "+")
	if s.Make != nil {
		name += "|" + s.Make.Name
	}
	return name
}

// paramName identifies the part that a param is a view of: that of its source,
// in its type.
func paramName(p nn.Param) string {
	if p.Type == onnx.Float16 {
		return partName(p.Source) + halfMark
	}
	return partName(p.Source)
}

// halfMark ends the names of parts in half precision: a graph may want the same
// weight in both.
const halfMark = "|f16"

// dtypeOf returns the type of a param's elements in a file.
func dtypeOf(t onnx.ElemType) tensor.DType {
	if t == onnx.Float16 {
		return tensor.F16
	}
	return tensor.F32
}

// model returns the graph with its weights as external data.
func (c *component) model(located map[string]weights.Location) *onnx.Model {
	m := &onnx.Model{
		Producer: "comfyrun", Opset: map[string]int64{"": 18, "com.microsoft": 1, winograd.Domain: winograd.Version}, Graph: c.graph.ONNX,
	}
	inits := append([]onnx.Initializer{}, c.graph.ONNX.Initializers...)
	for _, p := range c.graph.Params {
		inits = append(inits, external(p, located[paramName(p)]))
	}
	for _, p := range c.extra {
		inits = append(inits, external(extraParam(p), located[p.Name]))
	}
	m.Graph.Initializers = inits
	return m
}

// extraParam is the param of a weight that is in no file.
func extraParam(p weights.Part) nn.Param {
	t := onnx.Float
	if p.DType == tensor.F16 {
		t = onnx.Float16
	}
	return nn.Param{Name: p.Name, Shape: p.Shape, Type: t}
}

// external returns the initializer for a param whose part is at a location.
func external(p nn.Param, at weights.Location) onnx.Initializer {
	dims := make([]int64, len(p.Shape))
	for i, d := range p.Shape {
		dims[i] = int64(d)
	}
	size := int64(dtypeOf(p.Type).Size())
	return onnx.Initializer{Name: p.Name, Type: p.Type, Dims: dims, External: &onnx.External{
		Path: at.Path, Offset: at.Offset + size*int64(p.Offset), Length: paramBytes(p),
	}}
}

func paramBytes(p nn.Param) int64 {
	return int64(dtypeOf(p.Type).Size()) * int64(p.Shape.Elements())
}

// weightBytes returns the size of the graph's weights that lie in files.
func (c *component) weightBytes() int64 {
	var n int64
	for _, p := range c.graph.Params {
		n += paramBytes(p)
	}
	return n
}

// copiedBytes returns the size of all its weights: a session on a device has a
// copy of its own.
func (c *component) copiedBytes() int64 {
	n := c.weightBytes()
	for _, p := range c.extra {
		n += paramBytes(extraParam(p))
	}
	return n
}
