package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/golden"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/workflows"
)

// bisectFlags are the flags of bisect.
type bisectFlags struct {
	test      testFlags
	good, bad string
	json      bool
}

const bisectHelp = `Bisect finds the commit that changed a workflow's picture. It draws the workflow as of --good and as of --bad, which must
differ by more than the sidecar's limits, and then as of commits between that change the workflow, its sidecar NAME.test.toml or
models.lock, halving their number each time. Nothing is checked out: the working tree stays as it is. A commit whose
workflow does not run counts as changed.

Models are those that models.lock pins at each commit; they must be in the store, or come with --fetch=missing. The program is
this one throughout.`

func bisectCommand() *cobra.Command {
	var flags bisectFlags
	cmd := &cobra.Command{
		Use:     "bisect WORKFLOW",
		Short:   "Find the commit that changed a workflow's picture",
		Long:    bisectHelp,
		Example: "  comfyrun bisect workflows/poster.json --good v1.0",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return flags.run(cmd, args[0]) },
	}
	flags.test.machineFlags.add(cmd)
	flags.test.pins.add(cmd)
	cmd.Flags().StringVar(&flags.good, "good", "", "Git revision with the right picture")
	cmd.Flags().StringVar(&flags.bad, "bad", "HEAD", "Git revision with the wrong one")
	cmd.Flags().BoolVar(&flags.json, "json", false, "print the result as JSON")
	return cmd
}

func (f *bisectFlags) run(cmd *cobra.Command, arg string) error {
	if err := f.test.check(); err != nil {
		return err
	}
	if f.good == "" {
		return usagef("bisect: --good names no revision")
	}
	work, err := os.MkdirTemp("", "comfyrun-bisect-")
	if err != nil {
		return fmt.Errorf("make working folder: %w", err)
	}
	defer os.RemoveAll(work)
	t, err := f.test.open(cmd, work)
	if err != nil {
		return err
	}
	b := &bisector{tester: t, log: cmd.ErrOrStderr(), drawn: map[string]*drawing{}}
	found, err := b.find(cmd.Context(), f, arg)
	if err == nil && f.json {
		printLine(cmd.OutOrStdout(), found)
	} else if err == nil {
		fmt.Fprint(cmd.OutOrStdout(), found.text())
	}
	return errors.Join(err, t.session.close())
}

// bisector draws one workflow as of several commits.
type bisector struct {
	tester       *tester
	log          io.Writer
	folder, base string // of the workflow
	prefix       string // of the folder, below the top of the repository, with a slash at its end unless empty
	lock         string // models.lock, below the top; "" where it is elsewhere
	drawn        map[string]*drawing
}

// drawing is the workflow as of a commit, with the pictures that it gives. A failure stands for another picture.
type drawing struct {
	graph   *workflows.Graph
	options golden.Options
	lock    *models.Lock
	outputs []golden.Output
	failure error
}

// bisected is the commit that was found.
type bisected struct {
	Commit  string   `json:"commit"`
	Summary string   `json:"summary"`
	Picture string   `json:"picture"`
	Changes []string `json:"changes"`
	Drawn   int      `json:"drawn"`
}

// find narrows the commits down to one.
func (b *bisector) find(ctx context.Context, f *bisectFlags, arg string) (*bisected, error) {
	commits, err := b.open(ctx, f, arg)
	if err != nil {
		return nil, asUsage(err)
	}
	reference, err := b.draw(ctx, commits[0])
	if err == nil {
		err = reference.failure
	}
	if err != nil {
		return nil, fmt.Errorf("%s as of %s: %w", arg, f.good, err)
	}
	good, bad := 0, len(commits)-1
	problem, err := b.differs(ctx, reference, commits[bad])
	if err != nil {
		return nil, err
	}
	if problem == "" {
		return nil, usagef("%s gives the same picture as of %s and as of %s", arg, f.good, f.bad)
	}
	for bad-good > 1 {
		middle := (good + bad) / 2
		found, err := b.differs(ctx, reference, commits[middle])
		if err != nil {
			return nil, err
		}
		if found == "" {
			good = middle
		} else {
			bad, problem = middle, found
		}
	}
	return b.result(ctx, commits[good], commits[bad], problem)
}

