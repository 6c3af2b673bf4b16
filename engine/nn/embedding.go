package nn

import "math"

// TimestepEmbedding returns [cos(t·f), sin(t·f)] of timesteps [batch], dim
// numbers each, with f_k = 10000^(-k/(dim/2)).
// Source: Vaswani et al., Attention Is All You Need, 2017, with the cosines
// first as in the Stable Diffusion checkpoints.
func TimestepEmbedding(t *Value, dim int) *Value {
	freqs := Frequencies(dim / 2)
	angles := t.Reshape(Any, 1).Mul(t.b.floats(freqs, 1, len(freqs)))
	return Concat(1, angles.Cos(), angles.Sin())
}

// Frequencies returns 10000^(-k/n) for k = 0…n-1, float32 at each step: the
// angle of timestep 999 depends on it.
func Frequencies(n int) []float32 {
	out := make([]float32, n)
	for k := range out {
		out[k] = float32(math.Exp(float64(float32(-math.Log(10000)) * float32(k) / float32(n))))
	}
	return out
}
