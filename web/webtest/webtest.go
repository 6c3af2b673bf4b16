// Package webtest plays recorded conversations with a ComfyUI server against
// ours. It is for tests only.
//
// A transcript is one scenario: steps, each a request and the answer that
// ComfyUI 0.3.64 gave, in which placeholders such as <uuid> stand for what
// differs from run to run. A conversation is one with sockets and the messages
// on them. A Player sends the requests and compares; a
// Difference is a place where our answer differs, an Exception one that is known
// and has a reason. Base makes the folder that the recorded server had, and
// Catalog the node types that the transcripts use: the fixture nodes (FxSteps,
// FxEcho, …), which report what they are given, wait and fail, and light
// doubles of a few core nodes, which need no ONNX Runtime.
package webtest

import (
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
)

//go:embed all:fixtures
var fixtures embed.FS

// folders are those of a base folder that the recorded server made.
var folders = []string{
	"input", "output", "temp", "user/default", "custom_nodes", "models/audio_encoders", "models/checkpoints", "models/clip",
	"models/clip_vision", "models/configs", "models/controlnet", "models/diffusers", "models/diffusion_models",
	"models/embeddings", "models/gligen", "models/hypernetworks", "models/loras", "models/model_patches",
	"models/photomaker", "models/style_models", "models/text_encoders", "models/unet", "models/upscale_models", "models/vae",
	"models/vae_approx",
}

// Base makes a copy of the recorded server's base folder, with input, output,
// temp, user and models below it, and returns where it is.
func Base(t testing.TB) string {
	t.Helper()
	base := t.TempDir()
	for _, dir := range folders {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyFixtures("fixtures/base-a", base); err != nil {
		t.Fatal(err)
	}
	return base
}

func copyFixtures(from, to string) error {
	return fs.WalkDir(fixtures, from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fixtures.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
}

// Uploads are the files that recorded clients sent.
func Uploads() fs.FS {
	sub, err := fs.Sub(fixtures, "fixtures/upload")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return sub
}

// Catalog is the node types of the transcripts, on the folders below base.
func Catalog(t testing.TB, base string) *engine.Catalog {
	t.Helper()
	c := engine.NewCatalog(kinds(base)...)
	addFixtures(c)
	addCore(c, base)
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}
