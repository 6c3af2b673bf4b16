package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

// runRuntime runs "comfyrun runtime" with a home of its own.
func runRuntime(t *testing.T, home string, args ...string) (string, error) {
	t.Helper()
	root := rootCommand()
	if found, _, err := root.Find([]string{"runtime"}); err != nil || found == root {
		root.AddCommand(runtimeCommand())
	}
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(append([]string{"--home", home, "runtime"}, args...))
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestRuntimeInfo(t *testing.T) {
	library := orttest.Library(t)
	out, err := runRuntime(t, t.TempDir(), "info", "--library", library)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"version", ort.Version, library, "provider CPU", "works"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	home := t.TempDir()
	if err := os.Symlink(filepath.Dir(library), filepath.Join(home, "lib")); err != nil {
		t.Fatal(err)
	}
	out, err = runRuntime(t, home, "info", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var info ort.Info
	if err := json.Unmarshal([]byte(out), &info); err != nil || info.Path != library || info.Pin == "other" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestRuntimeInfoWithoutLibrary(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_DATA_HOME", home)
	_, err := runRuntime(t, home, "info")
	if err == nil || !strings.Contains(err.Error(), filepath.Join(home, "lib")) ||
		!strings.Contains(err.Error(), "comfyrun runtime install") {
		t.Errorf("error %v", err)
	}
}

func TestRuntimeInstall(t *testing.T) {
	home := t.TempDir()
	out, err := runRuntime(t, home, "install", "-n", "--arch", "arm64", "--source", "pip")
	if err != nil || !strings.HasPrefix(out, "pip onnxruntime==1.30.0 for linux/arm64\n") {
		t.Errorf("plan %q, %v", out, err)
	}
	if _, err := runRuntime(t, home, "install", "--arch", "mips"); err == nil || !strings.Contains(err.Error(), "mips") {
		t.Errorf("error %v", err)
	}
	// A pinned library that is in place needs no client.
	t.Setenv("PATH", t.TempDir())
	if err := os.Symlink(filepath.Dir(orttest.Library(t)), filepath.Join(home, "lib")); err != nil {
		t.Fatal(err)
	}
	out, err = runRuntime(t, home, "install")
	if err != nil || !strings.HasPrefix(out, "already installed "+home) {
		t.Errorf("install %q, %v", out, err)
	}
}
