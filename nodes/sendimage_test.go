package nodes

import (
	"bytes"
	"context"
	"image/png"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/workflows"
)

// TestSendImage runs SaveImageWebsocket on two pictures: both arrive, in their own size, and again when nothing has changed.
func TestSendImage(t *testing.T) {
	type pictures struct{}
	c := emptyCatalog(t)
	engine.Add(c, "Pictures", "test", pictures{}, func(context.Context, pictures) (diffusion.Image, error) {
		return diffusion.Image{Tensor: tensor.New(2, 5, 7, 3)}, nil
	})
	g, err := workflows.Parse([]byte(`{"1": {"class_type": "Pictures", "inputs": {}},
		"2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	runner := &engine.Runner{Cache: &engine.Cache{}}
	for range 2 {
		plan, err := engine.NewPlan(g, c, engine.PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sent := 0
		_, err = runner.Run(t.Context(), plan, engine.RunOptions{Events: func(e engine.Event) {
			p, ok := e.Preview.(sentPicture)
			if !ok {
				return
			}
			sent++
			mime, data, err := p.Encode("none", 2)
			if err != nil || mime != "image/png" {
				t.Fatalf("%s, %v", mime, err)
			}
			picture, err := png.Decode(bytes.NewReader(data))
			if err != nil || picture.Bounds().Dx() != 7 || picture.Bounds().Dy() != 5 {
				t.Errorf("picture %v, %v", picture, err)
			}
		}})
		if err != nil || sent != 2 {
			t.Errorf("%d pictures, %v; want 2", sent, err)
		}
	}
}
