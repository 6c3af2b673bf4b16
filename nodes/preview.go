package nodes

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

// addPreviews declares the node that shows any value as text.
func addPreviews(c *engine.Catalog) {
	engine.Add(c, "PreviewAny", "utils", previewAny{}, showAny).Output().Module("comfy_extras.nodes_preview_any").
		Title("Preview Any").Doc("Shows a value as text.")
}

type previewAny struct {
	Source any `in:"source"`
}

func showAny(_ context.Context, in previewAny) (engine.UI, error) {
	return engine.UI{"text": []any{describe(in.Source)}}, nil
}

// describe writes texts and numbers as Python does, and of other values what
// they are and how large.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case string:
		return v
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int, int64, uint64:
		return fmt.Sprint(v)
	case float64:
		return engine.Float(v).String()
	case diffusion.Image:
		return fmt.Sprintf("IMAGE %v", v.Shape)
	case diffusion.Mask:
		return fmt.Sprintf("MASK %v", v.Shape)
	case diffusion.Latent:
		return fmt.Sprintf("LATENT %v", v.Samples.Shape)
	}
	return fmt.Sprintf("%T", v)
}
