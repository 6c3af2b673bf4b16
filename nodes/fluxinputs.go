package nodes

import (
	"context"
	"math"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// addFluxInputs declares nodes of the families Flux and Stable Diffusion 3 that
// workflows of other families use too.
func addFluxInputs(c *engine.Catalog) {
	const category, module = "advanced/conditioning/flux", "comfy_extras.nodes_flux"
	engine.Add(c, "EmptySD3LatentImage", "latent/sd3", emptySD3Latent{Width: 1024, Height: 1024, Batch: 1}, newSD3Latent).V3().
		Module("comfy_extras.nodes_sd3").
		Doc("An empty latent picture with 16 channels; a model with another number takes it as well.")
	engine.Add(c, "FluxGuidance", category, fluxGuidance{Guidance: 3.5}, setFluxGuidance).V3().Module(module).
		Doc("Tells Flux how closely to follow the prompt; Stable Diffusion does not listen.")
	engine.Add(c, "FluxDisableGuidance", category, fluxNoGuidance{}, dropFluxGuidance).V3().Module(module).
		Doc("Tells Flux nothing about how closely to follow the prompt; Stable Diffusion does not listen.")
	engine.Add(c, "FluxKontextMultiReferenceLatentMethod", category, referenceMethod{}, setReferenceMethod).V3().Module(module).Experimental().
		Doc("Tells Flux Kontext where reference pictures stand beside the picture; Stable Diffusion does not listen.")
	engine.Add(c, "T5TokenizerOptions", "_for_testing/conditioning", t5Options{}, setT5Options).V3().Module("comfy_extras.nodes_cond").Experimental().
		Doc("Sets how T5 text encoders fill up short prompts; encoders of Stable Diffusion 1, 2 and XL have no T5 and stay as they are.")
	engine.Add(c, "FluxKontextImageScale", category, kontextScale{}, scaleForKontext).V3().Module(module).
		Doc("Resizes pictures to the size nearest in shape among those that Flux Kontext was trained on.")
}

type emptySD3Latent struct {
	Width  int `in:"width" range:"16,16384,16"`
	Height int `in:"height" range:"16,16384,16"`
	Batch  int `in:"batch_size" range:"1,4096"`
}

func newSD3Latent(_ context.Context, in emptySD3Latent) (diffusion.Latent, error) {
	const channels = 16
	return diffusion.Latent{Samples: tensor.New(in.Batch, channels, in.Height/latentPixel, in.Width/latentPixel)}, nil
}

type fluxGuidance struct {
	In       diffusion.Conditioning `in:"conditioning"`
	Guidance float64                `in:"guidance" range:"0,100,0.1"`
}

// setFluxGuidance changes nothing: none of the networks that engine/arch builds
// has an input for the number, and ComfyUI gives it to no other either.
func setFluxGuidance(_ context.Context, in fluxGuidance) (diffusion.Conditioning, error) {
	return in.In, nil
}

type fluxNoGuidance struct {
	In diffusion.Conditioning `in:"conditioning"`
}

// dropFluxGuidance changes nothing, see setFluxGuidance.
func dropFluxGuidance(_ context.Context, in fluxNoGuidance) (diffusion.Conditioning, error) {
	return in.In, nil
}

type kontextScale struct {
	Image diffusion.Image `in:"image"`
}

// kontextSizes are the widths and heights that Flux Kontext was trained on.
// Source: PREFERRED_KONTEXT_RESOLUTIONS of
// https://github.com/black-forest-labs/flux/blob/main/src/flux/util.py
func kontextSizes() [][2]int {
	return [][2]int{
		{672, 1568}, {688, 1504}, {720, 1456}, {752, 1392}, {800, 1328}, {832, 1248}, {880, 1184}, {944, 1104},
		{1024, 1024},
		{1104, 944}, {1184, 880}, {1248, 832}, {1328, 800}, {1392, 752}, {1456, 720}, {1504, 688}, {1568, 672},
	}
}

// scaleForKontext cuts pictures around their middle where their shape is not
// quite that of the size.
func scaleForKontext(_ context.Context, in kontextScale) (diffusion.Image, error) {
	width, height := sides(in.Image)
	var best [2]int
	least := math.Inf(1)
	for _, size := range kontextSizes() {
		if d := math.Abs(width/height - float64(size[0])/float64(size[1])); d < least {
			best, least = size, d
		}
	}
	img, err := cropImage(in.Image, best[0], best[1])
	if err != nil {
		return diffusion.Image{}, err
	}
	return resizeImage(img, best[0], best[1], tensor.Lanczos)
}

// placing is a way to place reference pictures.
type placing string

type referenceMethod struct {
	In     diffusion.Conditioning `in:"conditioning"`
	Method placing                `in:"reference_latents_method"`
}

func setReferenceMethod(_ context.Context, in referenceMethod) (diffusion.Conditioning, error) {
	return in.In, nil
}

type t5Options struct {
	CLIP    *diffusion.CLIP `in:"clip"`
	Padding int             `in:"min_padding" range:"0,10000,1"`
	Length  int             `in:"min_length" range:"0,10000,1"`
}

func setT5Options(_ context.Context, in t5Options) (*diffusion.CLIP, error) {
	if in.CLIP == nil {
		return nil, errNoCLIP
	}
	return in.CLIP, nil
}
