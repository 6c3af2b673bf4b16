package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/comfyrun/comfyrun/engine/models/demo"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"comfyrun": main})
}

// The stories in testdata are what a person types at a shell. $COMFYRUN_HOME is an empty home, $LIB the folder that make lib
// fills, $WORKFLOWS the repository's sample workflows, $DEMO the demo
// checkpoint.
func TestStories(t *testing.T) {
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("COMFYRUN_HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("LIB", filepath.Join(top, "lib"))
			env.Setenv("DEMO", filepath.Join(top, "engine", "models", "demo", demo.Name))
			env.Setenv("WORKFLOWS", filepath.Join(top, "workflows"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": expectExit, "nofiles": noFiles, "edit": edit, "checkpoint": checkpoint,
		},
	})
}

// expectExit is the command `exits CODE ARGS…`: it runs comfyrun and checks its exit code; stdout and stderr can be asked
// about afterwards. An error is one report on stderr that names the program.
func expectExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARGS…")
	}
	err := ts.Exec("comfyrun", args[1:]...)
	code := 0
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) {
		code = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("run comfyrun: %v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("comfyrun %s: exit code %d, want %s", strings.Join(args[1:], " "), code, args[0])
	}
	if n := strings.Count("\n"+ts.ReadFile("stderr"), "\ncomfyrun: "); code != 0 && n != 1 {
		ts.Fatalf("stderr reports %d errors, want 1", n)
	}
}

// noFiles is the command `nofiles DIR…`: it checks that folders are absent or hold nothing.
func noFiles(ts *testscript.TestScript, neg bool, args []string) {
	for _, dir := range args {
		found, err := filepath.Glob(filepath.Join(ts.MkAbs(dir), "*"))
		if neg || err != nil || len(found) > 0 {
			ts.Fatalf("%s holds %v, want nothing", dir, found)
		}
	}
}

// edit is the command `edit FROM TO OLD NEW`: it writes the file FROM to TO with the text OLD, which occurs once, replaced.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: edit FROM TO OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if n := strings.Count(text, args[2]); n != 1 {
		ts.Fatalf("%s holds %q %d times, want once", args[0], args[2], n)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Replace(text, args[2], args[3], 1)), 0o644))
}

// checkpoint is the command `checkpoint FILE TENSOR…`: it writes a sound safetensors file of tensors of one number each.
func checkpoint(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: checkpoint FILE TENSOR…")
	}
	header := map[string]any{}
	for i, name := range args[1:] {
		header[name] = map[string]any{"dtype": "F32", "shape": []int{1}, "data_offsets": []int{4 * i, 4*i + 4}}
	}
	text, err := json.Marshal(header)
	ts.Check(err)
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	file = append(append(file, text...), make([]byte, 4*len(args[1:]))...)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), file, 0o644))
}
