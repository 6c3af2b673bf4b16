package diffusion

import (
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Precision names the form that a denoiser's weights are rounded to before they
// are used in float32. "" keeps what the file has.
type Precision string

// The 8-bit floats that ComfyUI can store weights in.
const (
	E4M3 Precision = "e4m3fn" // 1-4-3 bits, largest 448, no infinities
	E5M2 Precision = "e5m2"   // 1-5-2 bits
)

// round returns v in the precision, to nearest even; beyond the largest value
// E4M3 has NaN and E5M2 infinity.
// Source: Micikevicius et al., FP8 Formats for Deep Learning, 2022, table 1.
func (p Precision) round(v float32) float32 {
	mantissa, lowest, largest, beyond := 3, -6, 448.0, math.NaN()
	if p == E5M2 {
		mantissa, lowest, largest, beyond = 2, -14, 57344, math.Inf(1)
	}
	_, exp := math.Frexp(float64(v)) // |v| is in [2^(exp-1), 2^exp)
	step := math.Ldexp(1, max(exp-1, lowest)-mantissa)
	out := math.RoundToEven(float64(v)/step) * step
	if math.Abs(out) > largest {
		out = math.Copysign(beyond, out)
	}
	return float32(out)
}

// rounded are weights in a precision.
type rounded struct {
	nn.Weights
	to Precision
}

// newRounded returns w in a precision.
func newRounded(w nn.Weights, to Precision) (nn.Weights, error) {
	switch to {
	case "":
		return w, nil
	case E4M3, E5M2:
		return rounded{w, to}, nil
	}
	return nil, fmt.Errorf("weights cannot be rounded to %q; possible: %s, %s", to, E4M3, E5M2)
}

// Lookup has the weight rounded after what else is made of it.
func (r rounded) Lookup(name string) (nn.Source, bool) {
	src, ok := r.Weights.Lookup(name)
	if !ok {
		return src, false
	}
	return src.Then(src.Shape, nn.Make{Name: "round-" + string(r.to), Apply: func(dst []float32, parts []*tensor.Tensor) error {
		for i, v := range parts[0].Data {
			dst[i] = r.to.round(v)
		}
		return nil
	}}), true
}
