package nodes

import (
	"testing"

	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

func TestKontextScale(t *testing.T) {
	for _, c := range []struct{ width, height, wantWidth, wantHeight int }{
		{64, 64, 1024, 1024}, {10, 100, 672, 1568}, {100, 10, 1568, 672}, {48, 32, 1248, 832}, {32, 48, 832, 1248},
	} {
		in := diffusion.Image{Tensor: tensor.Full(0.2, 1, c.height, c.width, 3)}
		out, err := scaleForKontext(t.Context(), kontextScale{in})
		if err != nil {
			t.Fatal(err)
		}
		if !out.Shape.Equal(tensor.Shape{1, c.wantHeight, c.wantWidth, 3}) || tensor.Byte(out.Data[0]) != 51 {
			t.Errorf("%dx%d: %v of %g, want %dx%d of 0.2", c.width, c.height, out.Shape, out.Data[0], c.wantWidth, c.wantHeight)
		}
	}
}

func TestEmptySD3Latent(t *testing.T) {
	l, err := newSD3Latent(t.Context(), emptySD3Latent{Width: 64, Height: 32, Batch: 2})
	if err != nil || !l.Samples.Shape.Equal(tensor.Shape{2, 16, 4, 8}) {
		t.Errorf("%v, %v", l.Samples.Shape, err)
	}
}
