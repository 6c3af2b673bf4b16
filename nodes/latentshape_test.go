package nodes

import (
	"context"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// rampLatent counts its values from first on.
func rampLatent(first float32, shape ...int) diffusion.Latent {
	t := tensor.New(shape...)
	for i := range t.Data {
		t.Data[i] = first + float32(i)
	}
	return diffusion.Latent{Samples: t}
}

func TestLatentConcat(t *testing.T) {
	a, b := rampLatent(0, 1, 1, 1, 2), rampLatent(10, 1, 1, 1, 2)
	for axis, want := range map[joinAxis]*tensor.Tensor{
		"x":  tensor.Of([]float32{0, 1, 10, 11}, 1, 1, 1, 4),
		"-x": tensor.Of([]float32{10, 11, 0, 1}, 1, 1, 1, 4),
		"y":  tensor.Of([]float32{0, 1, 10, 11}, 1, 1, 2, 2),
		"-t": tensor.Of([]float32{10, 11, 0, 1}, 1, 2, 1, 2),
	} {
		got, err := concatLatents(context.Background(), latentConcat{a, b, axis})
		if diff := cmp.Diff(want, got.Samples); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", axis, err, diff)
		}
	}
	if _, err := concatLatents(context.Background(), latentConcat{a, rampLatent(0, 1, 1, 2, 2), "x"}); err == nil {
		t.Error("latents of two heights side by side: no error")
	}
}

func TestLatentCut(t *testing.T) {
	for _, c := range []struct {
		axis          cutAxis
		index, amount int
		want          []float32
	}{
		{"x", 1, 1, []float32{1, 4}}, {"x", -1, 5, []float32{2, 5}}, {"x", -9, 1, []float32{0, 3}}, {"x", 9, 3, []float32{2, 5}},
		{"y", 1, 1, []float32{3, 4, 5}}, {"t", 0, 1, []float32{0, 1, 2, 3, 4, 5}},
	} {
		got, err := cutLatent(context.Background(), latentCut{rampLatent(0, 1, 1, 2, 3), c.axis, c.index, c.amount})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got.Samples.Data); diff != "" {
			t.Errorf("%s %d %d:\n%s", c.axis, c.index, c.amount, diff)
		}
	}
}

func TestLatentBatchKeepsNoise(t *testing.T) {
	a, b := rampLatent(0, 2, 4, 2, 2), rampLatent(0, 3, 4, 2, 2)
	a.BatchIndex = []int{7, 8}
	got, err := batchLatents(context.Background(), twoLatents{a, b})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{7, 8, 0, 1, 2}, got.BatchIndex); diff != "" || got.Samples.Dim(0) != 5 {
		t.Errorf("%v\n%s", got.Samples.Shape, diff)
	}
	if diff := cmp.Diff([]int{7, 8}, a.BatchIndex); diff != "" {
		t.Errorf("the input changed: %s", diff)
	}
}

func TestLatentErrors(t *testing.T) {
	small, odd := rampLatent(0, 1, 4, 4, 4), rampLatent(0, 1, 3, 8, 8)
	if _, err := cropLatent(context.Background(), latentCrop{Samples: small, Width: 64, Height: 64}); err == nil {
		t.Error("crop of 4x4: no error")
	}
	if _, err := addLatent(context.Background(), twoLatents{small, odd}); err == nil {
		t.Error("4 and 3 channels: no error")
	}
	if _, err := compositeMasked(context.Background(), latentLayer{Destination: small, Source: odd}); err == nil {
		t.Error("4 over 3 channels: no error")
	}
}

// TestLatentOperations checks what the operations leave alone: an operation
// without strength, and directions that are tone mapped.
func TestLatentOperations(t *testing.T) {
	in := rampLatent(-20, 1, 4, 5, 6)
	same, err := newSharpen(context.Background(), sharpenOperation{Radius: 2, Sigma: 1})
	if err != nil {
		t.Fatal(err)
	}
	got, err := applyLatent(context.Background(), applyOperation{in, same})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got.Samples.Data {
		if math.Abs(float64(v-in.Samples.Data[i])) > 1e-3 {
			t.Fatalf("value %d became %g from %g", i, v, in.Samples.Data[i])
		}
	}
	tone, err := newReinhard(context.Background(), reinhardOperation{Multiplier: 1})
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := applyLatent(context.Background(), applyOperation{in, tone})
	if err != nil {
		t.Fatal(err)
	}
	a, b := vectorsOf(in.Samples), vectorsOf(mapped.Samples)
	var sum, squares float64
	for i := range a.count() {
		sum += float64(a.length(i))
	}
	mean := sum / float64(a.count())
	for i := range a.count() {
		squares += math.Pow(float64(a.length(i))-mean, 2)
	}
	top := 5*math.Sqrt(squares/float64(a.count()-1)) + mean
	for i := range a.count() {
		l := float64(a.length(i))
		if want := l * top / (l + top); math.Abs(float64(b.length(i))-want) > 1e-4*want {
			t.Errorf("length %g became %g, want %g", l, b.length(i), want)
		}
		for c := range a.channels {
			if *a.at(i, c)**b.at(i, c) < 0 {
				t.Errorf("pixel %d changed its direction", i)
			}
		}
	}
}
