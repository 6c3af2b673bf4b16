package nodes

import (
	"context"
	"fmt"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

// addBlockMerging declares the merges with an input for every block of a
// network. The inputs are named by how the names of the block's weights begin,
// so the types are put together from lists.
func addBlockMerging(c *engine.Catalog) {
	small := blockNames(12, 12, ".")
	for _, t := range []struct {
		class, family string
		blocks        []string
	}{
		{"ModelMergeSD1", "Stable Diffusion 1", small},
		{"ModelMergeSD2", "Stable Diffusion 2", small},
		{"ModelMergeSDXL", "Stable Diffusion XL", blockNames(9, 9, "")},
	} {
		c.AddType(&engine.NodeType{
			Class: t.class, Category: "advanced/model_merging/model_specific", Module: "comfy_extras.nodes_model_merging_model_specific",
			Doc:     "Mixes two denoisers of " + t.family + " with a ratio for each block: 1 is the first, 0 the second.",
			Inputs:  blockInputs(t.blocks),
			Outputs: []engine.Output{{Name: "MODEL", Kind: "MODEL"}},
			Call: func(_ context.Context, a *engine.Args) (engine.Returned, error) {
				m, err := mergeByBlocks(a)
				return engine.Returned{Values: []any{m}}, err
			},
		})
	}
}

// blockNames are the inputs for a network with so many blocks on its way down
// and up; end is what follows a block's number.
func blockNames(down, up int, end string) []string {
	names := []string{"time_embed.", "label_emb."}
	for _, part := range []struct {
		name string
		n    int
	}{{"input_blocks", down}, {"middle_block", 3}, {"output_blocks", up}} {
		for i := range part.n {
			names = append(names, fmt.Sprintf("%s.%d%s", part.name, i, end))
		}
	}
	return append(names, "out.")
}

func blockInputs(blocks []string) []engine.Input {
	inputs := []engine.Input{{Name: "model1", Kind: "MODEL"}, {Name: "model2", Kind: "MODEL"}}
	for _, name := range blocks {
		inputs = append(inputs, engine.Input{
			Name: name, Kind: engine.KindFloat, Default: engine.Float(1),
			Min: engine.Float(0), Max: engine.Float(1), Step: engine.Float(0.01),
		})
	}
	return inputs
}

// mergeByBlocks merges with the inputs of a node.
func mergeByBlocks(a *engine.Args) (*diffusion.Model, error) {
	first, err := argument[*diffusion.Model](a, 0)
	if err != nil {
		return nil, err
	}
	second, err := argument[*diffusion.Model](a, 1)
	if err != nil {
		return nil, err
	}
	var ratios []blockRatio
	for i, in := range a.Type.Inputs[2:] {
		ratio, err := argument[float64](a, 2+i)
		if err != nil {
			return nil, err
		}
		ratios = append(ratios, blockRatio{in.Name, ratio})
	}
	return first.Merge(second, func(weight string) diffusion.Mix { return byRatio(ratioOf(weight, ratios)) })
}

// argument returns input i, which has one value.
func argument[T any](a *engine.Args, i int) (T, error) {
	var v T
	ok := len(a.Values[i]) == 1
	if ok {
		v, ok = a.Values[i][0].(T)
	}
	if !ok {
		return v, fmt.Errorf("input %s: got %v, want one %T", a.Type.Inputs[i].Name, a.Values[i], v)
	}
	return v, nil
}

// blockRatio is the ratio for the weights whose names begin with block.
type blockRatio struct {
	block string
	ratio float64
}

// ratioOf returns the ratio of the longest beginning that a weight's name has,
// the first ratio for a name without one.
func ratioOf(weight string, ratios []blockRatio) float64 {
	best := blockRatio{ratio: ratios[0].ratio}
	for _, r := range ratios {
		if strings.HasPrefix(weight, r.block) && len(r.block) > len(best.block) {
			best = r
		}
	}
	return best.ratio
}
