package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/compare"
	"github.com/comfyrun/comfyrun/engine/golden"
	"github.com/comfyrun/comfyrun/workflows/diff"
)

// bisectFlags are the flags of bisect.
type bisectFlags struct {
	test      testFlags
	good, bad string
	rows      rowFlags // --set only
	max       int      // below 0: the sidecar's
	mean      float64  // below 0: the sidecar's
	json      bool
}

const bisectHelp = `Bisect finds the commit that changed a workflow's picture. It draws the workflow as of GOOD and as of BAD (default HEAD), whose
pictures must differ by more than the sidecar's limits as of GOOD, or --max and --mean, and then as of commits between, halving
their number each time. Commits count that change the workflow, its sidecar NAME.test.toml, models.lock or a picture below
--input; a merged branch counts as one, its merge. What has the same workflow, models and pictures is drawn once. Nothing is
checked out: the working tree stays as it is. A commit in which the workflow is missing or not valid counts as changed.

Models are those that models.lock pins at each commit; they must be in the store, or come with --fetch=missing. The program is
this one throughout.

Exit codes: 0 found, 1 both pictures are the same or a run failed, 2 wrong usage, 3 model missing or wrong.`

func bisectCommand() *cobra.Command {
	var flags bisectFlags
	cmd := &cobra.Command{
		Use:     "bisect GOOD [BAD] -- WORKFLOW",
		Short:   "Find the commit that changed a workflow's picture",
		Long:    bisectHelp,
		Example: "  comfyrun bisect v1.0 -- workflows/poster.json",
		Args:    cobra.RangeArgs(2, 3),
		RunE:    flags.run,
	}
	flags.test.machineFlags.add(cmd)
	flags.test.pins.add(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&flags.rows.sets, "set", nil, "NODE.INPUT=VALUE for every run; may be repeated")
	f.IntVar(&flags.max, "max", -1, "levels by which pictures may differ anywhere (default the sidecar's)")
	f.Float64Var(&flags.mean, "mean", -1, "levels by which pictures may differ in the mean (default the sidecar's)")
	f.BoolVar(&flags.json, "json", false, "print the result as JSON")
	return cmd
}

// revisions reads GOOD and BAD.
func (f *bisectFlags) revisions(cmd *cobra.Command, args []string) error {
	if dash := cmd.ArgsLenAtDash(); dash != len(args)-1 {
		return usagef("bisect: one workflow stands behind --, one or two revisions before it")
	}
	f.good, f.bad = args[0], "HEAD"
	if len(args) == 3 {
		f.bad = args[1]
	}
	if slices.Contains(args, "") {
		return usagef("bisect: an argument is empty")
	}
	return f.test.check()
}

func (f *bisectFlags) run(cmd *cobra.Command, args []string) error {
	if err := f.revisions(cmd, args); err != nil {
		return err
	}
	rows, err := f.rows.rows()
	if err != nil {
		return asUsage(err)
	}
	work, err := os.MkdirTemp("", "comfyrun-bisect-")
	if err != nil {
		return fmt.Errorf("make working folder: %w", err)
	}
	defer os.RemoveAll(work)
	b := &bisector{flags: f, cmd: cmd, log: cmd.ErrOrStderr(), work: work, set: rows[0], drawn: map[string]*drawing{}, pins: map[string]*pins{}}
	found, err := b.find(cmd.Context(), args[len(args)-1])
	if b.tester != nil {
		err = errors.Join(err, b.tester.session.close())
	}
	switch {
	case interrupted(cmd.Context()):
		return cmd.Context().Err()
	case err != nil:
		return err
	case f.json:
		printLine(cmd.OutOrStdout(), found)
	default:
		fmt.Fprint(cmd.OutOrStdout(), found.text())
	}
	return nil
}

// bisector draws one workflow as of several commits.
type bisector struct {
	flags  *bisectFlags
	cmd    *cobra.Command
	tester *tester
	log    io.Writer
	work   string // folder of this command's own
	set    row
	place  bisectPlace
	drawn  map[string]*drawing // by what they are made of
	pins   map[string]*pins    // by the text of models.lock
	runs   int
}

