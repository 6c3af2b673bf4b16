package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/golden"
	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// openSession puts together what runs single jobs, for commands that do something else with the pictures than keeping
// them: nobody is told of the runs.
func openSession(cmd *cobra.Command, flags *machineFlags, out string) (*session, error) {
	m, err := flags.openSettled(cmd, out)
	if err != nil {
		return nil, err
	}
	s := &session{flags: &execFlags{machineFlags: *flags, out: out}, machine: m, version: m.diffusion.Version}
	s.manifest, err = openManifest(out)
	return s, err
}

// sourceReader reads workflows by the node types that the session has.
func (s *session) sourceReader(cmd *cobra.Command) sourceReader {
	return sourceReader{
		stdin: cmd.InOrStdin(), warnings: cmd.ErrOrStderr(), options: ui.Options{Now: time.Now()},
		definitions: func() (ui.Definitions, error) { return catalogDefinitions(s.catalog) },
	}
}

// one runs a test; counts is false for a file that is no workflow and has nothing that says it should be one.
func (t *tester) one(ctx context.Context, test golden.Test) (r golden.Result, counts bool) {
	r = golden.Result{Test: test}
	if test.Workflow == "" {
		r.Status, r.Detail = golden.Orphan, "there is no "+test.Name+golden.WorkflowEnding
		return r, true
	}
	source, err := t.reader.read(test.Workflow)
	if err != nil {
		if len(test.Goldens) == 0 && test.Sidecar == "" {
			return r, false
		}
		r.Status, r.Err = golden.Broken, asUsage(err)
		return r, true
	}
	options, err := test.Options()
	if err != nil {
		r.Status, r.Err = golden.Broken, asUsage(err)
		return r, true
	}
	if options.Skip != "" {
		r.Status, r.Detail = golden.Skipped, options.Skip
		return r, true
	}
	if len(test.Goldens) == 0 && !t.flags.update {
		r.Status = golden.NoGolden
		return r, true
	}
	j := testJob(source, options)
	why := ""
	if t.touched != nil {
		if why, err = t.touched.why(ctx, test, j); err != nil {
			r.Status, r.Err = golden.Broken, err
			return r, true
		}
		if why == "" {
			r.Status = golden.Unmoved
			return r, true
		}
	}
	r = t.runTest(ctx, test, options, j)
	if why != "" {
		r.Detail = joinWords(r.Detail, "because of "+why)
	}
	return r, true
}

// testJob is the run that a test asks for.
func testJob(source *source, options golden.Options) *job {
	j := &job{source: source, rowNumber: 1, rows: 1, number: 1, of: 1}
	for _, s := range options.Set {
		j.row = append(j.row, assignment{Target: s.Target, Text: s.Text})
	}
	return j
}

// runTest runs the workflow and compares its pictures.
func (t *tester) runTest(ctx context.Context, test golden.Test, options golden.Options, j *job) golden.Result {
	started := time.Now()
	outputs, err := t.outputs(ctx, j)
	if err != nil {
		return golden.Result{Test: test, Status: golden.Broken, Err: err, Seconds: seconds(time.Since(started))}
	}
	r := test.Check(options, outputs)
	r.Seconds = seconds(time.Since(started))
	if !t.flags.update {
		return r
	}
	writes, err := r.Updates(t.flags.digests, t.stamp)
	for _, w := range writes {
		if err == nil {
			err = writeFile(w.Path, w.Data)
		}
	}
	switch {
	case err != nil:
		r.Status, r.Err = golden.Broken, err
	case len(writes) > 0:
		r.Settle(writes)
	}
	return r
}

// outputs runs a job and reads the pictures that it made: those that it saved or, without any, those that it showed.
func (t *tester) outputs(ctx context.Context, j *job) ([]golden.Output, error) {
	g, err := j.graph(&t.session.flags.rows)
	if err != nil {
		return nil, err
	}
	if t.session.usesDemo([]*job{j}) {
		if err := ensureDemo(ctx, t.home, t.session.folders); err != nil {
			return nil, err
		}
	}
	if err := t.ensure(ctx, g); err != nil {
		return nil, err
	}
	o, err := t.session.runJob(ctx, j)
	if err == nil {
		err = o.Err
	}
	if err != nil {
		return nil, err
	}
	return readOutputs(o.Outputs)
}

// ensure holds the models that a workflow names to models.lock.
func (t *tester) ensure(ctx context.Context, g *workflows.Graph) error {
	names, err := t.modelNames(g)
	if err != nil || len(t.pins.lock.Models) == 0 {
		return err
	}
	return t.pins.Ensure(ctx, names...)
}

