package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
)

// Home is the folder that holds everything comfyrun keeps: --home, $COMFYRUN_HOME, or the XDG data folder + /comfyrun.
// None of its folders need exist; whoever writes makes them.
type Home string

// Models is the folder of model names, laid out as ComfyUI's models folder; the names may be links into the blobs.
func (h Home) Models() string { return h.join("models") }

// Blobs is the folder of model files by content.
func (h Home) Blobs() string { return h.join("blobs", "sha256") }

// Weights is the folder of the weight cache: tensors converted or merged once.
func (h Home) Weights() string { return h.join("weights") }

// Input is the folder that LoadImage reads.
func (h Home) Input() string { return h.join("input") }

// Output is the folder for pictures when no other is named.
func (h Home) Output() string { return h.join("output") }

// Temp is the folder for previews.
func (h Home) Temp() string { return h.join("temp") }

// Nodes is the folder of node definitions.
func (h Home) Nodes() string { return h.join("nodes") }

// User is the folder of users' settings and files.
func (h Home) User() string { return h.join("user") }

// Queue is the folder of the durable queue.
func (h Home) Queue() string { return h.join("queue") }

// Lib is the folder of the pinned ONNX Runtime library.
func (h Home) Lib() string { return h.join("lib") }

func (h Home) join(parts ...string) string {
	return filepath.Join(append([]string{string(h)}, parts...)...)
}

func addHomeFlag(root *cobra.Command) {
	root.PersistentFlags().String("home", "", "folder of models, caches and the library (default the XDG data folder's comfyrun)")
}

// homeOf returns the home folder that cmd's command line or environment names, absolute.
func homeOf(cmd *cobra.Command) (Home, error) {
	dir, err := cmd.Flags().GetString("home")
	if err != nil {
		return "", fmt.Errorf("read flag --home: %w", err)
	}
	if dir == "" {
		dir = defaultHome()
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find home %s: %w", dir, err)
	}
	return Home(abs), nil
}
