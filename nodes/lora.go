package nodes

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

type loraName string

func (r *Runtime) addLoRA(c *engine.Catalog) {
	engine.Add(c, "LoraLoader", "loaders", loadLoRA{Model: 1, CLIP: 1}, r.loadLoRA).
		Fingerprint(func(in loadLoRA) (string, error) { return r.fileState("loras", string(in.Name)) }).
		Title("Load LoRA").Doc("Applies a LoRA file to a denoiser and a text encoder, each at a strength. Several of these in a row add up.")
	engine.Add(c, "LoraLoaderModelOnly", "loaders", loadLoRAModel{Strength: 1}, r.loadLoRAModel).
		Fingerprint(func(in loadLoRAModel) (string, error) { return r.fileState("loras", string(in.Name)) }).
		Doc("Applies a LoRA file to a denoiser at a strength.")
}

type loadLoRA struct {
	On    *diffusion.Model `in:"model" doc:"The denoiser to change."`
	Text  *diffusion.CLIP  `in:"clip" doc:"The text encoder to change."`
	Name  loraName         `in:"lora_name" doc:"The LoRA file."`
	Model float64          `in:"strength_model" range:"-100,100,0.01" doc:"How much of the file's changes the denoiser takes; below 0 goes the other way."`
	CLIP  float64          `in:"strength_clip" range:"-100,100,0.01" doc:"How much of the file's changes the text encoder takes."`
}

// changedPair is a model and its text encoder.
type changedPair struct {
	Model *diffusion.Model `out:"MODEL"`
	CLIP  *diffusion.CLIP  `out:"CLIP"`
}

func (r *Runtime) loadLoRA(ctx context.Context, in loadLoRA) (changedPair, error) {
	out := changedPair{in.On, in.Text}
	if in.Model == 0 && in.CLIP == 0 {
		return out, nil
	}
	l, err := r.openLoRA(ctx, in.Name)
	if err != nil {
		return out, err
	}
	warnIgnored(ctx, string(in.Name), l.Ignored(in.On, in.Text))
	if in.Model != 0 && out.Model != nil {
		if out.Model, err = in.On.WithLoRA(l, in.Model); err != nil {
			return out, err
		}
	}
	if in.CLIP != 0 && out.CLIP != nil {
		out.CLIP, err = in.Text.WithLoRA(l, in.CLIP)
	}
	return out, err
}

func (r *Runtime) openLoRA(ctx context.Context, name loraName) (*diffusion.LoRA, error) {
	path, err := r.Models.Path("loras", string(name))
	if err != nil {
		return nil, err
	}
	return r.Diffusion.LoadLoRA(ctx, path)
}

type loadLoRAModel struct {
	Model    *diffusion.Model `in:"model"`
	Name     loraName         `in:"lora_name"`
	Strength float64          `in:"strength_model" range:"-100,100,0.01"`
}

func (r *Runtime) loadLoRAModel(ctx context.Context, in loadLoRAModel) (*diffusion.Model, error) {
	if in.Strength == 0 {
		return in.Model, nil
	}
	l, err := r.openLoRA(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	ignored := slices.DeleteFunc(l.Ignored(in.Model, nil), isForText)
	warnIgnored(ctx, string(in.Name), ignored)
	return in.Model.WithLoRA(l, in.Strength)
}

// isForText reports whether a tensor of a LoRA file is for a text encoder.
func isForText(tensor string) bool {
	return slices.ContainsFunc([]string{"lora_te", "lora_prior_te", "text_encoder", "clip_"}, func(prefix string) bool {
		return strings.HasPrefix(tensor, prefix)
	})
}

// warnIgnored tells which tensors of a LoRA file change nothing.
func warnIgnored(ctx context.Context, file string, tensors []string) {
	const shown = 3
	if len(tensors) == 0 {
		return
	}
	list := strings.Join(tensors[:min(len(tensors), shown)], ", ")
	if len(tensors) > shown {
		list += ", …"
	}
	engine.Warn(ctx, fmt.Sprintf("%d tensors of %s fit nothing in the model and change nothing: %s", len(tensors), file, list))
}
