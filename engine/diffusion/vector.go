package diffusion

import (
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Size is a size in pixels.
type Size struct{ Width, Height int }

// Hints are what a network of the Stable Diffusion XL family is told about the
// picture beside the prompt, in pixels. The zero value says what is usual.
type Hints struct {
	// Original is the size of the picture before it was cut; nil is that of the
	// latent. Target is the size afterwards; nil is Original.
	Original, Target  *Size
	CropLeft, CropTop int
	// Aesthetic is the score for the refiner, about 1 to 10; nil is 6, or 2.5 on
	// the negative side.
	Aesthetic *float64
}

// hash returns the numbers for a digest.
func (h Hints) hash() []any {
	parts := []any{h.CropLeft, h.CropTop}
	for _, s := range []*Size{h.Original, h.Target} {
		if s != nil {
			parts = append(parts, *s)
		}
		parts = append(parts, s != nil)
	}
	if h.Aesthetic != nil {
		parts = append(parts, *h.Aesthetic)
	}
	return parts
}

// side is where a conditioning stands in a run: the size of the pictures and
// whether it is the negative one.
type side struct {
	shape    tensor.Shape // of the latents
	negative bool
}

// inputs returns what the network takes of an entry beside picture and
// timestep.
func (m *Model) inputs(e Cond, s side) (map[string]*tensor.Tensor, error) {
	if e.Text == nil || e.Text.Dim(-1) != m.textWidth {
		return nil, fmt.Errorf("the text states are %s wide, the model wants %d: the text encoder is of another family",
			width(e.Text), m.textWidth)
	}
	in := map[string]*tensor.Tensor{"context": e.Text}
	if m.vectorWidth == 0 {
		return in, nil
	}
	y, err := m.vector(e, s)
	in["y"] = y
	return in, err
}

func width(t *tensor.Tensor) string {
	if t == nil {
		return "0"
	}
	return fmt.Sprint(t.Dim(-1))
}

// vector returns the network's input y, [batch, width]: the pooled text and the
// embedded numbers.
func (m *Model) vector(e Cond, s side) (*tensor.Tensor, error) {
	pooled := m.vectorWidth - len(m.numbers)*arch.NumberWidth
	if e.Pooled == nil || e.Pooled.Dim(-1) != pooled {
		return nil, fmt.Errorf("the pooled text vector is %s wide, the model wants %d: the text encoder is of another family",
			width(e.Pooled), pooled)
	}
	values := e.Hints.values(s)
	out := tensor.New(e.Pooled.Dim(0), m.vectorWidth)
	for i := range out.Dim(0) {
		row := out.Data[i*m.vectorWidth:][:m.vectorWidth]
		copy(row, e.Pooled.Data[i*pooled:][:pooled])
		for k, number := range m.numbers {
			embedNumber(row[pooled+k*arch.NumberWidth:][:arch.NumberWidth], values[number])
		}
	}
	return out, nil
}

// values fills in what the hints leave open.
func (h Hints) values(s side) map[arch.Number]float32 {
	original, target := h.Original, h.Target
	if original == nil {
		original = &Size{Width: s.shape[3] * 8, Height: s.shape[2] * 8}
	}
	if target == nil {
		target = original
	}
	score := float32(6)
	if s.negative {
		score = 2.5
	}
	if h.Aesthetic != nil {
		score = float32(*h.Aesthetic)
	}
	return map[arch.Number]float32{
		arch.Height: float32(original.Height), arch.Width: float32(original.Width),
		arch.CropTop: float32(h.CropTop), arch.CropLeft: float32(h.CropLeft),
		arch.TargetHeight: float32(target.Height), arch.TargetWidth: float32(target.Width),
		arch.AestheticScore: score,
	}
}

// embedNumber writes the sinusoidal embedding of v, cosines first: see
// nn.TimestepEmbedding.
func embedNumber(dst []float32, v float32) {
	half := len(dst) / 2
	for k, f := range nn.Frequencies(half) {
		angle := float64(v * f)
		dst[k], dst[half+k] = float32(math.Cos(angle)), float32(math.Sin(angle))
	}
}
