package nodes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
	"github.com/comfyrun/comfyrun/workflows"
)

// TestSaveModels merges two checkpoints by blocks in a workflow and writes all
// that can be written, then looks at the files.
func TestSaveModels(t *testing.T) {
	dir := t.TempDir()
	checkpoints := filepath.Join(dir, "models", "checkpoints")
	if err := os.MkdirAll(checkpoints, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"sdxl-tiny-fp16", "sdxl-vpred-ztsnr-tiny-fp16"} {
		weightstest.Write(t, checkpoints, list)
	}
	r := testRuntime(t, dir)
	c, err := Catalog(r)
	if err != nil {
		t.Fatal(err)
	}
	merge := map[string]any{"model1": []any{"1", 0}, "model2": []any{"2", 0}}
	for _, name := range blockNames(9, 9, "") {
		merge[name] = 1.0
	}
	merge["out."] = 0.0
	raw, err := json.Marshal(map[string]any{
		"1": node("CheckpointLoaderSimple", map[string]any{"ckpt_name": "sdxl-tiny-fp16.safetensors"}),
		"2": node("CheckpointLoaderSimple", map[string]any{"ckpt_name": "sdxl-vpred-ztsnr-tiny-fp16.safetensors"}),
		"3": node("ModelMergeSDXL", merge),
		"4": node("CheckpointSave", map[string]any{"model": []any{"3", 0}, "clip": []any{"1", 1}, "vae": []any{"1", 2}, "filename_prefix": "checkpoints/mix"}),
		"5": node("CLIPSave", map[string]any{"clip": []any{"1", 1}, "filename_prefix": "clip/mix"}),
		"6": node("VAESave", map[string]any{"vae": []any{"1", 2}, "filename_prefix": "vae/mix"}),
		"8": node("LoraSave", map[string]any{"model_diff": []any{"1", 0}, "filename_prefix": "loras/mix", "rank": 1, "lora_type": "full_diff", "bias_diff": false}),
		"9": node("LoraSave", map[string]any{"filename_prefix": "loras/nothing", "rank": 1, "lora_type": "standard", "bias_diff": true}),
		"7": node("ModelSave", map[string]any{"model": []any{"2", 0}, "filename_prefix": "mix"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	g, err := workflows.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := engine.NewPlan(g, c, engine.PlanOptions{})
	if err != nil || plan.Invalid != nil {
		t.Fatal(err, plan)
	}
	if _, err := (&engine.Runner{}).Run(t.Context(), plan, engine.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	output := r.Dirs.Output
	saved := openWeights(t, filepath.Join(output, "checkpoints", "mix_00001_.safetensors"))
	sameValues(t, saved, openWeights(t, filepath.Join(checkpoints, "sdxl-tiny-fp16.safetensors")), "model.diffusion_model.output_blocks.0.0.in_layers.2.weight")
	other := openWeights(t, filepath.Join(checkpoints, "sdxl-vpred-ztsnr-tiny-fp16.safetensors"))
	sameValues(t, saved, other, "model.diffusion_model.out.2.weight")
	if m := saved.Metadata; m["modelspec.title"] != "mix 1" || m["modelspec.architecture"] != "stable-diffusion-xl-v1-base" || m["modelspec.predict_key"] != "epsilon" || m["prompt"] == "" {
		t.Errorf("the checkpoint says %v", m)
	}
	alone := openWeights(t, filepath.Join(output, "mix_00001_.safetensors"))
	sameValues(t, alone, other, "model.diffusion_model.out.2.weight")
	if _, ok := alone.Tensor("v_pred"); !ok || alone.Metadata["modelspec.predict_key"] != "v" {
		t.Errorf("the model does not say that it predicts velocity: %v", alone.Metadata)
	}
	for path, name := range map[string]string{
		"clip/mix_clip_l_00001_": "text_model.encoder.layers.0.self_attn.q_proj.weight",
		"clip/mix_clip_g_00001_": "text_model.encoder.layers.0.self_attn.k_proj.bias",
		"vae/mix_00001_":         "decoder.conv_in.weight",
		"loras/mix_00001_":       "diffusion_model.out.2.diff",
	} {
		if _, ok := openWeights(t, filepath.Join(output, path+".safetensors")).Tensor(name); !ok {
			t.Errorf("%s has no %s", path, name)
		}
	}
}

// TestLoRAFilesSayNothing: a file of LoraSave has no metadata, and without a
// difference there is no file.
func TestLoRAFilesSayNothing(t *testing.T) {
	if text, err := (modelFile{mute: true, spec: map[string]string{"a": "b"}}).metadata(); text != nil || err != nil {
		t.Errorf("%v, %v", text, err)
	}
	dir := t.TempDir()
	s := &saver{dirs: Dirs{Output: dir}}
	if _, err := s.saveLoRA(t.Context(), saveLoRA{Prefix: "loras/nothing", Rank: 1}); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("wrote %v, %v", files, err)
	}
}

func node(class string, inputs map[string]any) map[string]any {
	return map[string]any{"class_type": class, "inputs": inputs}
}

func openWeights(t *testing.T, path string) *weights.File {
	t.Helper()
	f, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func sameValues(t *testing.T, a, b *weights.File, name string) {
	t.Helper()
	x, err := a.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(x.Data, y.Data) {
		t.Errorf("%s differs", name)
	}
}
