package ort

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	ortgo "github.com/yalue/onnxruntime_go"
)

// The positions in api.h are those of the header that the binding was written
// against.
func TestPositions(t *testing.T) {
	header, err := os.ReadFile("api.h")
	if err != nil {
		t.Fatal(err)
	}
	positions := regexp.MustCompile(`at_(\w+) = (\d+)`).FindAllStringSubmatch(string(header), -1)
	if len(positions) < 30 {
		t.Fatalf("%d positions in api.h", len(positions))
	}
	var print, want strings.Builder
	for _, p := range positions {
		fmt.Fprintf(&print, "\tprintf(\"%s %%zu\\n\", offsetof(OrtApi, %s) / sizeof(void *));\n", p[1], p[1])
		fmt.Fprintln(&want, p[1], p[2])
	}
	source := "#include <stddef.h>\n#include <stdio.h>\n#include \"onnxruntime_c_api.h\"\nint main(void) {\n" + print.String() + "\treturn 0;\n}\n"
	if got := runC(t, source, bindingDir(t)); got != want.String() {
		t.Errorf("positions of the header:\n%s\nof api.h:\n%s", got, want.String())
	}
}

// bindingDir is the folder of the binding's module.
func bindingDir(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// runC compiles a program and returns what it prints.
func runC(t *testing.T, source, include string) string {
	t.Helper()
	dir := t.TempDir()
	c, program := filepath.Join(dir, "main.c"), filepath.Join(dir, "main")
	if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-I", include, "-o", program, c).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(program).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// handleOf reads fields that the binding does not export.
func TestBindingLayout(t *testing.T) {
	outer := reflect.TypeFor[ortgo.DynamicAdvancedSession]()
	if outer.NumField() != 1 || outer.Field(0).Type != reflect.TypeFor[*ortgo.AdvancedSession]() {
		t.Fatalf("%v is not a pointer to AdvancedSession", outer)
	}
	inner := reflect.TypeFor[ortgo.AdvancedSession]().Field(0)
	if inner.Name != "ortSession" || inner.Offset != 0 || inner.Type.Kind() != reflect.Pointer || !strings.HasSuffix(inner.Type.String(), "OrtSession") {
		t.Errorf("AdvancedSession begins with %s %v", inner.Name, inner.Type)
	}
	for _, options := range []reflect.Type{reflect.TypeFor[ortgo.RunOptions](), reflect.TypeFor[ortgo.SessionOptions]()} {
		if options.NumField() != 1 || options.Field(0).Type.Kind() != reflect.Pointer {
			t.Errorf("%v is not one pointer", options)
		}
	}
}
