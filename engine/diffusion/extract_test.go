package diffusion

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// TestLowRank rebuilds a matrix of known singular values from its factors: what
// is missing are the smaller ones.
func TestLowRank(t *testing.T) {
	values := []float64{9, 7, 4, 2, 1, 0.5}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, size := range [][2]int{{40, 30}, {30, 40}, {6, 200}, {1, 5}} {
		left, right := newDense(min(len(values), size[0]), size[0]), newDense(min(len(values), size[0], size[1]), size[1])
		for _, m := range []dense{left, right} {
			for i := range m.data {
				m.data[i] = rng.NormFloat64()
			}
			m.orthonormalise()
		}
		a := newDense(size[0], size[1])
		for k := range right.rows {
			for i, l := range left.row(k) {
				addTimes(a.row(i), right.row(k), l*values[k])
			}
		}
		for _, rank := range []int{1, 3, 5} {
			rank = min(rank, right.rows)
			up, down := lowRank(a, rank)
			var left, missing float64
			for i := range a.rows {
				for j := range a.columns {
					d := a.data[i*a.columns+j]
					for r := range rank {
						d -= float64(up[i*rank+r]) * float64(down[r*a.columns+j])
					}
					left += d * d
				}
			}
			for _, v := range values[rank:max(rank, right.rows)] {
				missing += v * v
			}
			if math.Abs(left-missing) > 1e-3*(missing+0.01) {
				t.Errorf("%v, rank %d: the square of what is left is %g, want %g", size, rank, left, missing)
			}
		}
	}
	up, down := lowRank(newDense(4, 4), 2)
	for _, v := range append(up, down...) {
		if v != 0 {
			t.Fatalf("factors of nothing: %v %v", up, down)
		}
	}
}

func TestClampOutliers(t *testing.T) {
	up, down := make([]float32, 100), []float32{-500}
	for i := range up {
		up[i] = float32(i)
	}
	// 101 numbers: the hundredth is at 0.99.
	clampOutliers(up, down)
	if up[99] != 98 || up[98] != 98 || up[97] != 97 || down[0] != -98 {
		t.Errorf("%v %v", up[97:], down)
	}
}

// TestExtract takes a LoRA out of the difference that one makes, whole and as
// factors, and applies it again.
func TestExtract(t *testing.T) {
	r, m, clip := patchRuntime(t, "sd15-tiny-fp16")
	l := openLoRA(t, r, "lora-kohya-sd15-tiny")
	with, err := m.WithLoRA(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	textWith, err := clip.WithLoRA(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	difference := Mix{Keep: 1, Add: -1}
	diff, err := with.Merge(m, func(string) Mix { return difference })
	if err != nil {
		t.Fatal(err)
	}
	textDiff, err := textWith.Merge(clip, difference)
	if err != nil {
		t.Fatal(err)
	}
	const name = "input_blocks.1.1.transformer_blocks.0.attn2.to_q.weight"
	want, err := with.unet.weight(name)
	if err != nil {
		t.Fatal(err)
	}
	without, err := m.unet.weight(name)
	if err != nil {
		t.Fatal(err)
	}
	// Factors lose what is clamped: the largest hundredth of the numbers.
	near := distance(without, want) / 2
	for _, c := range []struct {
		extraction Extraction
		allowed    float64
	}{{Extraction{Rank: 8, Whole: true, Biases: true}, 1e-3}, {Extraction{Rank: 32, Biases: true}, near}, {Extraction{Rank: 32}, near}} {
		contents := append(diff.Extract(c.extraction), textDiff.Extract(c.extraction)...)
		path := filepath.Join(t.TempDir(), "extracted.safetensors")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := weights.Write(f, nil, contents); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		extracted, err := r.LoadLoRA(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if ignored := extracted.Ignored(m, clip); len(ignored) > 0 {
			t.Errorf("%+v: of the file are ignored %s", c.extraction, ignored)
		}
		again, err := m.WithLoRA(extracted, 1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := again.unet.weight(name)
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(got, want); d > c.allowed {
			t.Errorf("%+v: the weight differs by %g of its deviation, allowed %g", c.extraction, d, c.allowed)
		}
		biases := 0
		for _, x := range contents {
			if x.DType != tensor.F16 {
				t.Errorf("%s is %s", x.Name, x.DType)
			}
			if strings.HasSuffix(x.Name, ".diff_b") {
				biases++
			}
		}
		if (biases > 0) != c.extraction.Biases {
			t.Errorf("%+v: %d biases", c.extraction, biases)
		}
	}
}
