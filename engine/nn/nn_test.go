package nn

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// file is a checkpoint of names and shapes only.
type file map[string]tensor.Shape

func (f file) Names() []string { return slices.Sorted(maps.Keys(f)) }

func (f file) Lookup(name string) (Source, bool) {
	s, ok := f[name]
	return Source{Shape: s, From: []string{name}}, ok
}

func TestBuildReportsBothSides(t *testing.T) {
	w := file{"a.weight": {8, 4}, "a.bias": {9}, "stray.weight": {1}}
	_, err := Build("toy", w, func(p Scope) {
		x := p.Input("x", "batch", "tokens", 4)
		p.Output("y", Linear(p.In("b"), Linear(p.In("a"), x, 8), 2))
	})
	if !IsWeights(err) {
		t.Fatalf("got %v, want a *WeightsError", err)
	}
	for _, want := range []string{
		"toy: 2 weights are missing: b.weight, b.bias",
		"1 weights are not expected: stray.weight",
		"1 weights have an unexpected shape: a.bias [9], expected [8]",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}

func TestBuildNamesTheLineOfAMistake(t *testing.T) {
	for name, mistake := range map[string]func(Scope){
		"Reshape: [2 3] does not fit [7]": func(p Scope) { p.Input("x", 2, 3).Reshape(7) },
		"Add: shapes [2 3] and [2 4]":     func(p Scope) { p.Input("x", 2, 3).Add(p.Input("y", 2, 4)) },
		"Dim(0) of [-1 3] is not known":   func(p Scope) { p.Input("x", "batch", 3).Dim(0) },
		"33 channels do not make 32":      func(p Scope) { GroupNorm(p, p.Input("x", "batch", 33, "h", "w"), 1e-5) },
	} {
		_, err := Build("toy", file{}, mistake)
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "nn_test.go:") {
			t.Errorf("got %v, want the line in nn_test.go and %q", err, name)
		}
	}
}

func TestBuildPassesOtherPanicsOn(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a panic of somebody else was swallowed")
		}
	}()
	Build("toy", file{}, func(Scope) { panic("not ours") })
}

func TestRowsAreRangesOfTheSameBytes(t *testing.T) {
	g, err := Build("toy", file{"p.weight": {8, 4}, "p.bias": {8}}, func(p Scope) {
		x := p.Input("x", "batch", "tokens", 4)
		lo, hi := LinearRows(p.In("p"), x, 0, 4), LinearRowsGelu(p.In("p"), x, 4, 4)
		p.Output("y", lo.Mul(hi))
	})
	if err != nil {
		t.Fatal(err)
	}
	offsets := map[string][]int{}
	for _, p := range g.Params {
		offsets[p.Source.From[0]] = append(offsets[p.Source.From[0]], p.Offset)
	}
	if !slices.Equal(offsets["p.weight"], []int{0, 16}) || !slices.Equal(offsets["p.bias"], []int{0, 4}) {
		t.Errorf("offsets %v, want rows 0 and 4 of both", offsets)
	}
}

// TestFoldUpsample compares the four small kernels with the 3x3 kernel on a
// picture whose pixels are doubled.
func TestFoldUpsample(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const h, w = 3, 4
	picture, kernel := make([]float32, h*w), make([]float32, 9)
	for _, s := range [][]float32{picture, kernel} {
		for i := range s {
			s[i] = rng.Float32() - 0.5
		}
	}
	folded := make([]float32, 16)
	if err := foldUpsample(1)(folded, []*tensor.Tensor{tensor.Of(kernel, 1, 1, 3, 3)}); err != nil {
		t.Fatal(err)
	}
	at := func(y, x int) float32 {
		if y < 0 || x < 0 || y >= h || x >= w {
			return 0
		}
		return picture[y*w+x]
	}
	for y := range 2 * h {
		for x := range 2 * w {
			var want, got float32
			for tap, k := range kernel {
				uy, ux := y+tap/3-1, x+tap%3-1
				if uy >= 0 && ux >= 0 {
					want += k * at(uy/2, ux/2)
				}
			}
			small := folded[4*(2*(y%2)+x%2):][:4]
			for tap, k := range small {
				got += k * at(y/2+tap/2-1+y%2, x/2+tap%2-1+x%2)
			}
			if math.Abs(float64(got-want)) > 1e-6 {
				t.Errorf("pixel %d,%d: %v, want %v", y, x, got, want)
			}
		}
	}
}
