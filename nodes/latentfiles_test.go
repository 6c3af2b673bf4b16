package nodes

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// TestLatentFileLikeComfyUI writes the tensor and the texts of ComfyUI's file
// again, byte for byte.
func TestLatentFileLikeComfyUI(t *testing.T) {
	path := filepath.Join(goldenDir, "expected", "latent-files.latent")
	f, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	samples, err := f.Read(latentTensor)
	if err != nil {
		t.Fatal(err)
	}
	got, err := encodeLatent(samples, []imagefile.Text{{Key: "prompt", Value: f.Metadata["prompt"]}})
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestSaveAndLoadLatent(t *testing.T) {
	dir := t.TempDir()
	d := Dirs{Input: filepath.Join(dir, "latents"), Output: dir}
	l := rampLatent(0.5, 2, 4, 3, 5)
	s := &saver{dirs: d}
	ui, err := s.saveLatent(context.Background(), saveLatent{
		Samples: l, Prefix: "latents/x", Prompt: engine.Prompt(`{"1":{}}`),
		Extra: engine.ExtraPNGInfo{"workflow": json.RawMessage(`"größe"`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(engine.UI{"latents": {SavedImage{"x_00001_.latent", "latents", "output"}}}, ui); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"x_00001_.latent"}, latentsIn(d.Input)); diff != "" {
		t.Error(diff)
	}
	back, err := d.loadLatent(context.Background(), loadLatent{"x_00001_.latent"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l.Samples, back.Samples); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []latentFile{"none.latent", "../x_00001_.latent"} {
		if err := d.checkLatent(bad); err == nil || err.Error() != "Invalid latent file: "+string(bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestOldLatent is a file without the mark of unscaled latents.
func TestOldLatent(t *testing.T) {
	d := Dirs{Input: t.TempDir()}
	data, err := encodeLatent(tensor.Of([]float32{oldScale, -oldScale}, 1, 1, 1, 2), nil)
	if err != nil {
		t.Fatal(err)
	}
	// The mark gets a name of the same length that says nothing.
	copy(data[8+len(`{"`):], "some_other_name_of_text")
	if err := os.WriteFile(filepath.Join(d.Input, "old.latent"), data, 0o666); err != nil {
		t.Fatal(err)
	}
	l, err := d.loadLatent(context.Background(), loadLatent{"old.latent"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float32{1, -1}, l.Samples.Data); diff != "" {
		t.Error(diff)
	}
}