// bisected is the commit that was found.
type bisected struct {
	Commit  string   `json:"commit"`
	Date    string   `json:"date"` // of the author, RFC 3339
	Author  string   `json:"author"`
	Subject string   `json:"subject"`
	Picture string   `json:"picture"` // how far it is from GOOD's
	Changes []string `json:"changes"`
	Drawn   int      `json:"drawn"` // how often the workflow ran
}

// find narrows the commits down to one.
func (b *bisector) find(ctx context.Context, arg string) (*bisected, error) {
	commits, err := b.open(ctx, arg)
	if err != nil {
		return nil, err
	}
	reference, err := b.draw(ctx, commits[0])
	if err == nil {
		err = reference.failure
	}
	if err != nil {
		return nil, fmt.Errorf("%s as of %s: %w", arg, b.flags.good, err)
	}
	fmt.Fprintf(b.log, "%.12s: good\n", commits[0])
	limits := b.limits(reference.options.Limits)
	if err := limits.Check(); err != nil {
		return nil, usagef("read --max and --mean: %w", err)
	}
	reference.options.Limits = limits
	good, bad := 0, len(commits)-1
	problem, err := b.differs(ctx, reference, commits[bad])
	if err != nil {
		return nil, err
	}
	if problem == "" {
		return nil, fmt.Errorf("%s gives the same picture as of %s and as of %s", arg, b.flags.good, b.flags.bad)
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

// limits are the sidecar's where no flag says otherwise.
func (b *bisector) limits(l compare.Limits) compare.Limits {
	if b.flags.max >= 0 {
		l.Max = b.flags.max
	}
	if b.flags.mean >= 0 {
		l.Mean = b.flags.mean
	}
	return l
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
	} else if problem, err = golden.Apart(reference.counting(reference.outputs), reference.counting(d.outputs), reference.options.Limits); err != nil {
		return "", err
	}
	text := problem
	if problem == "" {
		text = "the same picture"
	}
	if d.commit != commit {
		text += fmt.Sprintf("; made of the same as %.12s", d.commit)
	}
	fmt.Fprintf(b.log, "%.12s: %s\n", commit, text)
	return problem, nil
}

// result describes the first commit with another picture.
func (b *bisector) result(ctx context.Context, before, commit, problem string) (*bisected, error) {
	text, err := git(ctx, b.place.folder, "log", "-1", "--format=%aI%x00%an%x00%s", commit)
	if err != nil {
		return nil, err
	}
	parts := strings.SplitN(strings.TrimRight(string(text), "\n"), "\x00", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("git log: %q tells no date, author and subject", text)
	}
	found := &bisected{Commit: commit, Date: parts[0], Author: parts[1], Subject: parts[2], Picture: problem, Changes: []string{}, Drawn: b.runs}
	was, is := b.read(ctx, before), b.read(ctx, commit)
	if was.graph != nil && is.graph != nil {
		words := diff.Compare(diff.FromGraph(was.graph), diff.FromGraph(is.graph)).Text(false)
		for line := range strings.Lines(words) {
			found.Changes = append(found.Changes, strings.TrimRight(line, "\n"))
		}
	}
	if was.side != is.side {
		found.Changes = append(found.Changes, b.place.sidecar()+" changed")
	}
	if was.lock != nil && is.lock != nil {
		for _, name := range changedPins(was.lock, is.lock) {
			found.Changes = append(found.Changes, "models.lock: "+name)
		}
	}
	for _, name := range is.inputNames() {
		if was.inputs[name] != is.inputs[name] {
			found.Changes = append(found.Changes, "picture "+name+" changed")
		}
	}
	return found, nil
}

// text is the result for people.
func (r *bisected) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.12s %.10s %s: %s\n  picture: %s\n", r.Commit, r.Date, r.Author, r.Subject, r.Picture)
	for _, change := range r.Changes {
		fmt.Fprintf(&b, "  %s\n", change)
	}
	return b.String()
}
