package nodes

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/weights"
)

const modelEnding = ".safetensors"

// addModelFiles declares the nodes that write models into the output folder.
func addModelFiles(c *engine.Catalog, d Dirs) {
	const category, module = "advanced/model_merging", "comfy_extras.nodes_model_merging"
	s := &saver{dirs: d}
	engine.Add(c, "ModelSave", category, saveModel{Prefix: "diffusion_models/ComfyUI"}, s.saveModel).Output().Module(module).
		Doc("Writes a denoiser, with what LoRAs and merges made of it, into the output folder.")
	engine.Add(c, "CLIPSave", category, saveCLIP{Prefix: "clip/ComfyUI"}, s.saveCLIP).Output().Module(module).
		Doc("Writes each text encoder, with what LoRAs and merges made of it, into a file of the output folder.")
	engine.Add(c, "VAESave", category, saveVAE{Prefix: "vae/ComfyUI_vae"}, s.saveVAE).Output().Module(module).
		Doc("Writes an autoencoder into the output folder.")
	engine.Add(c, "CheckpointSave", category, saveCheckpoint{Prefix: "checkpoints/ComfyUI"}, s.saveCheckpoint).Output().Module(module).
		Title("Save Checkpoint").Doc("Writes denoiser, text encoders and autoencoder into one file of the output folder.")
	engine.Add(c, "LoraSave", "_for_testing", saveLoRA{Prefix: "loras/ComfyUI_extracted_lora", Rank: 8, Biases: true}, s.saveLoRA).
		V3().Output().Experimental().Module("comfy_extras.nodes_lora_extract").Title("Extract and Save Lora").
		Doc("Writes the difference of two models as a LoRA file, its matrices as factors of a small rank.")
}

type saveLoRA struct {
	Prefix string           `in:"filename_prefix" ui:"multiline=false"`
	Rank   int              `in:"rank" range:"1,4096,1"`
	Type   loraForm         `in:"lora_type"`
	Biases bool             `in:"bias_diff"`
	Model  *diffusion.Model `in:"model_diff,optional" doc:"The difference of two denoisers, as ModelMergeSubtract makes it."`
	CLIP   *diffusion.CLIP  `in:"text_encoder_diff,optional" doc:"The difference of two text encoders, as CLIPMergeSubtract makes it."`
	Prompt engine.Prompt
	Extra  engine.ExtraPNGInfo
}

// loraForm is how a LoRA file holds matrices.
type loraForm string

// saveLoRA writes a file without a word about the workflow, as ComfyUI does.
func (s *saver) saveLoRA(ctx context.Context, in saveLoRA) (engine.UI, error) {
	e := diffusion.Extraction{Rank: in.Rank, Whole: in.Type == "full_diff", Biases: in.Biases}
	var contents []weights.Content
	if in.Model != nil {
		contents = in.Model.Extract(e)
	}
	if in.CLIP != nil {
		contents = append(contents, in.CLIP.Extract(e)...)
	}
	if len(contents) == 0 {
		return engine.UI{}, nil
	}
	return s.writeModel(ctx, modelFile{prefix: in.Prefix, mute: true}, contents)
}

type saveModel struct {
	Model  *diffusion.Model `in:"model"`
	Prefix string           `in:"filename_prefix"`
	Prompt engine.Prompt
	Extra  engine.ExtraPNGInfo
}

func (s *saver) saveModel(ctx context.Context, in saveModel) (engine.UI, error) {
	return s.writeModel(ctx, modelFile{prefix: in.Prefix, prompt: in.Prompt, extra: in.Extra, spec: modelSpec(in.Model)}, in.Model.Contents())
}

type saveCLIP struct {
	CLIP   *diffusion.CLIP `in:"clip"`
	Prefix string          `in:"filename_prefix"`
	Prompt engine.Prompt
	Extra  engine.ExtraPNGInfo
}

func (s *saver) saveCLIP(ctx context.Context, in saveCLIP) (engine.UI, error) {
	if in.CLIP == nil {
		return nil, errNoCLIP
	}
	for _, tower := range in.CLIP.Contents() {
		f := modelFile{prefix: in.Prefix + "_" + tower.Name, prompt: in.Prompt, extra: in.Extra, spec: map[string]string{"format": "pt"}}
		if _, err := s.writeModel(ctx, f, tower.Own); err != nil {
			return nil, err
		}
	}
	return engine.UI{}, nil
}

