package demo_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/demo"
)

// The project's models.lock cannot be embedded from here, so the entry stands twice; this test keeps them equal.
func TestEntryEqualsModelsLock(t *testing.T) {
	file := filepath.Join("..", "..", "..", "models.lock")
	lock, err := models.ReadLock(file)
	if err != nil {
		t.Fatal(err)
	}
	entry, _ := lock.Find(demo.Entry().Name)
	if diff := cmp.Diff(demo.Entry(), entry, cmpopts.IgnoreFields(models.Entry{}, "Line")); diff != "" {
		t.Errorf("models.lock differs (-demo +lock):\n%s", diff)
	}
	encoded, err := lock.Encode()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(encoded), string(text)); diff != "" {
		t.Errorf("models.lock is not as comfyrun writes it (-want +got):\n%s", diff)
	}
}

func TestStoreTakesTheDemoModel(t *testing.T) {
	store := models.Store{Dir: t.TempDir(), Fetchers: map[string]models.Fetcher{"embed": demo.Source{}}}
	path, err := store.Ensure(t.Context(), demo.Entry())
	if err != nil {
		t.Fatal(err)
	}
	folders := models.NewFolders([]string{filepath.Join(store.Dir, "models")})
	found, err := folders.Path(demo.Folder, demo.Name)
	if err != nil || found != path {
		t.Errorf("Path = %q, %v; want %q", found, err, path)
	}
}

func TestSourceHoldsOneFile(t *testing.T) {
	for _, source := range []string{"embed:", "embed:../demo.go", "embed:other.safetensors", "https://example.org/x"} {
		if body, err := (demo.Source{}).Fetch(t.Context(), source); err == nil {
			data, _ := io.ReadAll(body)
			t.Errorf("Fetch(%q) gave %d bytes, want an error", source, len(data))
		}
	}
}
