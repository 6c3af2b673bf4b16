package main

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/models/demo"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// execFlags are the flags of exec.
type execFlags struct {
	machineFlags
	rows         rowFlags
	pins         pinFlags
	out          string
	json, resume bool
}

const execHelp = `Exec runs workflows to the end, without a server. A WORKFLOW is a file in ComfyUI's API format, a file that the editor
saved, or a picture that carries its workflow; - is the standard input. The pictures go to the output folder, each with a
receipt of how it was made; their paths are printed.

Each workflow runs once, or once per row of --batch and per product of the --sweep values. NODE in NODE.INPUT is a node's
id, its title, or its class when that occurs once. The output folder's manifest.jsonl ties rows to inputs and outputs.

--batch takes a CSV file whose first line names inputs as --set does (an empty cell leaves the input as it is), or a JSONL
file with an object per line. --shard 2/8 does the second of every eight runs, so that eight machines do all of them (0/8 is the same as 8/8).
--resume passes over runs that the manifest has and whose files are there, unchanged.

Model files that models.lock pins are compared with it before the first run, and fetched with --fetch=missing. Nothing else
that a workflow names is ever fetched.

With --json the standard output is one JSON object per event; the last one of each run is its "result".`

func execCommand() *cobra.Command {
	var flags execFlags
	cmd := &cobra.Command{
		Use:     "exec WORKFLOW…",
		Short:   "Run workflows to the end",
		Long:    execHelp,
		Example: "  comfyrun exec default.json --set Prompt.text=\"a blue house at night\" --sweep KSampler.cfg=4,5,6",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags.rows.seeded = cmd.Flags().Changed("seed")
			return flags.run(cmd, args)
		},
	}
	flags.add(cmd)
	return cmd
}

func (f *execFlags) add(cmd *cobra.Command) {
	f.machineFlags.add(cmd)
	f.pins.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.out, "out", "output", "folder for pictures, receipts and manifest.jsonl")
	flags.BoolVar(&f.json, "json", false, "print one JSON object per event")
	flags.BoolVar(&f.resume, "resume", false, "pass over runs whose result stands")
	flags.StringArrayVar(&f.rows.sets, "set", nil, "NODE.INPUT=VALUE for every run; may be repeated")
	flags.StringArrayVar(&f.rows.sweeps, "sweep", nil, "NODE.INPUT=VALUE,VALUE,…: a run for each; may be repeated, for products")
	flags.StringVar(&f.rows.batch, "batch", "", "FILE.csv or FILE.jsonl: a run per row")
	flags.StringVar(&f.rows.shard, "shard", "", "INDEX/OF: only this part of the runs, such as 2/8")
	flags.Uint64Var(&f.rows.seed, "seed", 0, "seed for every node that has a literal one")
}

func (f *execFlags) run(cmd *cobra.Command, args []string) error {
	jobs, err := f.jobs(cmd, args)
	if err != nil {
		return err
	}
	s, err := f.open(cmd, jobs)
	if err != nil {
		return err
	}
	err = s.run(cmd.Context(), jobs)
	return errors.Join(err, s.close())
}

// jobs reads everything that the command line names and checks what can be checked without node types.
func (f *execFlags) jobs(cmd *cobra.Command, args []string) ([]*job, error) {
	part, err := parseShard(f.rows.shard)
	if err != nil {
		return nil, asUsage(err)
	}
	if err := errors.Join(f.check(), f.checkDevice()); err != nil {
		return nil, err
	}
	rows, err := f.rows.rows()
	if err != nil {
		return nil, asUsage(err)
	}
	reader := sourceReader{stdin: cmd.InOrStdin(), warnings: cmd.ErrOrStderr(), options: ui.Options{Now: time.Now()}}
	reader.definitions = func() (ui.Definitions, error) { return ownDefinitions(cmd, &f.models, &f.nodes) }
	sources, err := reader.readAll(args)
	if err != nil {
		return nil, err
	}
	return makeJobs(sources, rows, part), nil
}

// open puts together what the runs need.
func (f *execFlags) open(cmd *cobra.Command, jobs []*job) (*session, error) {
	home, err := homeOf(cmd)
	if err != nil {
		return nil, err
	}
	m, err := f.machineFlags.openSettled(cmd, f.out)
	if err != nil {
		return nil, err
	}
	s := &session{flags: f, machine: m, version: m.diffusion.Version, reporters: f.reporters(cmd, m.dirs)}
	if s.usesDemo(jobs) {
		if err := ensureDemo(cmd.Context(), home, s.folders); err != nil {
			return nil, err
		}
	}
	if err := f.ensurePinned(cmd, home, s, jobs); err != nil {
		return nil, err
	}
	s.manifest, err = openManifest(s.dirs.Output)
	return s, err
}

// usesDemo says whether a run names the demo model, which then must be unpacked.
func (s *session) usesDemo(jobs []*job) bool {
	for _, j := range jobs {
		g, err := j.graph(&s.flags.rows)
		if err == nil {
			g, err = s.defined.WriteOut(g)
		}
		if err != nil {
			return false // the checks before the first run tell
		}
		for _, use := range modelUses(g) {
			if use.folder == demo.Folder && use.name == demo.Name {
				return true
			}
		}
	}
	return false
}

func (f *execFlags) reporters(cmd *cobra.Command, dirs nodes.Dirs) reporters {
	people := progressOn(cmd.ErrOrStderr())
	if f.json {
		return reporters{jsonEvents{cmd.OutOrStdout(), dirs}, people}
	}
	return reporters{people, pathLines{cmd.OutOrStdout()}}
}

// engineVersion is the program's version for receipts: the linker's, or the commit that the tool chain noted.
func engineVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "devel" {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				return version + "+" + setting.Value
			}
		}
	}
	return version
}

// interrupted says whether the run ended because the command was told to stop.
func interrupted(ctx context.Context) bool { return ctx.Err() != nil }
