package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/charts"
	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/library"
	"github.com/comfyrun/comfyrun/workflows"
)

// The version that a ConfigMap's annotation tells is the one that a server tells of the files that are mounted from it.
func TestBundleVersionIsTheServers(t *testing.T) {
	g, err := workflows.Parse([]byte(`{"1": {"class_type": "X", "inputs": {"a": 7.0}}}`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := charts.New([]charts.Source{{Name: "w", Graph: g, Sidecar: []byte("title = \"W\"\n")}}, charts.Options{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for key, text := range b.Maps[0].Data {
		if err := os.WriteFile(filepath.Join(dir, key), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lib := library.New(dir, func() *engine.Catalog { return &engine.Catalog{} })
	if _, err := lib.Scan(); err != nil {
		t.Fatal(err)
	}
	entry, ok := lib.Get("w")
	if got := b.Maps[0].Annotations[charts.Domain+"/version"]; !ok || entry.Newest != got {
		t.Errorf("the annotation says %q, the server %q", got, entry.Newest)
	}
}
