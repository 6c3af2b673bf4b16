package weights

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Part is one tensor that a graph needs.
type Part struct {
	Name      string       // in the graph
	Shape     tensor.Shape // after Transform
	From      []string     // source tensors in the file; one without a Transform
	Transform *Transform   // nil: as it is; one that needs no source has none
	// DType is the type that the graph takes, F32 or F16; "" is F32. Numbers
	// are rounded to the nearest half, ties to even.
	DType tensor.DType
}

// dtype returns the type that the graph takes.
func (p Part) dtype() tensor.DType { return cmp.Or(p.DType, tensor.F32) }

// bytes returns the part's size.
func (p Part) bytes() int64 { return int64(p.dtype().Size()) * int64(p.Shape.Elements()) }

// Transform computes a part from its source tensors.
type Transform struct {
	// Name tells this transform from others in the cache's keys: it must
	// change whenever Apply computes something else.
	Name string
	// Apply fills dst, the part's elements, from src, the sources in the
	// order of Part.From, as float32. It may be called from several goroutines
	// at once, and must not keep or change src.
	Apply func(dst []float32, src []*tensor.Tensor) error
	// Elementwise says that element i of dst depends on element i of a single
	// source only. Such a transform sees large tensors in flat pieces, so that
	// little memory is needed.
	Elementwise bool
}

// RoundF16 rounds each element to the nearest half, ties to even: text
// encoders are stored as halves before they compute in float32.
func RoundF16() *Transform {
	return &Transform{Name: "round-f16", Elementwise: true, Apply: func(dst []float32, src []*tensor.Tensor) error {
		for i, v := range src[0].Data {
			dst[i] = tensor.F16ToF32(tensor.F32ToF16(v))
		}
		return nil
	}}
}

// Location is a range of bytes in a file: little-endian elements of a part's
// type.
type Location struct {
	Path           string // canonical: absolute, without symbolic links
	Offset, Length int64
}

// plan divides parts into those that the source file holds ready to use and
// those that have to be converted.
type plan struct {
	file    *File
	direct  map[string]Location
	convert []Part // in the order of the source file
}

func newPlan(f *File, parts []Part) (*plan, error) {
	p := &plan{file: f, direct: map[string]Location{}}
	seen := map[string]bool{}
	for _, part := range parts {
		if seen[part.Name] {
			return nil, fmt.Errorf("part %q is wanted twice", part.Name)
		}
		seen[part.Name] = true
		if err := f.checkPart(part); err != nil {
			return nil, fmt.Errorf("part %q: %w", part.Name, err)
		}
		if first := f.first(part); part.Transform == nil && first.DType == part.dtype() {
			p.direct[part.Name] = Location{f.Path, first.Offset, first.Length}
		} else {
			p.convert = append(p.convert, part)
		}
	}
	slices.SortStableFunc(p.convert, func(a, b Part) int {
		return cmp.Compare(f.first(a).Offset, f.first(b).Offset)
	})
	return p, nil
}

// first returns the first source of a part, the zero Info where it has none.
func (f *File) first(p Part) Info {
	if len(p.From) == 0 {
		return Info{}
	}
	return f.tensors[p.From[0]]
}

// checkPart sees to it that the sources exist and that their number and sizes
// suit the part.
func (f *File) checkPart(p Part) error {
	if d := p.dtype(); d != tensor.F32 && d != tensor.F16 {
		return fmt.Errorf("wanted as %s; F32 and F16 are made", d)
	}
	for _, name := range p.From {
		if _, ok := f.tensors[name]; !ok {
			return fmt.Errorf("no tensor %q in the file", name)
		}
	}
	if p.Transform != nil && !p.Transform.Elementwise {
		return nil
	}
	if len(p.From) == 0 {
		return fmt.Errorf("has no source")
	}
	if len(p.From) != 1 {
		return fmt.Errorf("takes one source, has %q", p.From)
	}
	if src := f.tensors[p.From[0]]; src.Shape.Elements() != p.Shape.Elements() {
		return fmt.Errorf("shape %v does not hold the elements of %q, %v", p.Shape, src.Name, src.Shape)
	}
	return nil
}

// cacheFormat changes when the same parts would be converted differently.
const cacheFormat = "1"

// key digests what the conversion makes, apart from the source's content.
func (p *plan) key() string {
	byName := slices.SortedFunc(slices.Values(p.convert), func(a, b Part) int { return cmp.Compare(a.Name, b.Name) })
	h := sha256.New()
	fmt.Fprintf(h, "format %s\n", cacheFormat)
	for _, part := range byName {
		transform := ""
		if part.Transform != nil {
			transform = part.Transform.Name
		}
		fmt.Fprintf(h, "%q %v %q %q", part.Name, part.Shape, part.From, transform)
		if part.dtype() != tensor.F32 {
			fmt.Fprintf(h, " %s", part.dtype())
		}
		fmt.Fprintln(h)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}
