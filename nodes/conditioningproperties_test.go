package nodes

import (
	"testing"

	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// prompt is a conditioning with one entry, told by its number.
func prompt(number float32) diffusion.Conditioning {
	return diffusion.Conditioning{diffusion.NewCond(tensor.Full(number, 1, 1, 1), nil)}
}

func TestConditioningProperties(t *testing.T) {
	mask := &diffusion.Mask{Tensor: tensor.Full(1, 1, 2, 2)}
	parts, err := splitRun(t.Context(), partOfRun{0.25, 0.5})
	if err != nil || parts != (partsOfRun{runPart{0.25, 0.5}, runPart{0, 0.25}, runPart{0.5, 1}}) {
		t.Errorf("%+v, %v", parts, err)
	}
	// Without mask and part nothing changes, the strength included.
	if got, err := setOne(t.Context(), setProperties{New: prompt(1), Strength: 3, Area: "mask bounds"}); err != nil || got.Digest() != prompt(1).Digest() {
		t.Errorf("nothing set: %+v, %v", got, err)
	}
	out, err := setAndAddPair(t.Context(), addPairWithProperties{
		Positive: prompt(1), Negative: prompt(2), NewPositive: prompt(3), NewNegative: prompt(4),
		Strength: 0.5, Area: "mask bounds", Mask: mask, Part: &parts.After,
	})
	if err != nil || len(out.Positive) != 2 || len(out.Negative) != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	if out.Positive[0].Mask != nil || out.Negative[0].Text.Data[0] != 2 {
		t.Errorf("the old prompts changed: %+v", out)
	}
	for i, e := range []diffusion.Cond{out.Positive[1], out.Negative[1]} {
		if e.Text.Data[0] != float32(3+i) || e.Mask != mask.Tensor || e.MaskStrength != 0.5 || !e.MaskBounds || e.Strength != 1 || e.Start != 0.5 || e.End != 1 {
			t.Errorf("%+v", e)
		}
	}
}

func TestConditioningFallback(t *testing.T) {
	out, err := addPairFallback(t.Context(), addPairDefault{
		Positive: prompt(1), Negative: prompt(2), FallbackPositive: prompt(3), FallbackNegative: prompt(4),
	})
	if err != nil || len(out.Positive) != 2 || len(out.Negative) != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	for i, c := range []diffusion.Conditioning{out.Positive, out.Negative} {
		if c[0].Fallback || !c[1].Fallback || c[1].Text.Data[0] != float32(3+i) {
			t.Errorf("%+v", c)
		}
	}
}
