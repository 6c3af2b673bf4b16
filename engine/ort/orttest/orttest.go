// Package orttest gives tests the ONNX Runtime library of this checkout.
package orttest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort"
)

// Env opens the library in lib/ at the module's root, which "make lib" puts
// there. The test fails when it is absent.
func Env(t testing.TB) *ort.Env {
	t.Helper()
	env, err := ort.Open(Library(t))
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// Library returns the path of the library that Env opens.
func Library(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(root(t), "lib")
	found, err := filepath.Glob(filepath.Join(dir, "libonnxruntime.so.1*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("no libonnxruntime.so.1* in %s: run make lib", dir)
	}
	return found[len(found)-1]
}

// root walks up from the working directory to the folder of go.mod.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}
