package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/workflows"
)

// The sessions of these tests have two node types instead of the real catalogue: numbers, and a writer of their sum.

type number struct {
	Value int    `in:"value" range:"0,1000"`
	Seed  uint64 `in:"seed,optional"`
	Noise uint64 `in:"noise_seed,optional"`
}

type write struct {
	Prefix string `in:"prefix"`
	A      int    `in:"a"`
	B      int    `in:"b"`
}

var errOdd = errors.New("13 brings bad luck")

// toySession returns a session that writes below a folder, and what it prints.
func toySession(t *testing.T, dir string) (*session, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	dirs := nodes.Dirs{Output: dir, Input: filepath.Join(dir, "in"), Temp: filepath.Join(dir, "temp")}
	catalog := engine.NewCatalog()
	engine.Add(catalog, "Number", "toys", number{}, func(ctx context.Context, in number) (int, error) {
		engine.Progress(ctx, 1, 2)
		return in.Value, ctx.Err()
	})
	engine.Add(catalog, "Write", "toys", write{}, func(_ context.Context, in write) (engine.UI, error) {
		if in.A == 13 {
			return nil, errOdd
		}
		name := fmt.Sprintf("%s_%d.txt", in.Prefix, in.A+in.B)
		err := os.WriteFile(filepath.Join(dir, name), fmt.Append(nil, in.A, in.B), 0o644)
		return engine.UI{"images": {map[string]string{"filename": name, "type": "output"}}, "text": {"hello"}}, err
	}).Output()
	if err := catalog.Err(); err != nil {
		t.Fatal(err)
	}
	m, err := openManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out, text bytes.Buffer
	return &session{
		flags:    &execFlags{machineFlags: machineFlags{device: "cpu"}},
		machine:  &machine{dirs: dirs, folders: models.NewFolders(nil), seat: &seat{catalog: catalog, runner: &engine.Runner{}}},
		manifest: m, version: func() (string, error) { return "1.2.3", nil },
		reporters: reporters{jsonEvents{&out, dirs}, plainLines{&text}},
	}, &out, &text
}

func toyJobs(t *testing.T, flags rowFlags) []*job {
	t.Helper()
	rows, err := flags.rows()
	if err != nil {
		t.Fatal(err)
	}
	return makeJobs([]*source{{"toy.json", toyGraph(t)}}, rows, shard{1, 1})
}

func events(t *testing.T, out *bytes.Buffer, kind string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range bytes.Lines(out.Bytes()) {
		var e map[string]any
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if e["event"] == kind {
			found = append(found, e)
		}
	}
	return found
}

func TestSessionRun(t *testing.T) {
	dir := t.TempDir()
	s, out, text := toySession(t, dir)
	if err := s.run(t.Context(), toyJobs(t, rowFlags{sweeps: []string{"First.value=5,6"}})); err != nil {
		t.Fatal(err)
	}
	results := events(t, out, "result")
	if len(results) != 2 {
		t.Fatalf("results = %v", results)
	}
	want := map[string]any{
		"event": "result", "workflow": "toy.json", "run": 2.0, "runs": 2.0, "status": "success", "digest": results[1]["digest"],
		"outputs": map[string]any{"3": []any{
			map[string]any{"path": filepath.Join(dir, "sum_10.txt"), "type": "output"}, map[string]any{"text": "hello"}}},
		"receipt": filepath.Join(dir, "sum_10.receipt.json"),
	}
	delete(results[1], "seconds")
	if diff := cmp.Diff(want, results[1]); diff != "" {
		t.Error(diff)
	}
	if lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n")); !bytes.Contains(lines[len(lines)-1], []byte(`"result"`)) {
		t.Errorf("the last line is %s", lines[len(lines)-1])
	}
	for kind, n := range map[string]int{"run": 2, "progress": 4, "executed": 2, "node_done": 6, "success": 2} {
		if got := events(t, out, kind); len(got) != n {
			t.Errorf("%d events %s, want %d", len(got), kind, n)
		}
	}
	if !strings.Contains(text.String(), "toy.json, row 1 of 2: done in") {
		t.Errorf("text = %s", text)
	}
}