// open lists the commits that may have changed the picture, oldest first; the first is the good one.
func (b *bisector) open(ctx context.Context, f *bisectFlags, arg string) ([]string, error) {
	b.folder, b.base = filepath.Dir(resolved(arg)), filepath.Base(arg)
	var ends []string
	for _, revision := range []string{f.good, f.bad} {
		commit, err := git(ctx, b.folder, "rev-parse", "--verify", "--end-of-options", revision+"^{commit}")
		if err != nil {
			return nil, fmt.Errorf("find revision %q: %w", revision, err)
		}
		ends = append(ends, strings.TrimSpace(string(commit)))
	}
	if _, err := git(ctx, b.folder, "merge-base", "--is-ancestor", ends[0], ends[1]); err != nil {
		return nil, fmt.Errorf("%s does not lead to %s", f.good, f.bad)
	}
	prefix, err := git(ctx, b.folder, "rev-parse", "--show-prefix")
	if err != nil {
		return nil, err
	}
	top, err := git(ctx, b.folder, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	b.prefix = strings.TrimRight(string(prefix), "\r\n")
	paths := []string{b.base, b.sidecar()}
	lock := resolved(f.test.pins.lock)
	if name, err := filepath.Rel(strings.TrimRight(string(top), "\r\n"), lock); err == nil && filepath.IsLocal(name) {
		b.lock = filepath.ToSlash(name)
		paths = append(paths, lock)
	}
	list, err := git(ctx, b.folder, append([]string{"--literal-pathspecs", "log", "--format=%H", "--reverse", "--topo-order", ends[0] + ".." + ends[1], "--"}, paths...)...)
	if err != nil {
		return nil, err
	}
	commits := append(ends[:1], strings.Fields(string(list))...)
	if len(commits) == 1 {
		return nil, fmt.Errorf("no commit from %s to %s changes %s, its sidecar or models.lock", f.good, f.bad, arg)
	}
	return commits, nil
}

func (b *bisector) sidecar() string {
	return strings.TrimSuffix(b.base, golden.WorkflowEnding) + golden.SidecarEnding
}

// draw runs the workflow as of a commit. The error is one that no other commit would help with.
func (b *bisector) draw(ctx context.Context, commit string) (*drawing, error) {
	if d, ok := b.drawn[commit]; ok {
		return d, nil
	}
	d, err := b.read(ctx, commit)
	if err != nil {
		d.failure = err
	} else {
		b.tester.pins.lock = d.lock
		d.outputs, d.failure = b.tester.outputs(ctx, testJob(&source{name: b.base, graph: d.graph}, d.options))
	}
	if interrupted(ctx) {
		return nil, ctx.Err()
	}
	if testExit(d.failure) == exitModel {
		return nil, fmt.Errorf("%s as of %.12s: %w", b.base, commit, d.failure)
	}
	b.drawn[commit] = d
	return d, nil
}

// read gets the workflow, its sidecar and models.lock as of a commit.
func (b *bisector) read(ctx context.Context, commit string) (*drawing, error) {
	d := &drawing{lock: &models.Lock{}}
	text, err := git(ctx, b.folder, "show", commit+":"+b.prefix+b.base)
	if err != nil {
		return d, err
	}
	if d.graph, err = b.tester.reader.parse(b.base, text); err != nil {
		return d, asUsage(err)
	}
	side, err := git(ctx, b.folder, "show", commit+":"+b.prefix+b.sidecar())
	if err != nil {
		side = nil // there was none
	}
	if d.options, err = golden.ParseOptions(side); err != nil {
		return d, asUsage(err)
	}
	if b.lock == "" {
		return d, nil
	}
	if text, err := git(ctx, b.folder, "show", commit+":"+b.lock); err == nil {
		d.lock, err = models.ParseLock(text)
		return d, asUsage(err)
	}
	return d, nil
}

// differs says how the picture as of a commit is not the reference; "" when it is.
func (b *bisector) differs(ctx context.Context, reference *drawing, commit string) (string, error) {
	d, err := b.draw(ctx, commit)
	if err != nil {
		return "", err
	}
	problem := ""
	if d.failure != nil {
		problem = d.failure.Error()
	} else if problem, err = golden.Apart(reference.outputs, d.outputs, reference.options.Limits); err != nil {
		return "", err
	}
	if problem == "" {
		fmt.Fprintf(b.log, "%.12s: the same picture\n", commit)
	} else {
		fmt.Fprintf(b.log, "%.12s: %s\n", commit, problem)
	}
	return problem, nil
}

// result describes the first commit with another picture.
func (b *bisector) result(ctx context.Context, before, commit, problem string) (*bisected, error) {
	summary, err := git(ctx, b.folder, "log", "-1", "--date=short", "--format=%h %ad %an: %s", commit)
	if err != nil {
		return nil, err
	}
	found := &bisected{Commit: commit, Summary: strings.TrimSpace(string(summary)), Picture: problem, Changes: []string{}, Drawn: len(b.drawn)}
	was, err := b.read(ctx, before)
	if err != nil {
		return nil, err
	}
	is, err := b.read(ctx, commit)
	if err != nil {
		return found, nil // the failure is the difference
	}
	found.Changes = append(found.Changes, graphChanges(was.graph, is.graph)...)
	for _, name := range changedPins(was.lock, is.lock) {
		found.Changes = append(found.Changes, "models.lock: "+name)
	}
	return found, nil
}

// text is the result for people.
func (r *bisected) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  picture: %s\n", r.Summary, r.Picture)
	for _, change := range r.Changes {
		fmt.Fprintf(&b, "  %s\n", change)
	}
	return b.String()
}
