package ort

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckVersion(t *testing.T) {
	for version, want := range map[string]string{
		"1.30.0": "",
		"1.30.1": "",
		"1.29.0": "fp16",
		"1.3.0":  "not tested",
		"1.31.0": "want 1.30.0",
		"2.30.0": "not tested",
		"":       "not tested",
	} {
		err := checkVersion(version)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", version, err, want)
		}
	}
}

// compile makes a shared library of C source.
func compile(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	c, so := filepath.Join(dir, "lib.c"), filepath.Join(dir, "lib.so")
	if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", so, c).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return so
}

// Libraries of other versions are refused before anything else of them is
// called: this one has no interface at all.
func TestLoadRefuses(t *testing.T) {
	const release = `
static const char *version(void) { return "%s"; }
static struct { void *get_api; const char *(*version)(void); } base = { 0, version };
void *OrtGetApiBase(void) { return &base; }
`
	for name, c := range map[string]struct {
		source string
		code   Code
		want   string
	}{
		"1.29":    {fmt.Sprintf(release, "1.29.1"), CodeVersion, "ONNX Runtime 1.29.1 is not used"},
		"older":   {fmt.Sprintf(release, "1.20.0"), CodeVersion, "want 1.30.0"},
		"another": {"int x;", CodeLibrary, "not an ONNX Runtime library"},
	} {
		_, err := load(compile(t, c.source))
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s %q", name, err, c.code, c.want)
		}
	}
}

func TestPhysicalCores(t *testing.T) {
	if n := physicalCores(); n < 1 {
		t.Errorf("%d cores", n)
	}
}