func TestReceipt(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := toySession(t, dir)
	if err := s.run(t.Context(), toyJobs(t, rowFlags{})); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "sum_7.receipt.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r receipt
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if r.Receipt != 1 || r.Engine.ONNXRuntime != "1.2.3" || r.Started.IsZero() || len(r.Digest) != 64 {
		t.Errorf("receipt = %+v", r)
	}
	if len(r.Seeds) != 1 || r.Seeds["1.seed"].Raw() != "18446744073709551615" {
		t.Errorf("seeds = %v", r.Seeds)
	}
	sum, err := fileSum(filepath.Join(dir, "sum_7.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(outputFiles{"3": {{Path: "sum_7.txt", Type: "output", SHA256: sum}}}, r.Outputs); diff != "" {
		t.Error(diff)
	}
	if len(r.Nodes) != 3 || r.Nodes[0].Class != "Number" || len(r.Nodes[0].Digests) != 1 || len(r.Nodes[0].Digests[0]) != 64 {
		t.Errorf("nodes = %+v", r.Nodes)
	}
	if !bytes.Contains(r.Workflow, []byte("18446744073709551615")) {
		t.Errorf("workflow = %s", r.Workflow)
	}
}

func TestResume(t *testing.T) {
	dir := t.TempDir()
	sweep := rowFlags{sweeps: []string{"First.value=5,6,7,13"}}
	s, _, _ := toySession(t, dir)
	if err := s.run(t.Context(), toyJobs(t, sweep)); !errors.Is(err, errOdd) || !strings.Contains(err.Error(), "1 of 4 runs failed, first toy.json, row 4 of 4: ") {
		t.Fatalf("error = %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "sum_9.txt")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sum_10.txt"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	tearManifest(t, dir)
	s, out, _ := toySession(t, dir)
	s.flags.resume = true
	if err := s.run(t.Context(), toyJobs(t, sweep)); !errors.Is(err, errOdd) {
		t.Fatalf("error = %v", err)
	}
	var resumed []bool
	for _, e := range events(t, out, "result") {
		resumed = append(resumed, e["resumed"] == true)
	}
	if diff := cmp.Diff([]bool{false, false, true, false}, resumed); diff != "" {
		t.Error(diff)
	}
	m, err := openManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.done) != 3 {
		t.Errorf("manifest has %d done runs, want 3", len(m.done))
	}
	for digest := range m.done {
		if _, ok := m.stands(digest); !ok {
			t.Errorf("run %s does not stand", digest)
		}
	}
}

// tearManifest appends half a line, as a power cut leaves it.
func tearManifest(t *testing.T, dir string) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(dir, manifestName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(`{"workflow": "toy`); err != nil {
		t.Fatal(err)
	}
}

func TestManifestOutside(t *testing.T) {
	m := &manifest{dir: t.TempDir(), done: map[string]manifestLine{
		"d": {Outputs: outputFiles{"1": {{Path: "../x", Type: "output"}}}},
	}}
	if _, ok := m.stands("d"); ok {
		t.Error("a path outside of the output folder stands")
	}
}

func TestSessionInvalid(t *testing.T) {
	dir := t.TempDir()
	s, out, _ := toySession(t, dir)
	err := s.run(t.Context(), toyJobs(t, rowFlags{sweeps: []string{"First.value=5,-1"}}))
	if report(&bytes.Buffer{}, err) != exitUsage || !strings.Contains(err.Error(), "toy.json, row 2 of 2: ") {
		t.Errorf("error = %v", err)
	}
	if got := events(t, out, "result"); len(got) != 1 || got[0]["status"] != "invalid" {
		t.Errorf("results = %v", got)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("something ran: %v", entries)
	}
}

func TestSessionInterrupted(t *testing.T) {
	dir := t.TempDir()
	s, out, _ := toySession(t, dir)
	ctx, cancel := context.WithCancelCause(t.Context())
	s.reporters = append(s.reporters, stopper{func() { cancel(errors.New("interrupt signal")) }})
	err := s.run(ctx, toyJobs(t, rowFlags{sweeps: []string{"First.value=5,6"}}))
	if report(&bytes.Buffer{}, err) != exitInterrupted {
		t.Errorf("error = %v", err)
	}
	if got := events(t, out, "result"); len(got) != 1 || got[0]["status"] != "interrupted" {
		t.Errorf("results = %v", got)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("files are left: %v", entries)
	}
}

// stopper interrupts at the first progress of a node.
type stopper struct{ stop func() }

func (stopper) start(*job)           {}
func (stopper) result(*job, outcome) {}
func (s stopper) event(_ *job, e engine.Event) {
	if e.Kind == engine.EventProgress {
		s.stop()
	}
}

func TestBars(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := toySession(t, dir)
	var screen bytes.Buffer
	s.reporters = reporters{&bars{w: &screen}}
	if err := s.run(t.Context(), toyJobs(t, rowFlags{sweeps: []string{"First.value=5,13"}})); !errors.Is(err, errOdd) {
		t.Fatal(err)
	}
	for _, want := range []string{"toy.json, row 1 of 2: done in", "toy.json, row 2 of 2: error: node 3 (Write): 13 brings"} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("screen has no %q: %q", want, screen.String())
		}
	}
}

func TestMissingModel(t *testing.T) {
	s, _, _ := toySession(t, t.TempDir())
	g := toyGraph(t)
	g.Node("1").Inputs.Set("ckpt_name", workflows.StringValue("absent.safetensors"))
	invalid := &engine.InvalidError{Kind: engine.OutputsFailed, Errors: []*engine.NodeError{
		{Node: "1", Class: "Number", Input: "ckpt_name", Kind: engine.NotInList, Err: errors.New("not in list")},
	}}
	s.nameMissing(g, invalid)
	if report(&bytes.Buffer{}, invalid) != exitModel || !strings.Contains(invalid.Error(), "absent.safetensors") {
		t.Errorf("error = %v", invalid)
	}
}

func TestSources(t *testing.T) {
	bad := writeTemp(t, "bad.json", "{\n \"1\": 5}")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-", "-"}, "given twice"},
		{[]string{bad}, "bad.json: parse workflow: line 2, column 7: node \"1\" is a number"},
		{[]string{filepath.Join(t.TempDir(), "absent.json")}, "absent.json"},
	} {
		reader := sourceReader{stdin: strings.NewReader(toyWorkflow), warnings: io.Discard}
		_, err := reader.readAll(c.args)
		if err == nil || !strings.Contains(err.Error(), c.want) || report(&bytes.Buffer{}, err) != exitUsage {
			t.Errorf("%v: %v, want %s", c.args, err, c.want)
		}
	}
	reader := sourceReader{stdin: strings.NewReader(toyWorkflow), warnings: io.Discard}
	sources, err := reader.readAll([]string{"-"})
	if err != nil || sources[0].name != "stdin" || sources[0].graph.Len() != 3 {
		t.Errorf("sources = %v, %v", sources, err)
	}
}
