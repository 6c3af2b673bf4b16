package nodes

import (
	"context"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// addInpaintModels declares the nodes for checkpoints that see a picture:
// inpainting and editing ones.
func addInpaintModels(c *engine.Catalog) {
	engine.Add(c, "InpaintModelConditioning", "conditioning/inpaint", inpaintConditioning{NoiseMask: true}, conditionInpainting).Device().
		Doc("Shows an inpainting model the picture and the part of it that is to be painted.")
	engine.Add(c, "InstructPixToPixConditioning", "conditioning/instructpix2pix", editConditioning{}, conditionEdit).V3().Module("comfy_extras.nodes_ip2p").Device().
		Doc("Shows a model that edits by instructions the picture that is to be changed.")
}

type inpaintConditioning struct {
	Positive  diffusion.Conditioning `in:"positive"`
	Negative  diffusion.Conditioning `in:"negative"`
	VAE       *diffusion.VAE         `in:"vae"`
	Pixels    diffusion.Image        `in:"pixels"`
	Mask      diffusion.Mask         `in:"mask"`
	NoiseMask bool                   `in:"noise_mask" doc:"Limit sampling to the mask too. That may improve the picture or fail altogether, depending on the model."`
}

type inpaintConditioned struct {
	Positive diffusion.Conditioning `out:"positive"`
	Negative diffusion.Conditioning `out:"negative"`
	Latent   diffusion.Latent       `out:"latent"`
}

func conditionInpainting(ctx context.Context, in inpaintConditioning) (out inpaintConditioned, err error) {
	if in.VAE == nil {
		return out, errNoVAE
	}
	mask, cut, err := maskOver(in.Pixels, in.Mask)
	if err != nil {
		return out, err
	}
	pixels, err := grayed(ctx, in.Pixels, mask, cut)
	if err != nil {
		return out, err
	}
	masked, err := in.VAE.Encode(ctx, pixels)
	if err != nil {
		return out, err
	}
	if out.Latent.Samples, err = in.VAE.Encode(ctx, in.Pixels); err != nil {
		return out, err
	}
	if in.NoiseMask {
		out.Latent.NoiseMask = mask
	}
	show := func(e *diffusion.Cond) { e.ConcatLatent, e.ConcatMask = masked, mask }
	out.Positive, out.Negative = in.Positive.Map(show), in.Negative.Map(show)
	return out, nil
}

type editConditioning struct {
	Positive diffusion.Conditioning `in:"positive"`
	Negative diffusion.Conditioning `in:"negative"`
	VAE      *diffusion.VAE         `in:"vae"`
	Pixels   diffusion.Image        `in:"pixels"`
}

func conditionEdit(ctx context.Context, in editConditioning) (out inpaintConditioned, err error) {
	if in.VAE == nil {
		return out, errNoVAE
	}
	picture, err := in.VAE.Encode(ctx, in.Pixels)
	if err != nil {
		return out, err
	}
	out.Latent.Samples = tensor.New(picture.Shape...)
	show := func(e *diffusion.Cond) { e.ConcatLatent = picture }
	out.Positive, out.Negative = in.Positive.Map(show), in.Negative.Map(show)
	return out, nil
}