type saveVAE struct {
	VAE    *diffusion.VAE `in:"vae"`
	Prefix string         `in:"filename_prefix"`
	Prompt engine.Prompt
	Extra  engine.ExtraPNGInfo
}

func (s *saver) saveVAE(ctx context.Context, in saveVAE) (engine.UI, error) {
	if in.VAE == nil {
		return nil, errNoVAE
	}
	contents, err := in.VAE.Contents()
	if err != nil {
		return nil, err
	}
	return s.writeModel(ctx, modelFile{prefix: in.Prefix, prompt: in.Prompt, extra: in.Extra}, contents)
}

type saveCheckpoint struct {
	Model  *diffusion.Model `in:"model"`
	CLIP   *diffusion.CLIP  `in:"clip"`
	VAE    *diffusion.VAE   `in:"vae"`
	Prefix string           `in:"filename_prefix"`
	Prompt engine.Prompt
	Extra  engine.ExtraPNGInfo
}

func (s *saver) saveCheckpoint(ctx context.Context, in saveCheckpoint) (engine.UI, error) {
	if in.CLIP == nil {
		return nil, errNoCLIP
	}
	if in.VAE == nil {
		return nil, errNoVAE
	}
	vae, err := in.VAE.Contents()
	if err != nil {
		return nil, err
	}
	contents := append(in.Model.Contents(), diffusion.InCheckpoint(vae)...)
	for _, tower := range in.CLIP.Contents() {
		contents = append(contents, tower.Embedded...)
	}
	return s.writeModel(ctx, modelFile{prefix: in.Prefix, prompt: in.Prompt, extra: in.Extra, spec: modelSpec(in.Model)}, contents)
}

// modelSpec is what a file says about its denoiser: its family, which ComfyUI
// names for those of Stable Diffusion XL only, and what it predicts.
// https://github.com/Stability-AI/ModelSpec
func modelSpec(m *diffusion.Model) map[string]string {
	spec := map[string]string{}
	architecture := map[string]string{
		"Stable Diffusion XL":         "stable-diffusion-xl-v1-base",
		"Stable Diffusion XL refiner": "stable-diffusion-xl-v1-refiner",
	}[m.Family()]
	if architecture != "" {
		spec[specPrefix+"architecture"], spec[specPrefix+"implementation"] = architecture, "sgm"
		spec[specPrefix+"sai_model_spec"] = "1.0.0"
	}
	switch m.Trained().Prediction() {
	case sampling.EPS:
		spec[specPrefix+"predict_key"] = "epsilon"
	case sampling.VPrediction:
		spec[specPrefix+"predict_key"] = "v"
	}
	return spec
}

const specPrefix = "modelspec."

// modelFile says what to write beside the weights.
type modelFile struct {
	prefix string
	prompt engine.Prompt
	extra  engine.ExtraPNGInfo
	spec   map[string]string
	mute   bool // says nothing
}

// metadata returns what the header says beside the weights; the prompt is empty
// when there is none.
func (f modelFile) metadata() (map[string]string, error) {
	if f.mute {
		return nil, nil
	}
	out := map[string]string{"prompt": ""}
	for k, v := range f.spec {
		out[k] = v
	}
	text, err := metadata(f.prompt, f.extra)
	for _, x := range text {
		out[x.Key] = x.Value
	}
	return out, err
}

// writeModel writes weights under the next free number of a prefix.
func (s *saver) writeModel(ctx context.Context, f modelFile, contents []weights.Content) (engine.UI, error) {
	text, err := f.metadata()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	target, err := saveJob{dir: s.dirs.Output, prefix: f.prefix}.target(0, 0, time.Now())
	if err != nil {
		return nil, err
	}
	if f.spec[specPrefix+"architecture"] != "" {
		n, err := target.counter()
		if err != nil {
			return nil, fmt.Errorf("save model: %w", err)
		}
		text[specPrefix+"title"] = fmt.Sprintf("%s %d", target.base, n)
	}
	_, err = target.number("%s_%05d_"+modelEnding, 0, func(w io.Writer) error {
		return weights.Write(cancellable{ctx, w}, text, contents)
	})
	if err != nil {
		return nil, fmt.Errorf("save model: %w", err)
	}
	return engine.UI{}, nil
}

// cancellable refuses to write when ctx is done.
type cancellable struct {
	ctx context.Context
	w   io.Writer
}

func (c cancellable) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}
