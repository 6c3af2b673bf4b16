package nodes

import (
	"context"
	"fmt"
	"os"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

// clipTypes are the families that ComfyUI's CLIPLoader offers; one of them is
// supported so far.
var clipTypes = []string{
	"stable_diffusion", "stable_cascade", "sd3", "stable_audio", "mochi", "ltxv", "pixart", "cosmos", "lumina2", "wan",
	"hidream", "chroma", "ace", "omnigen2", "qwen_image", "hunyuan_image",
}

func (r *Runtime) addLoaders(c *engine.Catalog) {
	engine.Add(c, "CheckpointLoaderSimple", "loaders", loadCheckpoint{}, r.loadCheckpoint).
		Fingerprint(func(in loadCheckpoint) (string, error) { return r.fileState("checkpoints", string(in.Name)) }).
		Title("Load Checkpoint").Doc("Loads a denoiser, a text encoder and an autoencoder from one file.")
	engine.Add(c, "VAELoader", "loaders", loadVAE{}, r.loadVAE).
		Fingerprint(func(in loadVAE) (string, error) { return r.fileState("vae", string(in.Name)) }).
		Title("Load VAE").Doc("Loads an autoencoder from a file of its own.")
	engine.Add(c, "CLIPLoader", "advanced/loaders", loadCLIP{Type: "stable_diffusion", Device: "default"}, r.loadCLIP).
		Fingerprint(func(in loadCLIP) (string, error) { return r.fileState("text_encoders", string(in.Name)) }).
		Title("Load CLIP").Doc("Loads a text encoder from a file of its own; CLIP-L for Stable Diffusion 1.x.")
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
	path, err := r.Models.Path("vae", string(in.Name))
	if err != nil {
		return nil, err
	}
	return r.Diffusion.LoadVAE(ctx, path)
}

type loadCLIP struct {
	Name   clipName   `in:"clip_name"`
	Type   clipType   `in:"type"`
	Device deviceName `in:"device,optional" ui:"advanced"`
}

func (r *Runtime) loadCLIP(ctx context.Context, in loadCLIP) (*diffusion.CLIP, error) {
	if in.Type != "stable_diffusion" {
		return nil, fmt.Errorf("text encoders of type %s are not supported; supported: stable_diffusion (CLIP-L)", in.Type)
	}
	path, err := r.Models.Path("text_encoders", string(in.Name))
	if err != nil {
		return nil, err
	}
	return r.Diffusion.LoadCLIP(ctx, path)
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
