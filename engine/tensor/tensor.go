// Package tensor holds arrays in host memory: element types, shapes, and the
// dense float32 tensor that latents, images, masks and embeddings are made of.
//
// Vocabulary: a Tensor is row-major and contiguous, its last dimension varies
// fastest. Latents are [batch, channel, height, width]; images are [batch,
// height, width, channel] with values in [0, 1]; masks are [batch, height,
// width]. The package knows nothing of files, models or graphs.
package tensor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Shape is the list of a tensor's dimensions, outermost first.
type Shape []int

// Elements returns the number of elements, 1 for the empty shape.
func (s Shape) Elements() int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// Equal reports whether both shapes have the same dimensions.
func (s Shape) Equal(o Shape) bool { return slices.Equal(s, o) }

// String prints the shape as [2 4 64 64].
func (s Shape) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = strconv.Itoa(d)
	}
	return "[" + strings.Join(parts, " ") + "]"
}

// Tensor is a dense float32 array. The zero value is an empty tensor without
// dimensions. Data is shared, not copied, when a Tensor is passed on: whoever
// wants to write into it clones first.
type Tensor struct {
	Shape Shape
	Data  []float32
}

// New returns a tensor of zeros.
func New(shape ...int) *Tensor {
	s := Shape(slices.Clone(shape))
	return &Tensor{Shape: s, Data: make([]float32, s.Elements())}
}

// Of wraps data without copying it. It panics when the length does not fit the
// shape, which is a mistake in the caller.
func Of(data []float32, shape ...int) *Tensor {
	s := Shape(slices.Clone(shape))
	if len(data) != s.Elements() {
		panic(fmt.Sprintf("tensor: %d elements for shape %v", len(data), s))
	}
	return &Tensor{Shape: s, Data: data}
}

// Full returns a tensor whose elements are all v.
func Full(v float32, shape ...int) *Tensor {
	t := New(shape...)
	for i := range t.Data {
		t.Data[i] = v
	}
	return t
}

// Clone returns a copy that shares nothing with t.
func (t *Tensor) Clone() *Tensor {
	return &Tensor{Shape: slices.Clone(t.Shape), Data: slices.Clone(t.Data)}
}

// Dim returns dimension i; negative i counts from the end.
func (t *Tensor) Dim(i int) int {
	if i < 0 {
		i += len(t.Shape)
	}
	return t.Shape[i]
}

// Bytes returns the size of the elements in memory.
func (t *Tensor) Bytes() int64 { return int64(len(t.Data)) * 4 }

// Index returns the part of t at position i of the first dimension, with that
// dimension kept as 1. The result shares t's data.
func (t *Tensor) Index(i int) *Tensor { return t.Rows(i, i+1) }

// Rows returns positions lo to hi-1 of the first dimension. The result shares
// t's data.
func (t *Tensor) Rows(lo, hi int) *Tensor {
	stride := len(t.Data) / max(t.Shape[0], 1)
	s := slices.Clone(t.Shape)
	s[0] = hi - lo
	return &Tensor{Shape: s, Data: t.Data[lo*stride : hi*stride : hi*stride]}
}

// Stack joins tensors along the first dimension. All must agree in the other
// dimensions.
func Stack(parts ...*Tensor) (*Tensor, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("stack tensors: nothing to stack")
	}
	s := slices.Clone(parts[0].Shape)
	s[0] = 0
	n := 0
	for _, p := range parts {
		if len(p.Shape) != len(s) || !slices.Equal(p.Shape[1:], s[1:]) {
			return nil, fmt.Errorf("stack tensors: shapes %v and %v differ", parts[0].Shape, p.Shape)
		}
		s[0] += p.Shape[0]
		n += len(p.Data)
	}
	data := make([]float32, 0, n)
	for _, p := range parts {
		data = append(data, p.Data...)
	}
	return &Tensor{Shape: s, Data: data}, nil
}

// IsZero reports whether every element is 0.
func (t *Tensor) IsZero() bool {
	for _, v := range t.Data {
		if v != 0 {
			return false
		}
	}
	return true
}
