package nn

import (
	"math"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

// Heads describes an attention.
type Heads struct {
	// Count is the number of heads.
	Count int
	// Causal says that a token sees only itself and those before it.
	Causal bool
	// Float32 has it computed in float32 whatever the graph computes with: for
	// networks whose products of queries and keys leave the range of float16.
	Float32 bool
}

// Attention is softmax(q·kᵀ/√d)·v in h.Count heads; q is [batch, tokens,
// width], k and v may have other numbers of tokens.
func Attention(q, k, v *Value, h Heads) *Value {
	if q.Dim(-1)%h.Count != 0 {
		failf("Attention: width %d does not make %d heads", q.Dim(-1), h.Count)
	}
	elem := q.b.target.elem()
	if h.Float32 {
		elem = onnx.Float
	}
	q, k, v = q.as(elem), k.as(elem), v.as(elem)
	// WebGPU's operator does not know of causal attention, and CUDA's has not
	// always done; it is for few tokens, once for a text.
	if t := q.b.target; t.PlainAttention || !t.onCPU() && h.Causal {
		return plainAttention(q, k, v, h).working()
	}
	return fusedAttention(q, k, v, h).working()
}

func fusedAttention(q, k, v *Value, h Heads) *Value {
	attrs := []onnx.Attr{attr("num_heads", int64(h.Count))}
	if h.Causal {
		attrs = append(attrs, attr("unidirectional", int64(1)))
	}
	return q.b.apply(call{op: "MultiHeadAttention", domain: microsoft, in: []*Value{q, k, v}, attrs: attrs}, q.shape)
}

// plainAttention has all products of queries and keys in memory at once. Its
// softmax is computed in float32.
func plainAttention(q, k, v *Value, h Heads) *Value {
	scores := attentionScores(q, k, h.Count).as(onnx.Float)
	if h.Causal {
		scores = scores.Add(later(q))
	}
	d := v.Dim(-1) / h.Count
	heads := v.Reshape(0, 0, h.Count, d).Transpose(0, 2, 1, 3)
	y := product(scores.softmax().as(v.elem), heads, []int{q.shape[0], h.Count, Any, d})
	return y.Transpose(0, 2, 1, 3).Reshape(0, 0, v.Dim(-1))
}

// attentionScores returns q·kᵀ/√d: [batch, heads, tokens, tokens]. Queries are
// scaled before the product, which stays smaller so.
func attentionScores(q, k *Value, heads int) *Value {
	d := q.Dim(-1) / heads
	q = q.Scale(float32(1/math.Sqrt(float64(d)))).Reshape(0, 0, heads, d).Transpose(0, 2, 1, 3)
	k = k.Reshape(0, 0, heads, d).Transpose(0, 2, 3, 1)
	return product(q, k, []int{q.shape[0], heads, Any, Any})
}

func (v *Value) softmax() *Value {
	return v.b.apply(call{op: "Softmax", in: []*Value{v}, attrs: []onnx.Attr{attr("axis", int64(-1))}}, v.shape)
}

// later returns the matrix [tokens, tokens] that is 0 where the column's token
// does not come after the row's, and elsewhere so far below that nothing of it
// remains behind a softmax. All causal attentions of a graph are over the same
// tokens.
func later(x *Value) *Value {
	const hidden = 1e4
	return x.b.once("later", func() *Value {
		i := x.b.upTo(x.sizeFor(1)).cast(onnx.Float)
		ahead := i.Reshape(Any, 1).Sub(i.Reshape(1, Any))
		return ahead.binary("Min", x.b.floats([]float32{0}, 1)).Scale(hidden)
	})
}
