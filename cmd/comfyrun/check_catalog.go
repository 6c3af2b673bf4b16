package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/check"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/demo"
	"github.com/comfyrun/comfyrun/engine/policy"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// checker puts together what the flags say workflows are held to.
func (f *checkFlags) checker(cmd *cobra.Command) (*check.Checker, error) {
	home, err := homeOf(cmd)
	if err != nil {
		return nil, err
	}
	files := &fileChecker{lockFile: f.lock}
	if files.lock, err = f.readLock(); err != nil {
		return nil, err
	}
	if len(f.models.roots)+len(f.models.extra) > 0 {
		if files.folders, err = f.models.folders(home); err != nil {
			return nil, err
		}
	}
	if files.finder, err = newModelFinder(home, &f.nodes); err != nil {
		return nil, err
	}
	c := &check.Checker{Models: files.look, HasModel: files.has}
	if f.catalog != "" {
		c.Catalog, c.Definitions, err = readCatalog(f.catalog)
		c.Definitions = sync.OnceValues(c.Definitions)
	} else {
		err = f.own(c, home, files)
	}
	if err != nil {
		return nil, err
	}
	files.catalog = c.Catalog
	check.LeaveFiles(c.Catalog, f.input == "")
	files.finder.leave(c.Catalog, f.catalog == "" || files.lock != nil || files.folders != nil)
	if f.policy != "" {
		c.Policy, err = policy.Load(f.policy)
	}
	return c, asUsage(err)
}

// readLock reads the lock; nil where there is none to hold models to.
func (f *checkFlags) readLock() (*models.Lock, error) {
	if f.lock == "" {
		return nil, nil
	}
	lock, err := models.ReadLock(f.lock)
	if errors.Is(err, os.ErrNotExist) && f.lock == defaultLock {
		return nil, nil
	}
	return lock, asUsage(err)
}

// own checks against the built-in node types and defined ones. Model folders and pictures of this machine have no part in
// it unless the command line names them.
func (f *checkFlags) own(c *check.Checker, home Home, files *fileChecker) error {
	folders := files.folders
	if folders == nil {
		folders = models.NewFolders(nil)
	}
	dirs := nodes.Dirs{Input: f.input}
	if f.input != "" {
		if _, err := os.ReadDir(f.input); err != nil {
			return usagef("read --input: %w", err)
		}
	}
	catalog, defined, err := f.nodes.catalog(home, &nodes.Runtime{Models: folders, Dirs: dirs})
	if err != nil {
		return err
	}
	c.Catalog = catalog
	c.WriteOut, c.Unsupported = defined.WriteOut, nodes.Unsupported
	c.Definitions = sync.OnceValues(func() (ui.Definitions, error) { return catalogDefinitions(c.Catalog) })
	return nil
}

// fileChecker looks at the model files that workflows name.
type fileChecker struct {
	catalog  *engine.Catalog
	finder   *modelFinder
	lock     *models.Lock // nil: there is none
	lockFile string
	folders  *models.Folders // nil: none are named
}

// look tells of model files that neither lock nor folders have, and of those that only a folder has.
func (c *fileChecker) look(g *workflows.Graph) ([]check.Model, error) {
	if c.lock == nil && c.folders == nil {
		return nil, nil
	}
	uses, err := c.finder.uses(g, c.names("embeddings"))
	if err != nil {
		return nil, err
	}
	var out []check.Model
	for _, use := range uses {
		if m := c.judge(use); m != nil {
			out = append(out, *m)
		}
	}
	return out, nil
}

// judge says what is wrong with one use of a model file; nil: nothing.
func (c *fileChecker) judge(use fileUse) *check.Model {
	name := use.entryName()
	if use.folder == demo.Folder && use.name == demo.Name || c.builtIn(use) {
		return nil // the program carries it
	}
	if c.lock != nil {
		if _, pinned := c.lock.Find(name); pinned {
			return nil
		}
	}
	m := &check.Model{Node: use.node, Class: use.class, Input: use.input, Severity: check.Error, Kind: check.ModelMissing}
	var missing error
	if c.folders != nil {
		if _, missing = c.folders.Path(use.folder, use.name); missing == nil {
			if c.lock == nil {
				return nil
			}
			m.Severity, m.Kind = check.Warning, check.ModelNotPinned
			m.Message = fmt.Sprintf("%s does not pin %s: comfyrun models lock does", c.lockFile, name)
			return m
		}
	}
	for _, have := range c.names(use.folder) {
		m.Allowed = append(m.Allowed, strings.TrimPrefix(have, use.folder+"/"))
	}
	switch {
	case c.lock == nil:
		m.Message = missing.Error()
		return m
	case c.folders == nil:
		m.Message = fmt.Sprintf("%s does not pin %s", c.lockFile, name)
	default:
		m.Message = fmt.Sprintf("%s does not pin %s, and no model folder has it", c.lockFile, name)
	}
	if near := engine.Nearest(use.name, m.Allowed); near != "" {
		m.Message += "; the nearest is " + near
	}
	return m
}

// has is whether lock or folders have a file of a name, in whatever folder: which one a foreign node type means, nobody
// knows.
func (c *fileChecker) has(name string) bool {
	if c.lock != nil {
		return slices.ContainsFunc(c.lock.Models, func(e models.Entry) bool { _, pinned := e.Split(); return pinned == name })
	}
	return c.folders != nil && slices.ContainsFunc(c.folders.Keys(), func(key string) bool {
		_, err := c.folders.Path(key, name)
		return err == nil
	})
}

// builtIn is whether the name is a choice of the node type's own, and no file.
func (c *fileChecker) builtIn(use fileUse) bool {
	t, known := c.catalog.Type(use.class)
	return known && path.Ext(use.name) == "" && slices.ContainsFunc(t.Inputs, func(in engine.Input) bool {
		return in.Name == use.input && in.Choices != nil && slices.Contains(in.Choices(), use.name)
	})
}

// names lists what lock and folders have for a folder, as FOLDER/NAME, sorted.
func (c *fileChecker) names(folder string) []string {
	var names []string
	if c.lock != nil {
		for _, e := range c.lock.Models {
			if in, _ := e.Split(); in == folder {
				names = append(names, e.Name)
			}
		}
	}
	if c.folders != nil {
		for _, name := range c.folders.Names(folder) {
			names = append(names, folder+"/"+filepath.ToSlash(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// leave makes inputs that name model files take any name: what there is, is not asked of the node types. Unless all of
// them are meant, lists that have files in them count: they are those of the machine that wrote the catalogue.
func (f *modelFinder) leave(c *engine.Catalog, all bool) {
	file := func(choice string) bool { return path.Ext(choice) != "" }
	for _, t := range c.Types() {
		for i := range t.Inputs {
			in := &t.Inputs[i]
			_, names := f.inputs[modelInput{t.Class, in.Name}]
			if names && (all || in.Choices == nil || !slices.ContainsFunc(in.Choices(), file)) {
				in.Loose = true
			}
		}
	}
}
