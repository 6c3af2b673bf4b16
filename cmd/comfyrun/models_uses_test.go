package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/workflows"
)

func TestModelFinder(t *testing.T) {
	finder, err := newModelFinder(Home(t.TempDir()), &nodeFlags{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := workflows.Parse([]byte(`{
		"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a/b.safetensors"}},
		"2": {"class_type": "VAELoader", "inputs": {"vae_name": "taesd"}},
		"3": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "c.pth"}},
		"4": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "u.pth"}},
		"5": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "l.sft", "clip_name2": "g.sft", "type": "sdxl", "device": "default"}},
		"6": {"class_type": "UNETLoader", "inputs": {"unet_name": "n.safetensors", "weight_dtype": "default"}},
		"7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["5", 0], "text": "embedding:one, (embedding:two:1.2) noembedding:three\nembedding:four.pt,"}},
		"8": {"class_type": "SomebodysLoader", "inputs": {"ckpt_name": "unknown.safetensors"}}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	uses, err := finder.uses(g, []string{"embeddings/sub/one.pt", "vae/two.pt"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, use := range uses {
		got = append(got, use.node+" "+use.entryName())
	}
	want := []string{
		"1 checkpoints/a/b.safetensors", "2 vae_approx/taesd_encoder.safetensors", "2 vae_approx/taesd_decoder.safetensors", "3 controlnet/c.pth",
		"4 upscale_models/u.pth", "5 text_encoders/l.sft", "5 text_encoders/g.sft", "6 diffusion_models/n.safetensors",
		"7 embeddings/sub/one.pt", "7 embeddings/two.safetensors", "7 embeddings/four.pt",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
}
