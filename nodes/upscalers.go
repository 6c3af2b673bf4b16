package nodes

import (
	"context"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

type upscalerName string

// upscalerKinds are the kinds of addUpscalers.
func (r *Runtime) upscalerKinds() []engine.Kind {
	return []engine.Kind{
		engine.Socket[*diffusion.Upscaler]("UPSCALE_MODEL"),
		engine.Combo[upscalerName](func() []string { return r.Models.Names("upscale_models") }),
	}
}

func (r *Runtime) addUpscalers(c *engine.Catalog) {
	const module = "comfy_extras.nodes_upscale_model"
	engine.Add(c, "UpscaleModelLoader", "loaders", loadUpscaler{}, r.loadUpscaler).Module(module).V3().
		Fingerprint(func(in loadUpscaler) (string, error) { return r.fileState("upscale_models", string(in.Name)) }).
		Title("Load Upscale Model").Doc("Loads a network that enlarges pictures: ESRGAN, Real-ESRGAN or Compact.")
	engine.Add(c, "ImageUpscaleWithModel", "image/upscaling", upscaleWithModel{}, upscale).Module(module).V3().Device().
		Title("Upscale Image (using Model)").Doc("Enlarges pictures with an upscaling network, by the factor that it was trained for.")
}

type loadUpscaler struct {
	Name upscalerName `in:"model_name"`
}

func (r *Runtime) loadUpscaler(ctx context.Context, in loadUpscaler) (*diffusion.Upscaler, error) {
	path, err := r.Models.Path("upscale_models", string(in.Name))
	if err != nil {
		return nil, err
	}
	return r.Diffusion.LoadUpscaler(ctx, path)
}

type upscaleWithModel struct {
	Model *diffusion.Upscaler `in:"upscale_model"`
	Image diffusion.Image     `in:"image"`
}

func upscale(ctx context.Context, in upscaleWithModel) (diffusion.Image, error) {
	tiles := diffusion.Tiles{Size: 512, Overlap: 32}
	return in.Model.Upscale(ctx, in.Image, tiles, func(done, total int) { engine.Progress(ctx, done, total) })
}
