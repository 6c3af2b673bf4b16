package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/compare"
	"github.com/comfyrun/comfyrun/workflows"
)

// replayFlags are the flags of replay.
type replayFlags struct {
	machineFlags
	sets          []string
	workflow, out string
	anyway, exact bool
	max           int
	mean          float64
	json          bool
	given         func(flag string) bool
}

const replayHelp = `Replay repeats the run that a receipt tells of and compares: every node's outputs, every step of every sampler, every
saved picture. It says whether the run is identical, within tolerance (its pictures are, within --max and --mean), or differs,
and then names the first node and step that does, by how much, and what was not as it was: the models, the pictures that are
loaded, the versions, the device, the processor.

A RECEIPT is NAME.receipt.json as exec writes it, or a picture: the receipt beside it is used or, without one, what the picture
itself carries, which tells of models and versions but not of nodes.

Models must be the same, by their sha256; --anyway runs with others. --workflow FILE runs another workflow in place of the
receipt's, --set changes an input: to see what a change does, and where it begins.

Exit codes: 0 identical or within tolerance, 1 differs, 2 wrong usage, 3 model missing or wrong.`

func replayCommand() *cobra.Command {
	var flags replayFlags
	cmd := &cobra.Command{
		Use:     "replay RECEIPT|PICTURE",
		Short:   "Repeat a run and name the first step that differs",
		Long:    replayHelp,
		Example: "  comfyrun replay output/ComfyUI_00001_.receipt.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags.given = cmd.Flags().Changed
			return flags.run(cmd, args[0])
		},
	}
	flags.add(cmd)
	return cmd
}

func (f *replayFlags) add(cmd *cobra.Command) {
	f.machineFlags.add(cmd)
	flags := cmd.Flags()
	limits := compare.Default()
	flags.StringArrayVar(&f.sets, "set", nil, "NODE.INPUT=VALUE for the new run; may be repeated")
	flags.StringVar(&f.workflow, "workflow", "", "FILE to run in place of the receipt's workflow")
	flags.BoolVar(&f.anyway, "anyway", false, "run also with other models than the receipt's")
	flags.BoolVar(&f.exact, "exact", false, "within tolerance counts as different")
	flags.IntVar(&f.max, "max", limits.Max, "levels by which pictures may differ anywhere")
	flags.Float64Var(&f.mean, "mean", limits.Mean, "levels by which pictures may differ in the mean")
	flags.StringVar(&f.out, "out", "", "folder for the new pictures and their receipt (default none is kept)")
	flags.BoolVar(&f.json, "json", false, "print the result as JSON")
}

func (f *replayFlags) run(cmd *cobra.Command, arg string) error {
	if err := f.check(); err != nil {
		return err
	}
	limits := compare.Limits{Max: f.max, Mean: f.mean, PHash: -1}
	if err := limits.Check(); err != nil {
		return usagef("read --max and --mean: %w", err)
	}
	old, err := readRecorded(arg)
	if err != nil {
		return asUsage(err)
	}
	f.likeBefore(old.receipt.Engine)
	if err := f.checkDevice(); err != nil {
		return f.elsewhere(old, err)
	}
	out := f.out
	if out == "" {
		if out, err = os.MkdirTemp("", "comfyrun-replay-"); err != nil {
			return fmt.Errorf("make working folder: %w", err)
		}
		defer os.RemoveAll(out)
	}
	s, err := openSession(cmd, &f.machineFlags, out)
	if err != nil {
		return f.elsewhere(old, err)
	}
	p := &replayer{flags: f, session: s, old: old, limits: limits}
	p.result = replayResult{Differing: []nodeDifference{}, Pictures: []pictureDifference{}, Causes: []string{}}
	err = p.run(cmd)
	return errors.Join(err, s.close())
}

// likeBefore runs as the receipt did where the command line says nothing else. The precisions go with the device: another
// one may not have them.
func (f *replayFlags) likeBefore(e receiptEngine) {
	if !f.given("threads") {
		f.threads = e.Threads
	}
	if f.given("device") || e.Device == "" {
		return
	}
	f.device = e.Device
	if !f.given("precision") && e.Precision != "" {
		f.compute.precision = e.Precision
	}
	if !f.given("vae-precision") && e.VAEPrecision != "" {
		f.compute.vaePrecision = e.VAEPrecision
	}
}

