package diffusion

import (
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// What was loaded from a file goes when the file is of no more use, also where its weights were added to those of another one.
func TestForget(t *testing.T) {
	r := testRuntime(t, nil)
	var loaded []string
	r.options.Loaded = func(path string, took time.Duration) {
		if took <= 0 {
			t.Errorf("%s took %v", path, took)
		}
		loaded = append(loaded, path)
	}
	s := tinyModel(t, r, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	lora, err := r.LoadLoRA(t.Context(), weightstest.Write(t, t.TempDir(), "lora-kohya-sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	with, err := s.Model.WithLoRA(lora, 0.8)
	if err != nil {
		t.Fatal(err)
	}
	s.predicted(t, s.Model, 1)
	plain := len(r.pool.entries)
	s.predicted(t, with, 1)
	if got := len(r.pool.entries); got != plain+1 {
		t.Fatalf("%d sessions, want one more than %d", got, plain)
	}
	r.Forget(lora.file.Path())
	if got := len(r.pool.entries); got != plain {
		t.Errorf("without the LoRA there are %d sessions, want %d", got, plain)
	}
	r.Forget("/somewhere/else", s.Model.File())
	if got := len(r.pool.entries); got != 0 {
		t.Errorf("%d sessions stay", got)
	}
	s.predicted(t, s.Model, 1)
	if len(loaded) < 3 || loaded[0] != s.Model.File() {
		t.Errorf("loaded are %v", loaded)
	}
}
