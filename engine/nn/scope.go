package nn

import (
	"fmt"
	"strings"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Scope is a place in a checkpoint's tree of names and the graph under
// construction.
type Scope struct {
	b    *builder
	path string
}

// In returns the scope below p; format and args are those of fmt.Sprintf.
func (p Scope) In(format string, args ...any) Scope {
	p.path = p.join(fmt.Sprintf(format, args...))
	return p
}

func (p Scope) join(name string) string {
	if p.path == "" {
		return name
	}
	return p.path + "." + name
}

// Has reports whether the checkpoint has any weight in or below the scope.
func (p Scope) Has() bool {
	if p.b.prefixes == nil {
		p.b.prefixes = prefixes(p.b.weights.Names())
	}
	return p.b.prefixes[p.path]
}

// Count returns how many consecutive scopes format describes, counted from 0,
// exist below p.
func (p Scope) Count(format string) int {
	n := 0
	for p.In(format, n).Has() {
		n++
	}
	return n
}

// Dim returns dimension i of the scope's weight with the given name. A missing
// weight stops the build.
func (p Scope) Dim(name string, i int) int {
	src, ok := p.lookup(name)
	if !ok {
		p.missing(name)
		failf("%s: the size cannot be known without this weight", p.join(name))
	}
	if i >= len(src.Shape) {
		failf("%s: shape %v has no dimension %d", p.join(name), src.Shape, i)
	}
	return src.Shape[i]
}

// lookup finds a weight and notes that the graph asked for it.
func (p Scope) lookup(name string) (Source, bool) {
	full := p.join(name)
	p.b.asked[full] = true
	return p.b.weights.Lookup(full)
}

// Spare says that the graph does without a weight which belongs to the
// architecture all the same.
func (p Scope) Spare(name string) { p.lookup(name) }

// Param returns the weight with the given name, whose shape in the file must
// have the elements of shape and, but for dimensions of size 1, its dimensions.
// A missing weight or another shape is noted, and reported by Build.
func (p Scope) Param(name string, shape ...int) *Value {
	return p.param(view{label: name, shape: shape})
}

// param is Param for a view of the whole weight.
func (p Scope) param(w view) *Value {
	src, ok := p.lookup(w.label)
	if !ok {
		p.missing(w.label)
	} else if !squeeze(src.Shape).Equal(squeeze(w.shape)) {
		p.misfit(w.label, src.Shape, w.shape)
	}
	return p.viewOf(src, w)
}

// Rows returns part of a weight: shape[0] rows from row lo of its first
// dimension. The part is not copied: it is a range of the same bytes.
func (p Scope) Rows(name string, lo int, shape ...int) *Value {
	src, ok := p.lookup(name)
	if !ok {
		p.missing(name)
	}
	want := tensor.Shape(shape)
	if ok && (len(src.Shape) == 0 || lo+want[0] > src.Shape[0] || !squeeze(src.Shape[1:]).Equal(squeeze(want[1:]))) {
		p.misfit(name, src.Shape, want)
	}
	return p.viewOf(src, view{label: name, lo: lo, shape: shape})
}

// view is a part of a weight: rows from lo, seen in a shape.
type view struct {
	label string
	lo    int
	shape []int
	elem  onnx.ElemType // 0 for the one that the graph computes with
}

// viewOf makes the graph want part of a source. The same part wanted twice is
// one initializer.
func (p Scope) viewOf(src Source, w view) *Value {
	if w.elem == 0 {
		w.elem = p.b.target.elem()
	}
	key := fmt.Sprintf("%s@%d%v%v", p.join(w.label), w.lo, w.shape, w.elem)
	if v := p.b.params[key]; v != nil {
		return v
	}
	v := p.b.value(p.b.unique(p.join(w.label)), w.elem, w.shape)
	p.b.graph.Params = append(p.b.graph.Params, Param{
		Name: v.name, Shape: w.shape, Source: src, Offset: w.lo * elements(w.shape[1:]), Type: w.elem,
	})
	p.b.params[key] = v
	return v
}

// source looks a weight up that must have exactly the given shape.
func (p Scope) source(name string, shape tensor.Shape) (Source, bool) {
	src, ok := p.lookup(name)
	switch {
	case !ok:
		p.missing(name)
	case !src.Shape.Equal(shape):
		p.misfit(name, src.Shape, shape)
		return src, false
	}
	return src, ok
}

// Then returns the source of what m makes of the weight s.
func (s Source) Then(shape tensor.Shape, m Make) Source {
	if base := s.Make; base != nil {
		after, have := m.Apply, s.Shape
		m.Name = base.Name + "+" + m.Name
		m.Apply = func(dst []float32, parts []*tensor.Tensor) error {
			mid := tensor.New(have...)
			if err := base.Apply(mid.Data, parts); err != nil {
				return err
			}
			return after(dst, []*tensor.Tensor{mid})
		}
	}
	return Source{Shape: shape, From: s.From, Make: &m}
}

func (p Scope) misfit(name string, have, want tensor.Shape) {
	p.b.problems.Shapes = append(p.b.problems.Shapes, fmt.Sprintf("%s %v, expected %v", p.join(name), have, want))
}

func (p Scope) missing(name string) {
	p.b.problems.Missing = append(p.b.problems.Missing, p.join(name))
}

// squeeze drops dimensions of size 1.
func squeeze(s tensor.Shape) tensor.Shape {
	var out tensor.Shape
	for _, d := range s {
		if d != 1 {
			out = append(out, d)
		}
	}
	return out
}

func elements(shape []int) int { return tensor.Shape(shape).Elements() }

// prefixes returns every scope that names lie in, the names included.
func prefixes(names []string) map[string]bool {
	all := map[string]bool{}
	for _, n := range names {
		for n != "" && !all[n] {
			all[n] = true
			n = n[:max(strings.LastIndexByte(n, '.'), 0)]
		}
	}
	return all
}

// Input declares an input of the graph; sizes given as names are symbolic,
// ints are fixed.
func (p Scope) Input(name string, dims ...any) *Value {
	shape, info := make([]int, len(dims)), onnx.ValueInfo{Name: name, Type: onnx.Float}
	for i, d := range dims {
		switch d := d.(type) {
		case int:
			shape[i] = d
			info.Dims = append(info.Dims, onnx.Dim{Size: int64(d)})
		case string:
			shape[i] = Any
			info.Dims = append(info.Dims, onnx.Dim{Name: d})
		default:
			failf("Input %s: dimension %v is neither a size nor a name", name, d)
		}
	}
	p.b.graph.ONNX.Inputs = append(p.b.graph.ONNX.Inputs, info)
	p.b.used[name] = true
	v := p.b.value(name, onnx.Float, shape)
	if p.b.batch == nil && len(shape) > 0 && shape[0] == Any {
		p.b.batch = v
	}
	return v
}

// Output declares v as an output of the graph under a name.
func (p Scope) Output(name string, v *Value) {
	info := onnx.ValueInfo{Name: name, Type: onnx.Float}
	for i, d := range v.shape {
		if d == Any {
			info.Dims = append(info.Dims, onnx.Dim{Name: fmt.Sprintf("%s_%d", name, i)})
			continue
		}
		info.Dims = append(info.Dims, onnx.Dim{Size: int64(d)})
	}
	if v.elem == onnx.Float {
		p.b.node("Identity", "", []*Value{v}, []string{name}, nil)
	} else {
		p.b.node("Cast", "", []*Value{v}, []string{name}, []onnx.Attr{attr("to", int64(onnx.Float))})
	}
	p.b.graph.ONNX.Outputs = append(p.b.graph.ONNX.Outputs, info)
}