// elsewhere says of a device that is not here where it comes from.
func (f *replayFlags) elsewhere(old *recorded, err error) error {
	if !isDevice(err) || f.given("device") {
		return err
	}
	return fmt.Errorf("replay %s, whose run was on %s (--device takes another): %w", old.path, old.receipt.Engine.Device, err)
}

// replayer repeats one run.
type replayer struct {
	flags   *replayFlags
	session *session
	old     *recorded
	limits  compare.Limits
	graph   *workflows.Graph // that is run
	result  replayResult
}

func (p *replayer) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	home, err := homeOf(cmd)
	if err != nil {
		return err
	}
	j, err := p.job(cmd)
	if err != nil {
		return asUsage(err)
	}
	if p.session.usesDemo([]*job{j}) {
		if err := ensureDemo(ctx, home, p.session.folders); err != nil {
			return err
		}
	}
	if err := p.checkModels(ctx); err != nil {
		return fmt.Errorf("replay %s: %w", p.old.path, err)
	}
	if err := p.checkInputs(); err != nil {
		return fmt.Errorf("replay %s: %w", p.old.path, err)
	}
	o, err := p.session.runJob(ctx, j)
	if err == nil {
		err = o.Err
	}
	if err != nil {
		return fmt.Errorf("replay %s: %w", p.old.path, err)
	}
	repeated, err := readRecorded(o.Receipt)
	if err != nil {
		return err
	}
	p.checkEngine(repeated.receipt.Engine)
	if err := p.compare(repeated); err != nil {
		return fmt.Errorf("replay %s: %w", p.old.path, err)
	}
	if p.flags.json {
		printLine(cmd.OutOrStdout(), p.result)
	} else {
		fmt.Fprint(cmd.OutOrStdout(), p.result.text())
	}
	return p.result.err(p.flags.exact)
}

// job is the run that is compared with the old one; what it changes on purpose is noted.
func (p *replayer) job(cmd *cobra.Command) (*job, error) {
	before := p.old.graph
	s := &source{name: p.old.path, graph: before}
	if p.flags.workflow != "" {
		reader := p.session.sourceReader(cmd)
		var err error
		if s, err = reader.read(p.flags.workflow); err != nil {
			return nil, err
		}
	}
	j := &job{source: s, rowNumber: 1, rows: 1, number: 1, of: 1}
	for _, set := range p.flags.sets {
		target, text, ok := strings.Cut(set, "=")
		if !ok {
			return nil, fmt.Errorf("read --set %q: not of the form NODE.INPUT=VALUE", set)
		}
		j.row = append(j.row, assignment{Target: target, Text: text})
	}
	g, err := j.graph(&p.session.flags.rows)
	if err == nil {
		p.graph, err = p.session.defined.WriteOut(g)
	}
	if err != nil {
		return nil, err
	}
	p.result.Receipt, p.result.Workflow = p.old.path, p.old.receipt.Name
	p.checkWorkflow(before)
	return j, nil
}

// recorded is a receipt with what else is known about its run.
type recorded struct {
	path    string // as it was given
	folder  string // that the paths of outputs start from
	receipt *receipt
	graph   *workflows.Graph
	// alone is the picture that all this was read from, where there is no receipt beside it; else "".
	alone string
}

// readRecorded reads a receipt, that of a picture, or what a picture carries.
func readRecorded(path string) (*recorded, error) {
	data, err := readLimited(path)
	if err != nil {
		return nil, fmt.Errorf("read receipt: %w", err)
	}
	if !workflows.IsPicture(data) {
		return parseRecorded(path, path, data)
	}
	if beside := receiptOf(path); beside != "" {
		if text, err := readLimited(beside); err == nil {
			return parseRecorded(path, beside, text)
		}
	}
	return fromPicture(path, data)
}

// receiptOf finds the receipt of a picture: beside it under its name or, of a run with several pictures, by the manifest.
func receiptOf(path string) string {
	beside := strings.TrimSuffix(path, filepath.Ext(path)) + ".receipt.json"
	if _, err := os.Stat(beside); err == nil {
		return beside
	}
	m, err := openManifest(filepath.Dir(path))
	if err != nil {
		return ""
	}
	for _, line := range m.done {
		for _, name := range line.Outputs.paths("output") {
			if name == filepath.Base(path) && line.Receipt != "" && filepath.IsLocal(filepath.FromSlash(line.Receipt)) {
				return filepath.Join(m.dir, filepath.FromSlash(line.Receipt))
			}
		}
	}
	return ""
}
