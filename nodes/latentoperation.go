package nodes

import (
	"context"
	"fmt"
	"math"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// latentOperation turns samples, [batch, channel, height, width], into others
// of the same shape.
type latentOperation func(*tensor.Tensor) (*tensor.Tensor, error)

// addLatentOperations declares the nodes that make an operation and apply it.
func addLatentOperations(c *engine.Catalog) {
	const category = "latent/advanced/operations"
	engine.Add(c, "LatentApplyOperation", category, applyOperation{}, applyLatent).V3().Module(latentModule).Experimental().
		Doc("Applies an operation to a latent.")
	engine.Add(c, "LatentOperationTonemapReinhard", category, reinhardOperation{Multiplier: 1}, newReinhard).V3().Module(latentModule).Experimental().
		Doc("An operation that compresses very strong pixels.")
	engine.Add(c, "LatentOperationSharpen", category, sharpenOperation{Radius: 9, Sigma: 1, Alpha: 0.1}, newSharpen).V3().Module(latentModule).Experimental().
		Doc("An operation that raises the contrast of neighbouring pixels.")
}

type applyOperation struct {
	Samples   diffusion.Latent `in:"samples"`
	Operation latentOperation  `in:"operation"`
}

func applyLatent(_ context.Context, in applyOperation) (diffusion.Latent, error) {
	l := in.Samples
	var err error
	l.Samples, err = in.Operation(l.Samples)
	return l, err
}

type reinhardOperation struct {
	Multiplier float64 `in:"multiplier" range:"0,100,0.01"`
}

func newReinhard(_ context.Context, in reinhardOperation) (latentOperation, error) {
	return func(t *tensor.Tensor) (*tensor.Tensor, error) { return reinhard(t, in.Multiplier) }, nil
}

// reinhard maps the length v of each pixel's channel vector to t·(v/t)/(1+v/t)
// (Reinhard et al., "Photographic tone reproduction for digital images", 2002)
// with t = multiplier·(mean + 5 standard deviations) of the item's lengths.
func reinhard(t *tensor.Tensor, multiplier float64) (*tensor.Tensor, error) {
	if len(t.Shape) != 4 {
		return nil, fmt.Errorf("tonemap latent: shape %v has not 4 dimensions", t.Shape)
	}
	out := t.Clone()
	for item := range t.Dim(0) {
		v := vectorsOf(out.Index(item))
		lengths := make([]float64, v.count())
		var sum, squares float64
		for i := range lengths {
			lengths[i] = float64(v.length(i)) + 1e-10
			sum += lengths[i]
		}
		n := float64(len(lengths))
		for _, l := range lengths {
			squares += (l - sum/n) * (l - sum/n)
		}
		top := (math.Sqrt(squares/(n-1))*5 + sum/n) * multiplier
		for i, l := range lengths {
			x := l / top
			factor := float32(x / (x + 1) * top / l)
			for c := range v.channels {
				*v.at(i, c) *= factor
			}
		}
	}
	return out, nil
}

type sharpenOperation struct {
	Radius int     `in:"sharpen_radius" range:"1,31,1"`
	Sigma  float64 `in:"sigma" range:"0.1,10,0.1"`
	Alpha  float64 `in:"alpha" range:"0,5,0.01"`
}

func newSharpen(_ context.Context, in sharpenOperation) (latentOperation, error) {
	return func(t *tensor.Tensor) (*tensor.Tensor, error) {
		return sharpenDirections(t, tensor.Gaussian{Radius: in.Radius, Sigma: in.Sigma}, in.Alpha)
	}, nil
}

// sharpenDirections sharpens the directions of the pixels' channel vectors and
// leaves their lengths.
func sharpenDirections(t *tensor.Tensor, g tensor.Gaussian, alpha float64) (*tensor.Tensor, error) {
	if len(t.Shape) != 4 {
		return nil, fmt.Errorf("sharpen latent: shape %v has not 4 dimensions", t.Shape)
	}
	directions := t.Clone()
	v := vectorsOf(directions)
	lengths := make([]float32, v.count())
	for i := range lengths {
		lengths[i] = v.length(i) + 1e-6
		for c := range v.channels {
			*v.at(i, c) /= lengths[i]
		}
	}
	out, err := g.Sharpen(directions, alpha)
	if err != nil {
		return nil, err
	}
	v = vectorsOf(out)
	for i, l := range lengths {
		for c := range v.channels {
			*v.at(i, c) *= l
		}
	}
	return out, nil
}
