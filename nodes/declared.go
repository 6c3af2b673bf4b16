package nodes

import (
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
)

// declared is a loader that is not supported but listed, because ComfyUI's
// editor looks the class up while it registers its own: version 1.27.10 leaves
// CheckpointLoaderSimple without a class when one of these is absent.
type declared struct {
	class, title     string
	category, module string
	input, folder    string // the one input, and the models folder that it lists
	outputs          []string
}

func declaredLoaders() []declared {
	return []declared{
		{"StyleModelLoader", "Load Style Model", "loaders", "", "style_model_name", "style_models", []string{"STYLE_MODEL"}},
		{"GLIGENLoader", "", "loaders", "", "gligen_name", "gligen", []string{"GLIGEN"}},
		{"ImageOnlyCheckpointLoader", "Image Only Checkpoint Loader (img2vid model)", "loaders/video_models",
			"comfy_extras.nodes_video_model", "ckpt_name", "checkpoints", []string{"MODEL", "CLIP_VISION", "VAE"}},
	}
}

// declareUnsupported adds the declared loaders, with the reason that
// docs/nodes.md gives for each.
func (r *Runtime) declareUnsupported(c *engine.Catalog) {
	for _, d := range declaredLoaders() {
		reason, _ := Unsupported(d.class)
		t := &engine.NodeType{
			Class: d.class, Title: d.title, Category: d.category, Module: d.module, Doc: fmt.Sprintf("Not supported: %s.", reason),
			Unsupported: reason + "; see docs/nodes.md",
			Inputs: []engine.Input{{Name: d.input, Kind: engine.KindCombo,
				Choices: func() []string { return r.Models.Names(d.folder) }}},
		}
		for _, o := range d.outputs {
			t.Outputs = append(t.Outputs, engine.Output{Name: o, Kind: o})
		}
		c.AddType(t)
	}
}
