// Package demo carries the demo model inside the program: a small Stable Diffusion checkpoint that paints landscape
// postcards of 128 by 128 pixels. README.md in its folder says what to ask of it and how it was made.
package demo

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"strings"

	"github.com/comfyrun/comfyrun/engine/models"
)

// Folder and Name are the folder key and the name by which workflows load the demo model.
const (
	Folder = "checkpoints"
	Name   = "comfyrun-demo.safetensors"
)

//go:embed comfyrun-demo.safetensors
var checkpoint string

// Entry is the demo model's entry of models.lock.
func Entry() models.Entry {
	return models.Entry{
		Name:    Folder + "/" + Name,
		Size:    21667286,
		SHA256:  "f8502e49aac2b13e046fb023fb65867049482b305a89ae772a7fe527c4e8a957",
		License: "Apache-2.0",
		Sources: []string{"embed:" + Name},
	}
}

// Source fetches what the program carries: sources of the form "embed:FILE".
type Source struct{}

// Fetch opens the demo model, the only file there is.
func (Source) Fetch(_ context.Context, source string) (io.ReadCloser, error) {
	if source != "embed:"+Name {
		return nil, fmt.Errorf("open %s: the program carries embed:%s only", source, Name)
	}
	return io.NopCloser(strings.NewReader(checkpoint)), nil
}
