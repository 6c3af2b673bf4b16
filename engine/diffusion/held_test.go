package diffusion

import (
	"testing"

	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// What is loaded is told by file. A LoRA that was added to a model is held with it, and what a model and its variants share counts once.
func TestHeld(t *testing.T) {
	r := testRuntime(t, nil)
	check := func(when string, wantNamed, wantOthers bool, paths ...string) (named, others int64) {
		t.Helper()
		named, others = r.Held(paths...)
		if named > 0 != wantNamed || others > 0 != wantOthers || named < 0 || others < 0 {
			t.Errorf("%s: %d bytes of %v are held, and %d others", when, named, paths, others)
		}
		return named, others
	}
	s := tinyModel(t, r, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	check("before anything runs", false, false, s.Model.File())
	s.predicted(t, s.Model, 1)
	plain, _ := check("a model", true, false, "/somewhere/else", s.Model.File())
	check("another file", false, true, "/somewhere/else")
	check("no file", false, true)

	lora, err := r.LoadLoRA(t.Context(), weightstest.Write(t, t.TempDir(), "lora-kohya-sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	with, err := s.Model.WithLoRA(lora, 0.8)
	if err != nil {
		t.Fatal(err)
	}
	s.predicted(t, with, 1)
	both, _ := check("with a LoRA", true, false, s.Model.File())
	if both <= plain || both > 2*plain {
		t.Errorf("the model and its variant hold %d bytes, the model alone %d: want more, and less than twice as much", both, plain)
	}
	if named, _ := r.Held(lora.file.Path()); named <= 0 || named > both {
		t.Errorf("with the LoRA there are %d bytes, of %d", named, both)
	}
	r.Free()
	check("after freeing", false, false, s.Model.File())
}