// modelNames lists the models that a workflow names as models.lock does, sorted.
func (t *tester) modelNames(g *workflows.Graph) ([]string, error) {
	uses, err := t.finder.uses(g, knownNames(t.pins.lock, t.session.folders, "embeddings"))
	var names []string
	for _, use := range uses {
		names = append(names, use.entryName())
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// readOutputs reads the files of a run, each once.
func readOutputs(files outputFiles) ([]golden.Output, error) {
	kind := "output"
	if len(files.paths(kind)) == 0 {
		kind = "temp"
	}
	var outputs []golden.Output
	seen := map[string]bool{}
	for _, node := range slices.Sorted(maps.Keys(files)) {
		for _, file := range files[node] {
			if file.Type != kind || seen[file.Path] {
				continue
			}
			seen[file.Path] = true
			data, err := os.ReadFile(file.Path)
			if err != nil {
				return nil, fmt.Errorf("read output: %w", err)
			}
			outputs = append(outputs, golden.Output{Node: node, Data: data})
		}
	}
	return outputs, nil
}

// testFailures remembers what decides the exit code.
type testFailures struct {
	failed int   // pictures that differ, failed runs, orphans
	first  error // of tests that could not run: invalid, or without a model
	broken int
}

func (f *testFailures) add(r golden.Result, strict bool) {
	switch {
	case r.Status == golden.Broken && testExit(r.Err) != exitFailed:
		if f.broken++; f.first == nil {
			f.first = fmt.Errorf("%s: %w", r.Name, r.Err)
		}
	case r.Status == golden.Broken, r.Status == golden.Failed, r.Status == golden.Orphan, strict && r.Status == golden.NoGolden:
		f.failed++
	}
}

// testExit is the exit code that an error alone would give.
func testExit(err error) int {
	for _, row := range exits {
		if row.fits(err) {
			return row.code
		}
	}
	return exitFailed
}

// err is the error of the command: a picture that differs outweighs tests that could not run.
func (f *testFailures) err(tests int) error {
	switch {
	case f.failed > 0:
		return fmt.Errorf("%d of %d tests failed", f.failed+f.broken, tests)
	case f.broken > 1:
		return fmt.Errorf("%d of %d tests could not run, first %w", f.broken, tests, f.first)
	case f.broken == 1:
		return f.first
	}
	return nil
}

// testText is a result for people.
func testText(r golden.Result) string {
	name := r.Workflow
	if name == "" && len(r.Goldens) > 0 {
		name = r.Goldens[0].Path
	} else if name == "" {
		name = r.Sidecar
	}
	text := fmt.Sprintf("%-9s %s", r.Status, name)
	if detail := r.Text(); detail != "" {
		text += ": " + detail
	}
	if r.Seconds > 0 {
		text += fmt.Sprintf(" (%.2f s)", r.Seconds)
	}
	return text
}

// testLine is a result as JSON.
type testLine struct {
	Event    string        `json:"event"`
	Test     string        `json:"test"`
	Workflow string        `json:"workflow,omitempty"`
	Status   string        `json:"status"`
	Detail   string        `json:"detail,omitempty"`
	Seconds  float64       `json:"seconds"`
	Pictures []testPicture `json:"pictures"`
	Error    *eventError   `json:"error,omitempty"`
}

// testPicture is a picture of a result. The measures are absent where there is nothing to measure.
type testPicture struct {
	Key     string   `json:"key"`
	Node    string   `json:"node,omitempty"`
	Golden  string   `json:"golden"`
	Problem string   `json:"problem,omitempty"`
	Max     *int     `json:"max,omitempty"`
	Mean    *float64 `json:"mean,omitempty"`
	SSIM    *float64 `json:"ssim,omitempty"`
	PHash   *int     `json:"phash,omitempty"`
}

// testSummary is the last line.
type testSummary struct {
	Event   string  `json:"event"`
	Summary string  `json:"summary"`
	Tests   int     `json:"tests"`
	Seconds float64 `json:"seconds"`
}

func testLineOf(r golden.Result) testLine {
	line := testLine{
		Event: "test", Test: r.Name, Workflow: r.Workflow, Status: r.Status, Detail: r.Detail, Seconds: r.Seconds,
		Pictures: []testPicture{}, Error: describeError(r.Err),
	}
	for _, p := range r.Pictures {
		shown := testPicture{Key: p.Key, Node: p.Node, Golden: p.Golden, Problem: p.Problem}
		if d := p.Difference; p.Compared {
			shown.Max, shown.Mean, shown.SSIM, shown.PHash = &d.Max, &d.Mean, &d.SSIM, &d.PHash
		}
		line.Pictures = append(line.Pictures, shown)
	}
	return line
}

// joinWords joins what is not empty.
func joinWords(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + ", " + b
}

var errNotInRepository = errors.New("not in a Git repository")
