package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
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
	lock     *models.Lock
	folders  *models.Folders
	digests  *weights.Digests
	fetcher  *fetch.Fetcher
	missing  bool // may be fetched
	paranoid bool
	stderr   io.Writer
	lines    func(fetchLine) // nil without
}

// open reads the lock.
func (f *pinFlags) open(cmd *cobra.Command, home Home, m *machine) (*pins, error) {
	if f.fetch != "never" && f.fetch != "missing" {
		return nil, usagef("read --fetch: %q is none of never and missing", f.fetch)
	}
	lock, err := readLock(f.lock, f.fetch == "missing")
	if err != nil {
		return nil, err
	}
	fetcher, _, err := f.sources.fetcher(home, m.folders, &m.digests)
	return &pins{lock, m.folders, &m.digests, fetcher, f.fetch == "missing", f.paranoid, cmd.ErrOrStderr(), nil}, err
}

// Ensure makes pinned model files fit for use: what is there is compared with its pin, what is not there is fetched if that
// is allowed. Names have the form FOLDER/NAME; those that are not pinned are left alone. A wrong file is an ErrDigest, a
// missing one an ErrMissing.
func (p *pins) Ensure(ctx context.Context, names ...string) error {
	var absent []models.Entry
	for _, name := range names {
		e, pinned := p.lock.Find(name)
		if !pinned {
			continue
		}
		there, err := p.check(ctx, e)
		if err != nil {
			return err
		}
		if !there {
			absent = append(absent, e)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	if err := p.fetch(ctx, absent); err != nil {
		return err
	}
	for _, e := range absent {
		if there, err := p.check(ctx, e); err != nil || !there {
			return errors.Join(err, p.notThere(e))
		}
	}
	return nil
}

// check compares the file that a workflow would get with its pin. A name in the store that leads to another project's
// version of it is led to this one, if the store has that.
func (p *pins) check(ctx context.Context, e models.Entry) (there bool, err error) {
	folder, name := e.Split()
	file, err := p.folders.Path(folder, name)
	if errors.Is(err, models.ErrMissing) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if file == p.fetcher.Store.Name(e) && p.fetcher.Store.Has(e) {
		if info, err := os.Lstat(file); err == nil && info.Mode()&os.ModeSymlink != 0 {
			if _, err := p.fetcher.Store.Link(e); err != nil {
				return false, err
			}
		}
	}
	digests := p.digests
	if p.paranoid {
		digests = &weights.Digests{}
	}
	sum, err := digests.Digest(ctx, file)
	if err != nil {
		return false, err
	}
	if sum != e.SHA256 {
		return true, fmt.Errorf("check %s: %w: %s has sha256 %s, and models.lock pins %s", e, models.ErrDigest, file, sum, e.SHA256)
	}
	return true, nil
}

// fetch gets what is not there, or says how that can be done.
func (p *pins) fetch(ctx context.Context, absent []models.Entry) error {
	if !p.missing {
		var all []error
		for _, e := range absent {
			all = append(all, p.notThere(e))
		}
		return errors.Join(all...)
	}
	plan, err := p.fetcher.Plan(ctx, absent)
	if err != nil {
		return err
	}
	report := newFetchReporter(p.stderr, plan.Bytes, p.lines)
	defer report.end()
	p.fetcher.Events = report.event
	return p.fetcher.Fetch(ctx, plan)
}

func (p *pins) notThere(e models.Entry) error {
	folder, name := e.Split()
	_, err := p.folders.Path(folder, name)
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; models.lock pins it: comfyrun models fetch gets it, and so does --fetch=missing", err)
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
	known := knownNames(p.lock, p.folders, "embeddings")
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
