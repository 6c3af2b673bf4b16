package nn

import (
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// block is a residual block of two norms and convolutions, and what they want.
func block(width int) (file, func(Scope)) {
	f := file{}
	for _, name := range []string{"conv1", "conv2"} {
		f[name+".weight"], f[name+".bias"] = tensor.Shape{width, width, 3, 3}, tensor.Shape{width}
	}
	for _, name := range []string{"norm1", "norm2", "norm3"} {
		f[name+".weight"], f[name+".bias"] = tensor.Shape{width}, tensor.Shape{width}
	}
	return f, func(p Scope) {
		x := p.Input("x", "batch", width, "height", "width")
		emb := p.Input("emb", "batch", width).Reshape(0, width, 1, 1)
		h := ConvAdd(p.In("conv1"), GroupNormSiLU(p.In("norm1"), x, 1e-5), emb, Same(3))
		h = ConvAdd(p.In("conv2"), GroupNormSiLU(p.In("norm2"), h, 1e-5), x, Same(3))
		p.Output("y", GroupNorm(p.In("norm3"), h, 1e-5).Add(h))
	}
}

// ops lists the operators of a graph.
func ops(t *testing.T, target Target, f file, build func(Scope)) string {
	t.Helper()
	g, err := target.Build("toy", f, build)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range g.ONNX.Nodes {
		names = append(names, n.Op)
	}
	return strings.Join(names, " ")
}

// TestNormsTakeSumsOver expects sums to be made by the norms behind them, and
// nothing to turn pictures round for nothing.
func TestNormsTakeSumsOver(t *testing.T) {
	f, build := block(64)
	want := "Reshape Transpose GroupNorm Transpose Conv Transpose Reshape SkipGroupNorm Transpose Conv Transpose SkipGroupNorm Transpose Transpose Add Identity"
	if got := ops(t, Target{Provider: CUDA}, f, build); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestSumsThatAreSeen expects a sum that somebody has used to stay where it is.
func TestSumsThatAreSeen(t *testing.T) {
	f, _ := block(64)
	got := ops(t, Target{Provider: CUDA}, f, func(p Scope) {
		x := p.Input("x", "batch", 64, "height", "width")
		h := ConvAdd(p.In("conv1"), GroupNormSiLU(p.In("norm1"), x, 1e-5), x, Same(3))
		p.Output("h", h)
		h = ConvAdd(p.In("conv2"), GroupNormSiLU(p.In("norm2"), h, 1e-5), h, Same(3))
		p.Output("y", GroupNorm(p.In("norm3"), h, 1e-5))
	})
	want := "Transpose GroupNorm Transpose Conv Add Identity Transpose GroupNorm Transpose Conv Transpose SkipGroupNorm Transpose Identity"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestOddGroups expects no operator of CUDA's where it would fail: it takes two
// channels of a group at once.
func TestOddGroups(t *testing.T) {
	f, build := block(96)
	if got := ops(t, Target{Provider: CUDA}, f, build); strings.Contains(got, "GroupNorm") {
		t.Errorf("three channels in a group: %s", got)
	}
}

// TestTypes expects weights in half precision, those of CUDA's norms in single
// precision, and single precision around the graph.
func TestTypes(t *testing.T) {
	f, build := block(64)
	for _, provider := range []Provider{CPU, CUDA, WebGPU} {
		g, err := Target{Provider: provider, Precision: Float16}.Build("toy", f, build)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range g.Params {
			want := onnx.Float16
			if provider == CUDA && strings.HasPrefix(p.Name, "norm") {
				want = onnx.Float
			}
			if p.Type != want {
				t.Errorf("%s: %s is %s, want %s", provider, p.Name, p.Type, want)
			}
		}
		if last := g.ONNX.Nodes[len(g.ONNX.Nodes)-1]; last.Op != "Cast" || !slices.Equal(last.Outputs, []string{"y"}) {
			t.Errorf("%s: %s makes the output, want Cast", provider, last.Op)
		}
	}
}

// TestWidthsOfFusedLayers expects operators that add a bias only for widths that
// they are made for.
func TestWidthsOfFusedLayers(t *testing.T) {
	for width, want := range map[int]string{
		320: "FusedMatMul BiasSplitGelu FusedMatMul BiasAdd Identity",
		384: "FusedMatMul Add FusedMatMul BiasGelu Mul FusedMatMul Add Add Identity",
	} {
		f := file{
			"a.weight": {8 * width, width}, "a.bias": {8 * width}, "b.weight": {width, 4 * width}, "b.bias": {width},
		}
		got := ops(t, Target{Provider: CUDA}, f, func(p Scope) {
			x := p.Input("x", "batch", "tokens", width)
			p.Output("y", LinearAdd(p.In("b"), GatedLinear(p.In("a"), x, 4*width), x))
		})
		if got != want {
			t.Errorf("%d: got %s, want %s", width, got, want)
		}
	}
}

// TestForms expects the input to be found behind what is made of it.
func TestForms(t *testing.T) {
	g, err := Target{Provider: WebGPU, Precision: Float16}.Build("toy", file{"a.weight": {8, 4}}, func(p Scope) {
		p.Output("y", LinearNoBias(p.In("a"), p.Input("x", "batch", "tokens", 4), 8))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range g.ONNX.Nodes {
		if n.Op == "Gemm" && (g.Root(n.Inputs[0]) != "x" || n.Inputs[0] == "x" || g.Root("y") != "y") {
			t.Errorf("the layer's input %s is said to be %s", n.Inputs[0], g.Root(n.Inputs[0]))
		}
	}
}
