package models

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func writeYAML(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "extra_model_paths.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAddYAML(t *testing.T) {
	file := writeYAML(t, `
comfyui:
  base_path: ~/comfy/
  is_default: true
  checkpoints: models/checkpoints/
  clip: |
    models/clip
    models/text_encoders

  unet: /abs/unet
zebra:
  loras: lora-here
  base_path: below
  vae:
empty:
a111:
  base_path: /a111
  checkpoints: models/Stable-diffusion
  mine: x
  loras: |
       models/Lora
       models/LyCORIS
`)
	dir := filepath.Dir(file)
	f := NewFolders([]string{"/m"})
	expand := func(p string) string { return strings.Replace(p, "~", "/home/me", 1) }
	if err := f.AddYAML(file, expand); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][]string{
		"checkpoints":      {"/home/me/comfy/models/checkpoints", "/m/checkpoints", "/a111/models/Stable-diffusion"},
		"text_encoders":    {"/home/me/comfy/models/text_encoders", "/home/me/comfy/models/clip", "/m/text_encoders", "/m/clip"},
		"diffusion_models": {"/abs/unet", "/m/unet", "/m/diffusion_models"},
		"loras":            {"/m/loras", dir + "/below/lora-here", "/a111/models/Lora", "/a111/models/LyCORIS"},
		"vae":              {"/m/vae"},
		"mine":             {"/a111/x"},
	} {
		if diff := cmp.Diff(want, f.Paths(key)); diff != "" {
			t.Errorf("Paths(%q) (-want +got):\n%s", key, diff)
		}
	}
}

func TestAddYAMLRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"a: [1, 2":               "line 1",
		"a: text":                "section a: is string",
		"a: [x, y]":              "section a: is []interface",
		"a:\n  loras: [x, y]":    "section a: key loras: is []interface",
		"a:\n  loras: true":      "section a: key loras: is a boolean",
		"a:\n  loras:\n    x: y": "section a: key loras: is yaml.MapSlice",
		"- a":                    "cannot unmarshal",
	} {
		file := writeYAML(t, text)
		err := NewFolders(nil).AddYAML(file, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("AddYAML of %q: %v; want the file and %q", text, err, want)
		}
	}
	if err := NewFolders(nil).AddYAML("absent.yaml", nil); err == nil {
		t.Error("AddYAML of an absent file gave no error")
	}
}

func FuzzParseSections(f *testing.F) {
	f.Add([]byte("a:\n  base_path: /x\n  is_default: true\n  loras: |\n    one\n    two\n"))
	f.Add([]byte("a: &x {b: *x}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		sections, err := parseSections(data)
		if err != nil {
			return
		}
		for _, s := range sections {
			for _, p := range s.paths {
				if p.dir == "" || strings.Contains(p.dir, "\n") || p.key == "base_path" {
					t.Errorf("path %+v", p)
				}
			}
		}
	})
}
