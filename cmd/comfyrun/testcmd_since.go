package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/golden"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/workflows"
)

// touched knows what changed since a revision.
type touched struct {
	tester       *tester
	since        string
	repositories map[string]*repository // by folder
	pins         map[string]bool        // names in models.lock whose content changed
}

// repository is a working tree with the files that differ from where its branch left a revision.
type repository struct {
	top, base string
	changed   map[string]bool // absolute paths
}

// newTouched reads what changed in models.lock.
func newTouched(ctx context.Context, t *tester, since string) (*touched, error) {
	c := &touched{tester: t, since: since, repositories: map[string]*repository{}, pins: map[string]bool{}}
	lock, err := filepath.Abs(t.flags.pins.lock)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", t.flags.pins.lock, err)
	}
	r, err := c.repository(ctx, filepath.Dir(lock))
	if errors.Is(err, errNotInRepository) {
		return c, nil // the workflows may still be in one
	}
	if err != nil {
		return nil, err
	}
	if !r.has(lock) {
		return c, nil
	}
	before := &models.Lock{}
	if name, err := filepath.Rel(r.top, resolved(lock)); err == nil {
		if text, err := git(ctx, r.top, "show", r.base+":"+filepath.ToSlash(name)); err == nil {
			if before, err = models.ParseLock(text); err != nil {
				return nil, fmt.Errorf("read %s as of %s: %w", lock, since, err)
			}
		}
	}
	for _, name := range changedPins(before, t.pins.lock) {
		c.pins[name] = true
	}
	return c, nil
}

// changedPins lists the names, also those that labels make, that only one lock has or that have other content, sorted.
func changedPins(before, after *models.Lock) []string {
	was, is := pinnedSums(before), pinnedSums(after)
	var names []string
	for _, pair := range [][2]map[string]string{{was, is}, {is, was}} {
		for name, sum := range pair[0] {
			if pair[1][name] != sum {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// pinnedSums gives the sha256 of each name of a lock.
func pinnedSums(lock *models.Lock) map[string]string {
	sums := map[string]string{}
	for name, e := range lock.Aliases() {
		sums[name] = e.SHA256
	}
	for _, e := range lock.Models {
		sums[e.Name] = e.SHA256
	}
	return sums
}

// repository reads the state of the working tree that a folder is in.
func (c *touched) repository(ctx context.Context, folder string) (*repository, error) {
	if r, ok := c.repositories[folder]; ok {
		return r, nil
	}
	top, err := git(ctx, folder, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, fmt.Errorf("%s is %w: %w", folder, errNotInRepository, err)
	}
	r := &repository{top: strings.TrimRight(string(top), "\r\n"), changed: map[string]bool{}}
	commit, err := git(ctx, folder, "rev-parse", "--verify", "--end-of-options", c.since+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("read --since: %w", err)
	}
	r.base = strings.TrimSpace(string(commit))
	// What others did on the main branch meanwhile is no change of this one. A shallow clone may not know.
	if common, err := git(ctx, folder, "merge-base", r.base, "HEAD"); err == nil {
		r.base = strings.TrimSpace(string(common))
	}
	for _, list := range [][]string{
		{"diff", "--name-only", "--no-renames", "-z", r.base},
		{"ls-files", "-z", "--others", "--exclude-standard"},
	} {
		names, err := git(ctx, r.top, list...)
		if err != nil {
			return nil, fmt.Errorf("list changed files: %w", err)
		}
		for name := range strings.SplitSeq(string(names), "\x00") {
			if name != "" {
				r.changed[filepath.Join(r.top, filepath.FromSlash(name))] = true
			}
		}
	}
	c.repositories[folder] = r
	return r, nil
}

// has says whether a file changed.
func (r *repository) has(path string) bool { return path != "" && r.changed[resolved(path)] }

// resolved is a path as Git gives it: absolute, its folder without links.
func resolved(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if folder, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(folder, filepath.Base(path))
	}
	return path
}

// why says what of a test changed; "" when nothing did.
func (c *touched) why(ctx context.Context, test golden.Test, j *job) (string, error) {
	r, err := c.repository(ctx, filepath.Dir(test.Workflow))
	if err != nil {
		return "", err
	}
	files := []string{test.Workflow, test.Sidecar}
	for _, f := range test.Goldens {
		files = append(files, f.Path)
	}
	g, err := j.graph(&c.tester.session.flags.rows)
	if err != nil {
		return "", err
	}
	names, err := c.tester.modelNames(g)
	if err != nil {
		return "", err
	}
	for _, path := range append(files, c.inputs(g)...) {
		if r.has(path) {
			return filepath.Base(path), nil
		}
	}
	for _, name := range names {
		if c.pins[name] {
			return "models.lock: " + name, nil
		}
	}
	return c.engine(test), nil
}

// inputs are the files of the pictures that a workflow loads.
func (c *touched) inputs(g *workflows.Graph) []string {
	var paths []string
	for _, n := range g.Nodes() {
		for _, input := range []string{"image", "mask"} {
			value, _ := n.Inputs.Get(input)
			if name, ok := value.Str(); ok && filepath.IsLocal(filepath.FromSlash(name)) {
				paths = append(paths, filepath.Join(c.tester.session.dirs.Input, filepath.FromSlash(name)))
			}
		}
	}
	return paths
}

// engine says which golden other versions made. One that does not tell may be of any.
func (c *touched) engine(test golden.Test) string {
	var made []string
	for _, f := range test.Goldens {
		made = append(made, f.Engine())
	}
	slices.Sort(made)
	for _, version := range slices.Compact(made) {
		switch version {
		case c.tester.stamp:
		case "":
			return "a golden that does not tell its version"
		default:
			return "a golden of version " + version
		}
	}
	return ""
}
