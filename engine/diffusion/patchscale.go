package diffusion

import (
	"fmt"
	"strings"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// Attention is one of the two attentions of a transformer block, as weights are
// named.
type Attention string

// The attentions of the UNets: of the picture to itself and to the text.
const (
	SelfAttention  Attention = "attn1"
	CrossAttention Attention = "attn2"
)

// AttentionScale are factors for the projections of an attention.
type AttentionScale struct{ Q, K, V, Out float64 }

// of returns the factor for a weight; ok is false for one that is not concerned.
func (s AttentionScale) of(weight string, a Attention) (f float64, ok bool) {
	_, layer, ok := strings.Cut(weight, "."+string(a)+".")
	if !ok {
		return 1, false
	}
	layer, _, _ = strings.Cut(layer, ".")
	f, ok = map[string]float64{"to_q": s.Q, "to_k": s.K, "to_v": s.V, "to_out": s.Out}[layer]
	return f, ok && f != 1
}

// WithAttention returns the model with the weights of all attentions of one
// kind multiplied, as they are now: what changes them later is not.
func (m *Model) WithAttention(a Attention, s AttentionScale) (*Model, error) {
	st := step{
		name: "scale " + string(a), amount: fmt.Sprint(s), changes: map[string][]change{},
		digest: func(*weights.Digests) string { return digest("scale", string(a)) },
	}
	for _, name := range m.unet.weights.Names() {
		if f, ok := s.of(name, a); ok {
			st.changes[name] = []change{scaleChange(f)}
		}
	}
	return m.withSteps(st)
}

// scaleChange multiplies a weight.
type scaleChange float32

func (c scaleChange) apply(w *tensor.Tensor) (*tensor.Tensor, error) {
	scale(w.Data, float32(c))
	return w, nil
}

func (scaleChange) branch() (*loraChange, bool) { return nil, false }
