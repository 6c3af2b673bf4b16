package main

import (
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
	"github.com/comfyrun/comfyrun/engine/models/live"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// pinFlags say what is done about model files before workflows that name them run.
type pinFlags struct {
	lock     string
	fetch    string
	paranoid bool
	sources  sourceFlags
}

func (f *pinFlags) add(cmd *cobra.Command) {
	addLockFlag(cmd, &f.lock)
	f.sources.add(cmd)
	cmd.Flags().StringVar(&f.fetch, "fetch", "never", "never or missing: fetch pinned models that are not there")
	cmd.Flags().BoolVar(&f.paranoid, "paranoid", false, "read pinned models to the end at each run, instead of trusting what was read before while size and times of the file stay")
}

// pins holds model files to what models.lock says of them.
type pins struct {
	*live.Keeper
	lock   *models.Lock
	stderr io.Writer
	lines  func(fetchLine) // nil without
}

// open reads the lock. The machine's folders have its names from then on.
func (f *pinFlags) open(cmd *cobra.Command, home Home, m *machine) (*pins, error) {
	keeper, err := f.keeper(home, m, nil)
	if err != nil {
		return nil, err
	}
	return &pins{keeper, keeper.Set().Lock(), cmd.ErrOrStderr(), nil}, nil
}

// keeper reads the lock and puts its names before the machine's folders. bytes, which may be nil, is told what arrives.
func (f *pinFlags) keeper(home Home, m *machine, bytes func(n int64)) (*live.Keeper, error) {
	if f.fetch != "never" && f.fetch != "missing" {
		return nil, usagef("read --fetch: %q is none of never and missing", f.fetch)
	}
	folders := m.folders.With(nil)
	fetcher, _, err := f.sources.fetcher(home, folders, &m.digests)
	if err != nil {
		return nil, err
	}
	sums := fetch.Sums(&m.digests)
	if f.paranoid {
		sums = forgetful{}
	}
	keeper, err := live.Open(live.Options{
		File: f.lock, Optional: f.lock == defaultLock && f.fetch != "missing",
		Fetcher: fetcher, Folders: folders, Sums: sums, Missing: f.fetch == "missing", Bytes: bytes,
	})
	if err != nil {
		return nil, asUsage(err)
	}
	m.folders.Pin(keeper)
	return keeper, nil
}

// forgetful reads files each time.
type forgetful struct{}

// Digest is of fetch.Sums.
func (forgetful) Digest(ctx context.Context, file string) (string, error) {
	return (&weights.Digests{}).Digest(ctx, file)
}

// Ensure makes the files of names fit for use, see live.Set.Ensure, and tells people how fetching goes.
func (p *pins) Ensure(ctx context.Context, names ...string) error {
	return p.Keeper.Ensure(ctx, names, func(plan *fetch.Plan) (func(fetch.Event), func()) {
		report := newFetchReporter(p.stderr, plan.Bytes, p.lines)
		return report.event, report.end
	})
}

// ensurePinned is Ensure for all models that the jobs of exec name.
func (f *execFlags) ensurePinned(cmd *cobra.Command, home Home, s *session, jobs []*job) error {
	p, err := f.pins.open(cmd, home, s.machine)
	if err != nil || len(p.lock.Models) == 0 {
		return err
	}
	if f.json {
		p.lines = func(line fetchLine) { printLine(cmd.OutOrStdout(), line) }
	}
	finder, err := newModelFinder(home, s.nodeFlags)
	if err != nil {
		return err
	}
	var names []string
	known := knownNames(p.lock, s.folders, "embeddings")
	for _, j := range jobs {
		g, err := j.graph(&f.rows)
		if err != nil {
			return nil // the checks before the first run tell
		}
		uses, err := finder.uses(g, known)
		if err != nil {
			return nil // likewise
		}
		for _, use := range uses {
			names = append(names, use.entryName())
		}
	}
	slices.Sort(names)
	return p.Ensure(cmd.Context(), slices.Compact(names)...)
}
