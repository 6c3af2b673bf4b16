package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"
)

// Packages say what they are, and nothing runs before main.
func TestNoInitAndEveryPackageDocumented(t *testing.T) {
	for _, p := range goList(t, "./...") {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.name())
		}
		for _, file := range slices.Concat(p.GoFiles, p.CgoFiles, p.TestGoFiles, p.XTestGoFiles) {
			for _, line := range initFunctions(t, filepath.Join(p.Dir, file), nil) {
				t.Errorf("%s/%s:%d declares init", p.name(), file, line)
			}
		}
	}
}

func TestInitFunctionsSeesOne(t *testing.T) {
	const source = "package p\n\ntype T struct{}\n\nfunc (T) init() {}\n\nfunc init() {}\n"
	if lines := initFunctions(t, "p.go", source); !slices.Equal(lines, []int{7}) {
		t.Errorf("init found at lines %v, want 7", lines)
	}
}

// initFunctions returns the lines that declare an init function; source nil reads the file.
func initFunctions(t *testing.T, file string, source any) []int {
	t.Helper()
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, declared := range parsed.Decls {
		if f, ok := declared.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			lines = append(lines, files.Position(f.Pos()).Line)
		}
	}
	return lines
}
