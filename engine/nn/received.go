package nn

import (
	"math"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

// Received returns how much attention each token gets: the columns of
// softmax(q·kᵀ/√d) summed, the mean over heads. q and k are [batch, tokens,
// width], the result is [batch, tokens]. It is computed in float32: a token's
// share of a long row is small.
func Received(q, k *Value, heads int) *Value {
	d := q.Dim(-1) / heads
	q, k = q.as(onnx.Float), k.as(onnx.Float)
	q = q.Reshape(0, 0, heads, d).Transpose(0, 2, 1, 3)
	k = k.Reshape(0, 0, heads, d).Transpose(0, 2, 3, 1)
	square := []int{q.shape[0], heads, Any, Any}
	weights := product(q, k, square).Scale(float32(1 / math.Sqrt(float64(d)))).softmax()
	return weights.reduce("ReduceMean", 1).reduce("ReduceSum", 2).Reshape(0, Any)
}
