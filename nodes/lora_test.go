package nodes

import (
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// TestLoRAWarns applies a LoRA of Stable Diffusion 1 and one of XL to a model of
// Stable Diffusion 1: only the second one leaves tensors over.
func TestLoRAWarns(t *testing.T) {
	r := goldenRuntime(t, goldenCase{Models: []string{"sd15-tiny-fp16", "lora-kohya-sd15-tiny", "lora-kohya-sdxl-tiny"}})
	catalog, err := Catalog(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ node, want string }{
		{`{"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "clip": ["1", 1], "lora_name": "lora-kohya-sd15-tiny.safetensors", "strength_model": 1, "strength_clip": 1}}`, ""},
		// Its tensors for the text encoder are not missed.
		{`{"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "lora_name": "lora-kohya-sd15-tiny.safetensors", "strength_model": 1}}`, ""},
		{`{"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "lora_name": "lora-kohya-sdxl-tiny.safetensors", "strength_model": 1}}`, "tensors of lora-kohya-sdxl-tiny.safetensors fit nothing"},
	} {
		g, err := workflows.Parse([]byte(`{"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15-tiny-fp16.safetensors"}},
			"2": ` + c.node + `, "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}}}`))
		if err != nil {
			t.Fatal(err)
		}
		plan, err := engine.NewPlan(g, catalog, engine.PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		_, err = (&engine.Runner{}).Run(t.Context(), plan, engine.RunOptions{Events: func(e engine.Event) {
			if e.Kind == engine.EventWarning {
				told = append(told, e.Node+": "+e.Text)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(told, "\n"); (c.want == "") != (got == "") || !strings.Contains(got, c.want) || strings.Count(got, ", ") > 3 {
			t.Errorf("%s: warned %q, want %q", c.node, got, c.want)
		}
	}
}
