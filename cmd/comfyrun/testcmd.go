package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/golden"
)

// testFlags are the flags of test.
type testFlags struct {
	machineFlags
	pins                     pinFlags
	junit, report            string
	since, filter            string
	update, digests, jsonOut bool
	strict                   bool
}

const testHelp = `Test runs workflows and compares their pictures with golden ones that lie beside them: NAME.golden.png beside NAME.json, or
NAME.golden.sha256 with the digest of its pixels. Of several output nodes each has NAME.NODE.golden.png, and the second
picture of a node is NAME.2.golden.png. A PATH is a folder, searched to the bottom, or a workflow file.

Pictures may differ by 1 of 255 levels anywhere and by 0.1 in the mean. NAME.test.toml changes that: max, mean, ssim (at
least), phash (bits of 64, at most), nodes (whose pictures count), skip (a reason) and a table [set] of NODE.INPUT values.

--update writes the goldens that differ or are missing. --since REV runs only what changed since the branch left REV: the
workflow, its sidecar and goldens, pictures that it loads, models.lock entries that it names, or the versions that a golden
was made with.

A workflow without golden is listed, and fails with --strict; a golden without workflow fails. Exit codes: 0 all passed, 1 a picture
differs or a run failed, 2 wrong usage or invalid workflow, 3 model missing or wrong.`

func testCommand() *cobra.Command {
	var flags testFlags
	cmd := &cobra.Command{
		Use:     "test PATH…",
		Short:   "Compare workflows' pictures with golden ones",
		Long:    testHelp,
		Example: "  comfyrun test workflows --update\n  comfyrun test workflows --since origin/main --junit report.xml --report sheet",
		Args:    cobra.MinimumNArgs(1),
		RunE:    flags.run,
	}
	flags.machineFlags.add(cmd)
	flags.pins.add(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.junit, "junit", "", "FILE for a report in JUnit's XML")
	f.StringVar(&flags.report, "report", "", "folder for a contact sheet: "+golden.SheetHTML+", "+golden.SheetMarkdown+" and pictures")
	f.StringVar(&flags.since, "since", "", "Git revision: run only what a change since then touches")
	f.StringVar(&flags.filter, "run", "", "regular expression: only tests whose path it finds")
	f.BoolVar(&flags.update, "update", false, "write the goldens that differ or are missing")
	f.BoolVar(&flags.digests, "digests", false, "with --update: new goldens hold digests, no pictures")
	f.BoolVar(&flags.jsonOut, "json", false, "print one JSON object per test")
	f.BoolVar(&flags.strict, "strict", false, "a workflow without golden fails")
	return cmd
}

func (f *testFlags) run(cmd *cobra.Command, args []string) error {
	if err := errors.Join(f.check(), f.checkDevice()); err != nil {
		return err
	}
	filter, err := regexp.Compile(f.filter)
	if err != nil {
		return usagef("read --run: %w", err)
	}
	found, err := golden.Find(args...)
	if err != nil {
		return asUsage(err)
	}
	var tests []golden.Test
	for _, t := range found {
		if filter.MatchString(filepath.ToSlash(t.Name)) {
			tests = append(tests, t)
		}
	}
	work, err := os.MkdirTemp("", "comfyrun-test-")
	if err != nil {
		return fmt.Errorf("make working folder: %w", err)
	}
	defer os.RemoveAll(work)
	t, err := f.open(cmd, work)
	if err != nil {
		return err
	}
	err = t.runAll(cmd.Context(), tests)
	return errors.Join(err, t.session.close())
}

// tester runs tests one after the other.
type tester struct {
	flags    *testFlags
	home     Home
	session  *session
	reader   sourceReader
	pins     *pins
	finder   *modelFinder
	touched  *touched // nil: everything runs
	stamp    string
	out      io.Writer
	report   golden.Report
	failures testFailures
}

