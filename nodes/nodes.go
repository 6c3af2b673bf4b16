// Package nodes is the catalogue: ComfyUI's node classes, each a struct of
// inputs and a function. Class names, inputs, defaults and ranges are
// ComfyUI's, so that workflows run unchanged; what the nodes do is written in
// engine/diffusion and engine/tensor.
//
// Vocabulary: a class is what a workflow calls a node type, a family is a file
// of this package, a combo is an input that takes one of a list of names.
package nodes

import (
	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Runtime is what the nodes work with.
type Runtime struct {
	Diffusion *diffusion.Runtime
	Models    *models.Folders
	Dirs      Dirs
}

// The kinds of choice inputs, a type each so that the catalogue's table can
// say where each list comes from.
type (
	checkpointName string
	vaeName        string
	clipName       string
	samplerName    string
	schedulerName  string
	latentMethod   string
	cropMethod     string
	noiseSwitch    string
	leftoverSwitch string
	maskArea       string
	clipType       string
	deviceName     string
	seedBehavior   string
)

// Catalog returns every node type. The error lists all mistakes of all
// declarations.
func Catalog(r *Runtime) (*engine.Catalog, error) {
	files := func(folder string) func() []string {
		return func() []string { return r.Models.Names(folder) }
	}
	kinds := append(pictureKinds(r.Dirs),
		engine.Socket[*diffusion.Model]("MODEL"),
		engine.Socket[*diffusion.CLIP]("CLIP"),
		engine.Socket[*diffusion.VAE]("VAE"),
		engine.Socket[diffusion.Conditioning]("CONDITIONING"),
		engine.Socket[diffusion.Latent]("LATENT"),
		engine.Socket[diffusion.Image]("IMAGE"),
		engine.Socket[diffusion.Mask]("MASK"),
		engine.Combo[checkpointName](files("checkpoints")),
		engine.Combo[vaeName](r.vaeNames),
		engine.Combo[clipName](files("text_encoders")),
		engine.Combo[samplerName](sampling.Samplers),
		engine.Combo[schedulerName](sampling.Schedulers),
		engine.Combo[latentMethod](engine.Choices(tensor.NearestExact, tensor.Bilinear, tensor.AreaMean, tensor.Bicubic, tensor.Bislerp)),
		engine.Combo[cropMethod](engine.Choices("disabled", "center")),
		engine.Combo[noiseSwitch](engine.Choices("enable", "disable")),
		engine.Combo[leftoverSwitch](engine.Choices("disable", "enable")),
		engine.Combo[maskArea](engine.Choices("default", "mask bounds")),
		engine.Combo[clipType](engine.Choices(clipTypes...)),
		engine.Combo[deviceName](engine.Choices("default", "cpu")),
		engine.Combo[seedBehavior](engine.Choices("random", "fixed")),
	)
	kinds = append(kinds, r.upscalerKinds()...)
	kinds = append(kinds, r.controlKinds()...)
	kinds = append(kinds, engine.Combo[loraName](files("loras")))
	kinds = append(kinds, r.loaderKinds()...)
	kinds = append(kinds, samplingKinds()...)
	kinds = append(kinds, propertyKinds()...)
	kinds = append(kinds, graphPatchKinds()...)
	c := engine.NewCatalog(kinds...)
	r.addLoaders(c)
	r.addLoRA(c)
	addMerging(c)
	addBlockMerging(c)
	addConditioning(c)
	addConditioningProperties(c)
	addFluxInputs(c)
	addSDXL(c)
	addLatents(c)
	addLatentMath(c)
	addLatentShapes(c)
	addLatentFiles(c, r.Dirs)
	addModelFiles(c, r.Dirs)
	addInpainting(c)
	addInpaintModels(c)
	r.addSampling(c)
	r.addCustomSampling(c)
	addSigmas(c)
	addSchedulers(c)
	addSamplers(c)
	addGuiders(c)
	addModelSampling(c)
	addModelPatches(c)
	addGraphPatches(c)
	r.addUpscalers(c)
	r.addControl(c)
	addPictures(c, r.Dirs)
	r.declareUnsupported(c)
	return c, c.Err()
}
