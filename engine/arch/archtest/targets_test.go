package archtest

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort/winograd"
)

// targets are all that graphs are built for.
func targets() []nn.Target {
	var all []nn.Target
	for _, provider := range []nn.Provider{nn.CPU, nn.CUDA, nn.WebGPU} {
		for _, precision := range []nn.Precision{nn.Float32, nn.Float16} {
			all = append(all, nn.Target{Provider: provider, Precision: precision})
		}
	}
	return append(all, nn.Target{Provider: nn.WebGPU, PlainAttention: true}, nn.Target{Provider: nn.WebGPU, Precision: nn.Float16, PlainAttention: true})
}

// TestTargets builds every architecture for every target.
func TestTargets(t *testing.T) {
	all := Networks(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, target := range targets() {
			g, err := target.Build(name, all[name].Weights, all[name].Build)
			if err != nil {
				t.Errorf("%s for %+v: %v", name, target, err)
				continue
			}
			for _, problem := range append(problems(g, target), disorder(g)...) {
				t.Errorf("%s for %+v: %s", name, target, problem)
			}
		}
	}
}

// problems lists what must not be in a graph for a target.
func problems(g *nn.Graph, target nn.Target) []string {
	var out []string
	for _, v := range append(slices.Clone(g.ONNX.Inputs), g.ONNX.Outputs...) {
		if v.Type != onnx.Float {
			out = append(out, fmt.Sprintf("%s goes in or out, and is not float32", v))
		}
	}
	half := 0
	for _, p := range g.Params {
		if p.Type == onnx.Float16 {
			half++
		}
		if p.Source.Make != nil && target.Provider != nn.CPU && p.Source.Make.Name != "transpose" {
			out = append(out, p.Name+" is not taken as it lies in the file")
		}
	}
	if (half > 0) != (target.Precision == nn.Float16) {
		out = append(out, fmt.Sprintf("%d weights of %d in half precision", half, len(g.Params)))
	}
	lacks := map[nn.Provider][]string{
		nn.CPU:    {"GroupNorm", "SkipGroupNorm", "BiasSplitGelu", "BiasAdd"},
		nn.CUDA:   {winograd.Op, "FusedConv", "GroupNormalization"},
		nn.WebGPU: {winograd.Op, "FusedConv", "GroupNormalization", "GroupNorm", "SkipGroupNorm", "FusedMatMul"},
	}[target.Provider]
	for _, n := range g.ONNX.Nodes {
		if slices.Contains(lacks, n.Op) || target.PlainAttention && n.Op == "MultiHeadAttention" {
			out = append(out, "has "+n.Op)
		}
	}
	return out
}

// disorder lists values that are used before they are made, or made twice.
func disorder(g *nn.Graph) []string {
	there, out := map[string]bool{"": true}, []string(nil)
	for _, v := range g.ONNX.Inputs {
		there[v.Name] = true
	}
	for _, i := range g.ONNX.Initializers {
		there[i.Name] = true
	}
	for _, p := range g.Params {
		there[p.Name] = true
	}
	for _, n := range g.ONNX.Nodes {
		for _, in := range n.Inputs {
			if !there[in] {
				out = append(out, n.Name+" uses "+in+", which is not there")
			}
		}
		for _, v := range n.Outputs {
			if there[v] {
				out = append(out, n.Name+" makes "+v+" again")
			}
			there[v] = true
		}
	}
	return out
}