// open puts together what runs the tests; pictures go to a working folder.
func (f *testFlags) open(cmd *cobra.Command, work string) (*tester, error) {
	home, err := homeOf(cmd)
	if err != nil {
		return nil, err
	}
	t := &tester{flags: f, home: home, out: cmd.OutOrStdout()}
	if t.session, err = openSession(cmd, &f.machineFlags, work); err != nil {
		return nil, err
	}
	t.reader = t.session.sourceReader(cmd)
	if t.pins, err = f.pins.open(cmd, home, t.session.machine); err != nil {
		return nil, err
	}
	if t.finder, err = newModelFinder(home, &f.nodes); err != nil {
		return nil, err
	}
	engine := t.session.engine()
	t.stamp = golden.Stamp(engine.Comfyrun, engine.ONNXRuntime)
	if f.since != "" {
		if t.touched, err = newTouched(cmd.Context(), t, f.since); err != nil {
			return nil, asUsage(err)
		}
	}
	return t, nil
}

// runAll runs the tests and reports. Only an interrupt stops it early; what was done until then is reported.
func (t *tester) runAll(ctx context.Context, tests []golden.Test) error {
	t.report.Started, t.report.Engine = time.Now(), t.stamp
	for _, test := range tests {
		if interrupted(ctx) {
			break
		}
		r, counts := t.one(ctx, test)
		if !counts {
			continue
		}
		if err := t.end(r); err != nil {
			return err
		}
	}
	t.report.Seconds = seconds(time.Since(t.report.Started))
	if len(t.report.Results) == 0 && !interrupted(ctx) {
		return usagef("test: no workflow was found")
	}
	if err := t.write(); err != nil {
		return err
	}
	if interrupted(ctx) {
		return ctx.Err()
	}
	return t.failures.err(len(t.report.Results))
}

// end tells of a result and keeps what the reports need of it.
func (t *tester) end(r golden.Result) error {
	t.failures.add(r, t.flags.strict)
	if t.flags.jsonOut {
		printLine(t.out, testLineOf(r))
	} else {
		fmt.Fprintln(t.out, testText(r))
	}
	if t.flags.report == "" {
		r.Release()
	} else {
		files, err := r.Draw(len(t.report.Results) + 1)
		if err != nil {
			return err
		}
		if err := writeFiles(t.flags.report, files); err != nil {
			return fmt.Errorf("write contact sheet: %w", err)
		}
	}
	t.report.Results = append(t.report.Results, r)
	return nil
}

// write writes the reports that were asked for, and the summary.
func (t *tester) write() error {
	if t.flags.jsonOut {
		printLine(t.out, testSummary{Event: "summary", Summary: t.report.Summary(), Tests: len(t.report.Results), Seconds: t.report.Seconds})
	} else {
		fmt.Fprintf(t.out, "%s; %.1f s\n", t.report.Summary(), t.report.Seconds)
	}
	if t.flags.junit != "" {
		text, err := t.report.JUnit()
		if err == nil {
			err = writeFiles(filepath.Dir(t.flags.junit), []golden.Write{{Path: filepath.Base(t.flags.junit), Data: text}})
		}
		if err != nil {
			return fmt.Errorf("write --junit: %w", err)
		}
	}
	if t.flags.report == "" {
		return nil
	}
	page, err := t.report.HTML()
	if err == nil {
		err = writeFiles(t.flags.report, []golden.Write{{Path: golden.SheetHTML, Data: page}, {Path: golden.SheetMarkdown, Data: t.report.Markdown()}})
	}
	if err != nil {
		return fmt.Errorf("write contact sheet: %w", err)
	}
	return nil
}

// writeFiles writes files below a folder, which is made; each appears whole or not at all.
func writeFiles(folder string, files []golden.Write) error {
	for _, file := range files {
		path := filepath.Join(folder, filepath.FromSlash(file.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := writeFile(path, file.Data); err != nil {
			return err
		}
	}
	return nil
}
