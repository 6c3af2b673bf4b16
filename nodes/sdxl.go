package nodes

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

// addSDXL declares the prompt encoders that also say how large the picture is.
func addSDXL(c *engine.Catalog) {
	engine.Add(c, "CLIPTextEncodeSDXL", "advanced/conditioning", encodeSDXL{Width: 1024, Height: 1024, TargetWidth: 1024, TargetHeight: 1024}, encodePromptSDXL).Device().V3().
		Module("comfy_extras.nodes_clip_sdxl").
		Doc("Encodes a prompt for each text encoder of Stable Diffusion XL, with the sizes that the picture should seem to have.")
	engine.Add(c, "CLIPTextEncodeSDXLRefiner", "advanced/conditioning", encodeRefiner{Score: 6, Width: 1024, Height: 1024}, encodePromptRefiner).Device().V3().
		Module("comfy_extras.nodes_clip_sdxl").
		Doc("Encodes a prompt for the refiner of Stable Diffusion XL, with a size and a score of beauty.")
}

type encodeSDXL struct {
	CLIP         *diffusion.CLIP `in:"clip"`
	Width        int             `in:"width" range:"0,16384"`
	Height       int             `in:"height" range:"0,16384"`
	CropWidth    int             `in:"crop_w" range:"0,16384"`
	CropHeight   int             `in:"crop_h" range:"0,16384"`
	TargetWidth  int             `in:"target_width" range:"0,16384"`
	TargetHeight int             `in:"target_height" range:"0,16384"`
	TextG        string          `in:"text_g" ui:"multiline,dynamicPrompts" doc:"The prompt for the larger encoder."`
	TextL        string          `in:"text_l" ui:"multiline,dynamicPrompts" doc:"The prompt for the smaller encoder."`
}

func encodePromptSDXL(ctx context.Context, in encodeSDXL) (diffusion.Conditioning, error) {
	if in.CLIP == nil {
		return nil, errNoCLIP
	}
	cond, err := in.CLIP.EncodeEach(ctx, map[string]string{"clip_g": in.TextG, "clip_l": in.TextL})
	if err != nil {
		return nil, fmt.Errorf("CLIPTextEncodeSDXL is for Stable Diffusion XL: %w", err)
	}
	return cond.Map(func(e *diffusion.Cond) {
		e.Hints = diffusion.Hints{
			Original: &diffusion.Size{Width: in.Width, Height: in.Height},
			Target:   &diffusion.Size{Width: in.TargetWidth, Height: in.TargetHeight},
			CropLeft: in.CropWidth, CropTop: in.CropHeight,
		}
	}), nil
}

type encodeRefiner struct {
	Score  float64         `in:"ascore" range:"0,1000,0.01"`
	Width  int             `in:"width" range:"0,16384"`
	Height int             `in:"height" range:"0,16384"`
	Text   string          `in:"text" ui:"multiline,dynamicPrompts"`
	CLIP   *diffusion.CLIP `in:"clip"`
}

func encodePromptRefiner(ctx context.Context, in encodeRefiner) (diffusion.Conditioning, error) {
	if in.CLIP == nil {
		return nil, errNoCLIP
	}
	cond, err := in.CLIP.Encode(ctx, in.Text)
	if err != nil {
		return nil, err
	}
	return cond.Map(func(e *diffusion.Cond) {
		e.Hints = diffusion.Hints{Original: &diffusion.Size{Width: in.Width, Height: in.Height}, Aesthetic: &in.Score}
	}), nil
}
