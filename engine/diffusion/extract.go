package diffusion

import (
	"fmt"
	"strings"
	"sync"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// Extraction says how weights become a LoRA file.
type Extraction struct {
	// Rank bounds the rank of each matrix's factors.
	Rank int
	// Whole keeps matrices whole instead of as factors.
	Whole bool
	// Biases keeps biases and the weights of norms.
	Biases bool
}

// Extract lists the model's weights, differences of two models, as tensors of a
// LoRA file in half precision.
func (m *Model) Extract(e Extraction) []weights.Content {
	const place = "diffusion_model."
	return e.all(m.unet.contents(func(name string) string { return place + name }))
}

// Extract is Model.Extract for text encoders.
func (c *CLIP) Extract(e Extraction) []weights.Content {
	var out []weights.Content
	for _, tower := range c.Contents() {
		out = append(out, e.all(under(fmt.Sprintf("text_encoders.%s.transformer.", tower.Name), tower.Own))...)
	}
	return out
}

func (e Extraction) all(list []weights.Content) []weights.Content {
	var out []weights.Content
	for _, c := range list {
		stem, isWeight := strings.CutSuffix(c.Name, weightSuffix)
		bias, isBias := strings.CutSuffix(c.Name, ".bias")
		c.DType = tensor.F16
		switch {
		case isWeight && len(c.Shape) < 2 && !e.Biases && !e.Whole:
		case isWeight && (len(c.Shape) < 2 || e.Whole):
			c.Name = stem + ".diff"
			out = append(out, c)
		case isWeight:
			out = append(out, e.factors(stem, c)...)
		case isBias && e.Biases:
			c.Name = bias + ".diff_b"
			out = append(out, c)
		}
	}
	return out
}

// factors are the two of a matrix, or of a convolution.
func (e Extraction) factors(stem string, c weights.Content) []weights.Content {
	rows, columns := c.Shape[0], c.Shape[1:].Elements()
	rank := min(e.Rank, rows, c.Shape[1])
	up, down := tensor.Shape{rows, rank}, append(tensor.Shape{rank}, c.Shape[1:]...)
	if len(c.Shape) == 4 {
		up = append(up, 1, 1)
	}
	made := sync.OnceValues(func() ([2]*tensor.Tensor, error) {
		w, err := c.Values()
		if err != nil {
			return [2]*tensor.Tensor{}, err
		}
		u, v := lowRank(matrixOf(w.Data, rows, columns), rank)
		clampOutliers(u, v)
		return [2]*tensor.Tensor{tensor.Of(u, up...), tensor.Of(v, down...)}, nil
	})
	half := func(name string, shape tensor.Shape, i int) weights.Content {
		return weights.Content{Name: stem + name, DType: tensor.F16, Shape: shape, Values: func() (*tensor.Tensor, error) {
			both, err := made()
			return both[i], err
		}}
	}
	return []weights.Content{half(".lora_up.weight", up, 0), half(".lora_down.weight", down, 1)}
}
