package library

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// parse reads a workflow in the API format, or as ComfyUI's editor saves it.
func parse(data []byte, c *engine.Catalog) (*workflows.Graph, error) {
	g, err := workflows.Parse(data)
	if !errors.Is(err, workflows.ErrUIFormat) {
		return g, err
	}
	info, err := json.Marshal(engine.ObjectInfo(c))
	if err != nil {
		return nil, fmt.Errorf("describe node types: %w", err)
	}
	known, err := ui.ParseObjectInfo(info)
	if err != nil {
		return nil, fmt.Errorf("describe node types: %w", err)
	}
	// What the warnings tell of, such as unknown classes, is a mistake when the graph is checked.
	g, _, err = ui.Read(data, known, ui.Options{})
	return g, err
}
