//go:build clients

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// clientsDir is where `make test-clients` installs the clients: node_modules and a Python environment named venv.
const clientsDir = "../../.cache/clients"

// clientPrograms are the programs of testdata/clients and what runs them.
var clientPrograms = []struct{ file, interpreter string }{
	{"comfy-ui-client.mjs", "node"},
	{"stable-canvas.mjs", "node"},
	{"saintno.mjs", "node"},
	{"simplified.py", "venv/bin/python"},
}

// TestClients runs public clients of ComfyUI's API against a server. What they print is the size of each picture they got.
func TestClients(t *testing.T) {
	installed, err := filepath.Abs(clientsDir)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(installed, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS("testdata/clients")); err != nil {
		t.Fatal(err)
	}
	server := start(t, t.TempDir(), "serve", "--listen", "127.0.0.1:0")
	for i, program := range clientPrograms {
		t.Run(program.file, func(t *testing.T) {
			interpreter := program.interpreter
			if interpreter != "node" {
				interpreter = filepath.Join(installed, interpreter)
			}
			// A second run finds every result in the cache, and must give the picture all the same.
			for range 2 {
				runClient(t, server, interpreter, filepath.Join(dir, program.file), grey(i))
			}
		})
	}
}

func runClient(t *testing.T, server *child, interpreter, program string, workflow any) {
	t.Helper()
	text, err := json.Marshal(workflow)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "workflow.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), interpreter, program, server.url, file)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, server.logs)
	}
	sizes, err := printedSizes(out)
	if err != nil || len(sizes) != 1 || sizes[0] < 60 {
		t.Errorf("printed %s (%v), want the size of one picture", out, err)
	}
}

// printedSizes is the JSON list among the lines that a program printed; some clients print lines of their own.
func printedSizes(out []byte) (sizes []int, err error) {
	for line := range bytes.Lines(out) {
		if bytes.HasPrefix(line, []byte("[")) {
			err = errors.Join(err, json.Unmarshal(line, &sizes))
		}
	}
	return sizes, err
}
