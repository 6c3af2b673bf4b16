package arch

import "github.com/comfyrun/comfyrun/engine/nn"

// Family is a line of models with the rules that their files do not state.
type Family struct {
	Name string // "Stable Diffusion XL"
	UNet UNet
	// Text lists the text encoders in the order in which their states are
	// joined.
	Text []TextEncoder
	// Numbers are what the network is told beside the pooled text, each as an
	// embedding of NumberWidth.
	Numbers []Number
	// LatentScale brings the autoencoder's latents to about unit deviation.
	LatentScale float32
	// Edits says that there are models of the family for editing pictures by
	// instructions, which see the picture in four more channels.
	// Source: Brooks et al., InstructPix2Pix, 2023.
	Edits    bool
	Predicts Prediction
}

// Prediction says how to tell what a network of a family predicts.
type Prediction int

const (
	// Noise is always predicted.
	Noise Prediction = iota
	// BySpread means velocity where one bias of the network spreads widely.
	BySpread
	// ByKey means what tensors say that mark the file, else noise.
	ByKey
)

// SpreadBias is the bias that tells the networks of Stable Diffusion 2 apart:
// where its standard deviation is over SpreadLimit velocity is predicted. The
// files do not say it otherwise, and ComfyUI uses the same rule.
const (
	SpreadBias  = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
	SpreadLimit = 0.09
)

// TextEncoder says how a family uses one of its text encoders.
type TextEncoder struct {
	// Name is what files of textual inversions call it: "clip_l".
	Name string
	// Places are the prefixes that it can have in a checkpoint.
	Places []string
	Net    CLIPText
	// Pad is the token that fills a chunk.
	Pad int
}

// Number names one of the numbers that a network of the XL families is told
// about the picture it should make, in pixels but for the score.
// Source: Podell et al., SDXL: Improving Latent Diffusion Models for
// High-Resolution Image Synthesis, 2023, section 2.2.
type Number string

// The numbers.
const (
	Height         Number = "height" // of the picture that it was cut from
	Width          Number = "width"
	CropTop        Number = "crop_top"
	CropLeft       Number = "crop_left"
	TargetHeight   Number = "target_height"
	TargetWidth    Number = "target_width"
	AestheticScore Number = "aesthetic_score"
)

// NumberWidth is the width of a number's embedding.
const NumberWidth = 256

const (
	headWidth  = 64
	sd2Context = 1024  // width of OpenCLIP ViT-H's states
	endToken   = 49407 // with which CLIP-L also pads
	openclipNo = 0     // "!", with which OpenCLIP's towers pad
)

// sd1 is Stable Diffusion 1: 8 heads at every width.
// https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5/blob/main/unet/config.json
// https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5/blob/main/vae/config.json
func sd1() *Family {
	return &Family{
		Name: "Stable Diffusion 1.x", UNet: UNet{Heads: 8}, LatentScale: 0.18215, Edits: true,
		Text: []TextEncoder{{
			Name: "clip_l", Places: []string{"cond_stage_model.transformer."}, Pad: endToken,
			Net: CLIPText{HeadWidth: headWidth, Stop: -1},
		}},
	}
}

// sd2 is Stable Diffusion 2 with OpenCLIP ViT-H. Products of its queries and
// keys leave the range of float16: pictures would be black.
// https://huggingface.co/stabilityai/stable-diffusion-2-1/blob/main/unet/config.json
// https://github.com/Stability-AI/stablediffusion/blob/main/configs/stable-diffusion/v2-inference-v.yaml
func sd2() *Family {
	return &Family{
		Name: "Stable Diffusion 2.x", UNet: UNet{HeadWidth: headWidth, AttentionFloat32: true}, LatentScale: 0.18215, Predicts: BySpread,
		Text: []TextEncoder{{
			Name: "clip_h", Places: []string{"cond_stage_model.model.", "conditioner.embedders.0.model."}, Pad: openclipNo,
			Net: CLIPText{HeadWidth: headWidth, Stop: -2, Gelu: true},
		}},
	}
}

// sdxl is Stable Diffusion XL with CLIP-L and OpenCLIP ViT-bigG.
// https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/unet/config.json
// https://github.com/Stability-AI/generative-models/blob/main/configs/inference/sd_xl_base.yaml
func sdxl() *Family {
	return &Family{
		Name: "Stable Diffusion XL", UNet: UNet{HeadWidth: headWidth}, LatentScale: 0.13025, Predicts: ByKey, Edits: true,
		Text: []TextEncoder{
			{
				Name: "clip_l", Places: []string{"conditioner.embedders.0.transformer."}, Pad: endToken,
				Net: CLIPText{HeadWidth: headWidth, Stop: -2, Bare: true},
			},
			bigG("conditioner.embedders.1.model."),
		},
		Numbers: []Number{Height, Width, CropTop, CropLeft, TargetHeight, TargetWidth},
	}
}

// refiner is the second stage of Stable Diffusion XL.
// https://huggingface.co/stabilityai/stable-diffusion-xl-refiner-1.0/blob/main/unet/config.json
// https://github.com/Stability-AI/generative-models/blob/main/configs/inference/sd_xl_refiner.yaml
func refiner() *Family {
	return &Family{
		Name: "Stable Diffusion XL refiner", UNet: UNet{HeadWidth: headWidth}, LatentScale: 0.13025,
		Text:    []TextEncoder{bigG("conditioner.embedders.0.model.")},
		Numbers: []Number{Height, Width, CropTop, CropLeft, AestheticScore},
	}
}

func bigG(place string) TextEncoder {
	return TextEncoder{
		Name: "clip_g", Places: []string{place}, Pad: openclipNo,
		Net: CLIPText{HeadWidth: headWidth, Stop: -2, Bare: true, Gelu: true},
	}
}

// Text is a text encoder that a file holds.
type Text struct {
	TextEncoder
	Weights nn.Weights // named as in Hugging Face's CLIPTextModel
	File    int        // which of several files it lies in
}
