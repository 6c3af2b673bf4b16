package nodes

import (
	"context"
	"fmt"
	"os"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

// clipTypes are the families that ComfyUI's CLIPLoader offers. The type only
// matters where one file can be used in several ways.
var clipTypes = []string{
	"stable_diffusion", "stable_cascade", "sd3", "stable_audio", "mochi", "ltxv", "pixart", "cosmos", "lumina2", "wan",
	"hidream", "chroma", "ace", "omnigen2", "qwen_image", "hunyuan_image",
}

// dualCLIPTypes are those of DualCLIPLoader.
var dualCLIPTypes = []string{"sdxl", "sd3", "flux", "hunyuan_video", "hidream", "hunyuan_image"}

// The kinds of choice inputs of the loaders.
type (
	unetName     string
	weightDType  string
	dualCLIPType string
)

// loaderKinds are the loaders' entries of the catalogue's table.
func (r *Runtime) loaderKinds() []engine.Kind {
	return []engine.Kind{
		engine.Combo[unetName](func() []string { return r.Models.Names("diffusion_models") }),
		engine.Combo[weightDType](engine.Choices("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")),
		engine.Combo[dualCLIPType](engine.Choices(dualCLIPTypes...)),
	}
}

func (r *Runtime) addLoaders(c *engine.Catalog) {
	engine.Add(c, "CheckpointLoaderSimple", "loaders", loadCheckpoint{}, r.loadCheckpoint).
		Fingerprint(func(in loadCheckpoint) (string, error) { return r.fileState("checkpoints", string(in.Name)) }).
		Title("Load Checkpoint").Doc("Loads a denoiser, a text encoder and an autoencoder from one file.")
	engine.Add(c, "UNETLoader", "advanced/loaders", loadUNet{DType: "default"}, r.loadUNet).
		Fingerprint(func(in loadUNet) (string, error) { return r.fileState("diffusion_models", string(in.Name)) }).
		Title("Load Diffusion Model").Doc("Loads a denoiser from a file of its own.")
	engine.Add(c, "VAELoader", "loaders", loadVAE{}, r.loadVAE).
		Fingerprint(func(in loadVAE) (string, error) { return r.vaeState(string(in.Name)) }).
		Title("Load VAE").Doc("Loads an autoencoder from a file of its own.")
	engine.Add(c, "CLIPLoader", "advanced/loaders", loadCLIP{Type: "stable_diffusion", Device: "default"}, r.loadCLIP).
		Fingerprint(func(in loadCLIP) (string, error) { return r.fileState("text_encoders", string(in.Name)) }).
		Title("Load CLIP").Doc("Loads a text encoder from a file of its own: CLIP-L, OpenCLIP-H or OpenCLIP-bigG, by its content.")
	engine.Add(c, "DualCLIPLoader", "advanced/loaders", loadTwoCLIPs{Type: "sdxl", Device: "default"}, r.loadTwoCLIPs).
		Fingerprint(func(in loadTwoCLIPs) (string, error) {
			one, err := r.fileState("text_encoders", string(in.Name1))
			if err != nil {
				return "", err
			}
			two, err := r.fileState("text_encoders", string(in.Name2))
			return one + " " + two, err
		}).
		Title("DualCLIPLoader").Doc("Loads two text encoders, each from a file of its own: CLIP-L and OpenCLIP-bigG for Stable Diffusion XL.")
}

type loadCheckpoint struct {
	Name checkpointName `in:"ckpt_name" doc:"The checkpoint file."`
}

// checkpoint is what a checkpoint holds; CLIP and VAE are nil where the file
// has none.
type checkpoint struct {
	Model *diffusion.Model `out:"MODEL"`
	CLIP  *diffusion.CLIP  `out:"CLIP"`
	VAE   *diffusion.VAE   `out:"VAE"`
}

func (r *Runtime) loadCheckpoint(ctx context.Context, in loadCheckpoint) (checkpoint, error) {
	path, err := r.Models.Path("checkpoints", string(in.Name))
	if err != nil {
		return checkpoint{}, err
	}
	m, clip, vae, err := r.Diffusion.LoadCheckpoint(ctx, path)
	return checkpoint{m, clip, vae}, err
}

type loadVAE struct {
	Name vaeName `in:"vae_name"`
}

func (r *Runtime) loadVAE(ctx context.Context, in loadVAE) (*diffusion.VAE, error) {
	return r.loadVAEByName(ctx, string(in.Name))
}

type loadUNet struct {
	Name  unetName    `in:"unet_name"`
	DType weightDType `in:"weight_dtype" ui:"nodefault" doc:"8-bit floats round the weights first; they save no memory here."`
}

func (r *Runtime) loadUNet(ctx context.Context, in loadUNet) (*diffusion.Model, error) {
	path, err := r.Models.Path("diffusion_models", string(in.Name))
	if err != nil {
		return nil, err
	}
	precision := map[weightDType]diffusion.Precision{
		"fp8_e4m3fn": diffusion.E4M3, "fp8_e4m3fn_fast": diffusion.E4M3, "fp8_e5m2": diffusion.E5M2,
	}
	return r.Diffusion.LoadUNet(ctx, path, precision[in.DType])
}

type loadCLIP struct {
	Name   clipName   `in:"clip_name"`
	Type   clipType   `in:"type" ui:"nodefault"`
	Device deviceName `in:"device,optional" ui:"advanced,nodefault"`
}

func (r *Runtime) loadCLIP(ctx context.Context, in loadCLIP) (*diffusion.CLIP, error) {
	switch in.Type {
	case "sd3", "stable_cascade", "hidream":
		return nil, fmt.Errorf("a text encoder of type %s is used otherwise than in Stable Diffusion 1, 2 and XL, which are supported", in.Type)
	}
	path, err := r.Models.Path("text_encoders", string(in.Name))
	if err != nil {
		return nil, err
	}
	return r.Diffusion.LoadCLIP(ctx, path)
}

type loadTwoCLIPs struct {
	Name1  clipName     `in:"clip_name1"`
	Name2  clipName     `in:"clip_name2"`
	Type   dualCLIPType `in:"type" ui:"nodefault"`
	Device deviceName   `in:"device,optional" ui:"advanced,nodefault"`
}

func (r *Runtime) loadTwoCLIPs(ctx context.Context, in loadTwoCLIPs) (*diffusion.CLIP, error) {
	if in.Type != "sdxl" {
		return nil, fmt.Errorf("text encoders of type %s are not supported; supported: sdxl", in.Type)
	}
	var paths []string
	for _, name := range []clipName{in.Name1, in.Name2} {
		path, err := r.Models.Path("text_encoders", string(name))
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return r.Diffusion.LoadCLIP(ctx, paths...)
}

// fileState identifies the content of a model file without reading it, so that
// a replaced file is loaded again.
func (r *Runtime) fileState(folder, name string) (string, error) {
	path, err := r.Models.Path(folder, name)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano()), nil
}
