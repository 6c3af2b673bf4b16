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

// WithAttention returns the encoder with the weights and biases of all its
// attentions multiplied, as they are now.
func (c *CLIP) WithAttention(s AttentionScale) (*CLIP, error) {
	n := &CLIP{runtime: c.runtime}
	for _, t := range c.towers {
		st := step{
			name: "scale attention", amount: fmt.Sprint(s), changes: map[string][]change{},
			digest: func(*weights.Digests) string { return digest("scale attention") },
		}
		for _, name := range t.Weights.Names() {
			if ch := s.inTower(name); ch != nil {
				st.changes[name] = []change{ch}
			}
		}
		changed := *t
		var err error
		if changed.net, err = t.net.with(st); err != nil {
			return nil, err
		}
		n.towers = append(n.towers, &changed)
	}
	return n, nil
}

// inTower returns the change of a text encoder's weight, nil for none.
func (s AttentionScale) inTower(weight string) change {
	_, layer, ok := strings.Cut(weight, ".self_attn.")
	if !ok {
		return nil
	}
	layer, _, _ = strings.Cut(layer, ".")
	if layer+"." == joinedQKV && (s.Q != 1 || s.K != 1 || s.V != 1) {
		return rowsChange{float32(s.Q), float32(s.K), float32(s.V)}
	}
	f, ok := map[string]float64{"q_proj": s.Q, "k_proj": s.K, "v_proj": s.V, "out_proj": s.Out}[layer]
	if !ok || f == 1 {
		return nil
	}
	return scaleChange(f)
}

// rowsChange multiplies the thirds of a weight that lie one below the other.
type rowsChange [3]float32

func (c rowsChange) apply(w *tensor.Tensor) (*tensor.Tensor, error) {
	n := w.Dim(0) / len(c)
	for i, f := range c {
		scale(w.Rows(i*n, (i+1)*n).Data, f)
	}
	return w, nil
}

func (rowsChange) branch() (*loraChange, bool) { return nil, false }

// scaleChange multiplies a weight.
type scaleChange float32

func (c scaleChange) apply(w *tensor.Tensor) (*tensor.Tensor, error) {
	scale(w.Data, float32(c))
	return w, nil
}

func (scaleChange) branch() (*loraChange, bool) { return nil, false }
