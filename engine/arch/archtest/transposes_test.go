//go:build webgpu

package archtest

import (
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// TestWebGPUTransposes runs a graph for CUDA on WebGPU, whose provider turns
// convolutions round as CUDA's does: of the nodes that turn pictures round only
// those at both ends of the graph must remain. Layers that mix channels, and
// that no Transpose can pass, stand in for CUDA's own operators.
func TestWebGPUTransposes(t *testing.T) {
	env := orttest.Env(t)
	n := levels()
	g, err := nn.Target{Provider: nn.CUDA}.Build("levels", n.Weights, n.Build)
	must(t, err)
	m := n.Model(t, g)
	m.Graph.Nodes = standIns(m.Graph.Nodes)
	path := filepath.Join(t.TempDir(), "profile")
	s, err := env.NewSession(m, ort.Options{Name: "levels", Device: ort.Device{Provider: "webgpu"}, Threads: 2, Profile: path})
	must(t, err)
	_, err = s.Run(t.Context(), Inputs(g))
	must(t, err)
	must(t, s.Close())
	ran := map[string]int{}
	for _, node := range profiled(t, path) {
		ran[node.Op]++
	}
	if ran["Transpose"] != 2 || ran["Conv"] != 5 {
		t.Errorf("ran %v, want 2 of Transpose around 5 of Conv", ran)
	}
}

// levels is a network with a sum, a way through tokens, a skip and two sizes.
func levels() Network {
	const width = 64
	f := File{}
	f.conv("in", width, 4, 3)
	f.conv("block", width, width, 3)
	f.conv("up", width, 2*width, 3)
	f.conv("shrink", width, width, 3)
	f.conv("out", 4, width, 3)
	f.linear("proj_in", width, width)
	f.linear("proj_out", width, width)
	for _, norm := range []string{"norm1.", "norm2.", "norm3."} {
		f[norm+"weight"], f[norm+"bias"] = tensor.Shape{width}, tensor.Shape{width}
	}
	half := nn.Window{Kernel: 3, Stride: 2, Pads: [4]int{0, 0, 1, 1}}
	return Network{Weights: f, File: f, Build: func(p nn.Scope) {
		first := nn.Conv(p.In("in"), p.Input("x", "batch", 4, "height", "width"), width, nn.Same(3))
		h := nn.ConvAdd(p.In("block"), nn.GroupNormSiLU(p.In("norm1"), first, 1e-5), first, nn.Same(3))
		tokens := nn.ConvTokens(p.In("proj_in"), nn.GroupNorm(p.In("norm2"), h, 1e-5), width)
		h = nn.ConvPicture(p.In("proj_out"), tokens, h).Add(h)
		h = nn.Conv(p.In("up"), nn.Upsample(nn.Concat(1, h, first), 2), width, nn.Same(3))
		h = nn.Conv(p.In("shrink"), h, width, half)
		h = nn.UpsampleTo(nn.GroupNormSiLU(p.In("norm3"), h, 1e-5), h)
		p.Output("y", nn.Conv(p.In("out"), h, 4, nn.Same(3)))
	}}
}

// standIns replaces operators that only CUDA has.
func standIns(nodes []onnx.Node) []onnx.Node {
	var out []onnx.Node
	for _, n := range nodes {
		switch n.Op {
		case "SkipGroupNorm":
			out = append(out, onnx.Node{Name: n.Name + ".sum", Op: "Add", Inputs: []string{n.Inputs[0], n.Inputs[3]}, Outputs: n.Outputs[1:]})
			n.Inputs, n.Outputs = []string{n.Outputs[1], n.Inputs[1], n.Inputs[2]}, n.Outputs[:1]
			n.Op, n.Domain, n.Attrs = "LayerNormalization", "", nil
		case "GroupNorm":
			n.Op, n.Domain, n.Attrs = "LayerNormalization", "", nil
		case "FusedMatMul": // the weights are square
			n.Op, n.Domain, n.Attrs = "MatMul", "", nil
		}
		out = append(out, n)
	}
	return out
}
