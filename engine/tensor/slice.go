package tensor

import (
	"fmt"
	"slices"
)

// Narrow copies n positions from first on of dimension dim, as
// torch.Tensor.narrow does.
func Narrow(t *Tensor, dim, first, n int) (*Tensor, error) {
	if dim < 0 || dim >= len(t.Shape) || first < 0 || n < 0 || first+n > t.Shape[dim] {
		return nil, fmt.Errorf("narrow tensor: positions %d to %d of dimension %d of %v", first, first+n, dim, t.Shape)
	}
	s := slices.Clone(t.Shape)
	s[dim] = n
	out := New(s...)
	inner := s[dim+1:].Elements()
	for i := range s[:dim].Elements() {
		copy(out.Data[i*n*inner:(i+1)*n*inner], t.Data[(i*t.Shape[dim]+first)*inner:])
	}
	return out, nil
}

// Concat joins tensors along a dimension. All must agree in the other ones.
func Concat(dim int, parts ...*Tensor) (*Tensor, error) {
	if len(parts) == 0 || dim < 0 || dim >= len(parts[0].Shape) {
		return nil, fmt.Errorf("join tensors: %d tensors along dimension %d", len(parts), dim)
	}
	s := slices.Clone(parts[0].Shape)
	s[dim] = 0
	for _, p := range parts {
		other := slices.Clone(p.Shape)
		if len(other) != len(s) {
			return nil, fmt.Errorf("join tensors: shapes %v and %v differ", parts[0].Shape, p.Shape)
		}
		n := other[dim]
		if other[dim] = s[dim]; !other.Equal(s) {
			return nil, fmt.Errorf("join tensors: shapes %v and %v differ beyond dimension %d", parts[0].Shape, p.Shape, dim)
		}
		s[dim] += n
	}
	data := make([]float32, 0, s.Elements())
	for i := range s[:dim].Elements() {
		for _, p := range parts {
			n := p.Shape[dim:].Elements()
			data = append(data, p.Data[i*n:(i+1)*n]...)
		}
	}
	return &Tensor{Shape: s, Data: data}, nil
}
