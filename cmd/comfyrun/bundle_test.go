package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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

// manyFlows makes a folder with copies of a sample workflow that differ in their texts; each second has a sidecar.
func manyFlows(t testing.TB, n int) string {
	t.Helper()
	data, err := os.ReadFile("../../workflows/hires-fix.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		write(fmt.Sprintf("w%03d.json", i), bytes.ReplaceAll(data, []byte(`"text": "`), fmt.Appendf(nil, `"text": "number %d, `, i)))
		if i%2 == 0 {
			write(fmt.Sprintf("w%03d.params.toml", i), fmt.Appendf(nil, "title = \"W%d\"\n", i))
		}
	}
	return dir
}

// runBundle makes a bundle with all targets.
func runBundle(t testing.TB, flows, out string) {
	t.Helper()
	args := []string{"bundle", flows, "--lock", "../../models.lock", "-o", out, "--with", strings.Join(charts.TargetNames(), ","),
		"--repo", "https://git.example.com/x.git", "--repo-path", "a/b/c", "--chart", filepath.Join(out, "chart")}
	if code := Run(t.Context(), args, Stdio{In: strings.NewReader(""), Out: io.Discard, Err: os.Stderr}); code != 0 {
		t.Fatalf("exit code %d", code)
	}
}

// Two runs over many workflows give the same files.
func TestBundleOfMany(t *testing.T) {
	t.Setenv("COMFYRUN_HOME", t.TempDir())
	flows, top := manyFlows(t, 200), t.TempDir()
	read := func(out string) string {
		runBundle(t, flows, out)
		var all strings.Builder
		files := 0
		err := filepath.WalkDir(out, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			fmt.Fprintf(&all, "%s\n%s", strings.TrimPrefix(path, out), data)
			files++
			return err
		})
		if err != nil || files != 200+1+6 {
			t.Fatalf("%d files, %v", files, err)
		}
		return all.String()
	}
	first := read(filepath.Join(top, "one"))
	if read(filepath.Join(top, "two")) != first || read(filepath.Join(top, "one")) != first {
		t.Error("a second run gives other bytes")
	}
}

func BenchmarkBundle(b *testing.B) {
	b.Setenv("COMFYRUN_HOME", b.TempDir())
	flows, top := manyFlows(b, 200), b.TempDir()
	n := 0
	for b.Loop() {
		n++
		runBundle(b, flows, filepath.Join(top, fmt.Sprint(n)))
	}
}
