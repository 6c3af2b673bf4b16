package diffusion

import (
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// tensors offers the tensors of a file as weights under their own names, those
// that are stored with a scale scaled.
type tensors struct {
	f      *weights.File
	scaled bool
}

// The names in files whose matrices are 8-bit floats with a scale each. The
// mark is a tensor that says so; inputScale is for multiplying in 8 bits, which
// is not done here.
const (
	scaledMark   = "scaled_fp8"
	weightSuffix = ".weight"
	weightScale  = ".scale_weight"
	inputScale   = ".scale_input"
)

func tensorsOf(f *weights.File) tensors {
	marked := func(name string) bool { return name == scaledMark || strings.HasSuffix(name, "."+scaledMark) }
	return tensors{f, slices.ContainsFunc(f.Names(), marked)}
}

// Names leaves out what belongs to other tensors.
func (t tensors) Names() []string {
	if !t.scaled {
		return t.f.Names()
	}
	var names []string
	for _, name := range t.f.Names() {
		of, isScale := strings.CutSuffix(name, weightScale)
		if isScale {
			_, isScale = t.f.Tensor(of + weightSuffix)
		}
		if !isScale && !strings.HasSuffix(name, inputScale) && !strings.HasSuffix("."+name, "."+scaledMark) {
			names = append(names, name)
		}
	}
	return names
}

// Lookup is that of nn.Weights.
func (t tensors) Lookup(name string) (nn.Source, bool) {
	info, ok := t.f.Tensor(name)
	src := nn.Source{Shape: info.Shape, From: []string{name}, Derive: info.DType != tensor.F32}
	stem, matrix := strings.CutSuffix(name, weightSuffix)
	if !t.scaled || !matrix {
		return src, ok
	}
	if _, has := t.f.Tensor(stem + weightScale); has {
		src.From = append(src.From, stem+weightScale)
		src.Make = &nn.Make{Name: "scaled", Apply: applyScale}
	}
	return src, ok
}

// applyScale makes a weight of its 8-bit form and its scale.
func applyScale(dst []float32, parts []*tensor.Tensor) error {
	if len(parts[1].Data) != 1 {
		return fmt.Errorf("a weight of shape %v has %d scales, want one", parts[0].Shape, len(parts[1].Data))
	}
	for i, v := range parts[0].Data {
		dst[i] = v * parts[1].Data[0]
	}
	return nil
}
