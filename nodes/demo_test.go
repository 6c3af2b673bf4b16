package nodes

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/demo"
	"github.com/comfyrun/comfyrun/workflows"
)

// putDemo puts the demo model into dir/models.
func putDemo(t *testing.T, dir string) {
	t.Helper()
	store := models.Store{Dir: dir, Fetchers: map[string]models.Fetcher{"embed": demo.Source{}}}
	if _, err := store.Ensure(t.Context(), demo.Entry()); err != nil {
		t.Fatal(err)
	}
}

// TestDemoModel repeats the pictures that ComfyUI drew with the demo model.
func TestDemoModel(t *testing.T) {
	references, err := filepath.Glob("../engine/models/demo/reference-*.json")
	if err != nil || len(references) == 0 {
		t.Fatalf("no references: %v", err)
	}
	dir := t.TempDir()
	putDemo(t, dir)
	r := testRuntime(t, dir)
	catalog, err := Catalog(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range references {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		g, err := workflows.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := engine.NewPlan(g, catalog, engine.PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		result, err := (&engine.Runner{}).Run(context.Background(), plan, engine.RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, files := range savedImages(t, result) {
			want := path[:len(path)-len(".json")] + ".png"
			d, _ := comparePNG(t, filepath.Join(r.Dirs.Output, files[0]), want)
			t.Logf("%s: %.0f levels, mean %.5f", filepath.Base(want), d.Max, d.Mean)
			if d.Max > 3 || d.Mean > 0.1 {
				t.Errorf("%s: %.0f levels, mean %.4f; allowed 3 and 0.1", filepath.Base(want), d.Max, d.Mean)
			}
		}
	}
}
