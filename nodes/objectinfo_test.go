package nodes

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/google/go-cmp/cmp"
)

// comfyClasses is ComfyUI's own object_info by class, without texts.
func comfyClasses(t *testing.T) map[string]map[string]any {
	t.Helper()
	f, err := os.Open("testdata/object_info.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(z)
	var out map[string]map[string]any
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// emptyCatalog is the catalogue of a machine without any files.
func emptyCatalog(t *testing.T) *engine.Catalog {
	t.Helper()
	dir := t.TempDir()
	r := testRuntime(t, dir)
	r.Dirs.Input = filepath.Join(dir, "input")
	c, err := Catalog(r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestObjectInfo compares every class with ComfyUI's: names, order, types,
// defaults, ranges and choices of inputs, outputs, flags. Texts are our own.
func TestObjectInfo(t *testing.T) {
	want := comfyClasses(t)
	for _, typ := range emptyCatalog(t).Types() {
		exp, known := want[typ.Class]
		if typ.Class == "SaveImageWebsocket" {
			continue // of a node package that comes with ComfyUI
		}
		if !known {
			t.Errorf("%s is no class of ComfyUI's", typ.Class)
			continue
		}
		raw, err := typ.Info().MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		if typ.Doc == "" {
			t.Errorf("%s has no description", typ.Class)
		}
		delete(got, "description")
		delete(got, "output_tooltips")
		if diff := cmp.Diff(withoutTooltips(any(exp)), withoutTooltips(any(got))); diff != "" {
			t.Errorf("%s:\n%s", typ.Class, diff)
		}
	}
}

// withoutTooltips leaves tooltips out, and options that are empty then.
func withoutTooltips(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			if k != "tooltip" {
				out[k] = withoutTooltips(x)
			}
		}
		return out
	case []any:
		out := []any{}
		for i, x := range v {
			x = withoutTooltips(x)
			if m, ok := x.(map[string]any); ok && i == 1 && len(m) == 0 {
				continue
			}
			out = append(out, x)
		}
		return out
	}
	return v
}
