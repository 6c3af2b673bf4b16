package nodes

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/diffusion"
)

// vaeNames lists the autoencoders that VAELoader offers: files, and tiny ones of
// which both halves are there. ComfyUI's pixel_space is left out: it is for
// models that work on pixels, of which none is supported.
func (r *Runtime) vaeNames() []string {
	names := r.Models.Names("vae")
	for _, tiny := range diffusion.TinyVAENames() {
		if r.tinyHalf(tiny+"_encoder") != "" && r.tinyHalf(tiny+"_decoder") != "" {
			names = append(names, tiny)
		}
	}
	return names
}

// tinyHalf returns the file of half a tiny autoencoder in the folder
// vae_approx, "" for none. A .safetensors file goes before pickles, which
// cannot be loaded.
func (r *Runtime) tinyHalf(stem string) string {
	found := ""
	for _, name := range r.Models.Names("vae_approx") {
		if strings.HasPrefix(name, stem+".") && (found == "" || path.Ext(name) == ".safetensors") {
			found = name
		}
	}
	return found
}

// loadVAEByName loads one of vaeNames.
func (r *Runtime) loadVAEByName(ctx context.Context, name string) (*diffusion.VAE, error) {
	if !slices.Contains(diffusion.TinyVAENames(), name) {
		path, err := r.Models.Path("vae", name)
		if err != nil {
			return nil, err
		}
		return r.Diffusion.LoadVAE(ctx, path)
	}
	encoder, err := r.Models.Path("vae_approx", r.tinyHalf(name+"_encoder"))
	if err != nil {
		return nil, err
	}
	decoder, err := r.Models.Path("vae_approx", r.tinyHalf(name+"_decoder"))
	if err != nil {
		return nil, err
	}
	return r.Diffusion.LoadTinyVAE(ctx, name, diffusion.TinyVAEFiles{Encoder: encoder, Decoder: decoder})
}

// vaeState identifies the content of the files behind one of vaeNames.
func (r *Runtime) vaeState(name string) (string, error) {
	if !slices.Contains(diffusion.TinyVAENames(), name) {
		return r.fileState("vae", name)
	}
	encoder, err := r.fileState("vae_approx", r.tinyHalf(name+"_encoder"))
	if err != nil {
		return "", err
	}
	decoder, err := r.fileState("vae_approx", r.tinyHalf(name+"_decoder"))
	return encoder + " " + decoder, err
}
