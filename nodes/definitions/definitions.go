// Package definitions is node types without code: classes that a workflow
// defines. A team keeps them as files in a folder; nothing is compiled and
// nobody's code runs.
//
// A definition is a file CLASS.node.json: a header, which names the class and its
// inputs and outputs, and a workflow in the API format, whose nodes do the work.
// An input leads to inputs of inner nodes and takes over their type, default,
// range and choices; an output is an output of an inner node. Inner nodes may be
// of defined classes too.
//
// Load reads folders of definitions into a catalogue and reports every mistake in
// every file at once; what it lets pass can run. A node of a defined class expands
// while running into its inner nodes, which keep their own keys, so that what did
// not change is not run again. Set.WriteOut writes a workflow without defined
// classes, for programs that do not know them.
package definitions

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// Suffix ends the name of every file with a definition, so that other files may
// lie in the same folder.
const Suffix = ".node.json"

// Set is the definitions of a catalogue. The nil Set has none.
type Set struct {
	byClass map[string]*class
}

// Definitions returns the definitions, sorted by class.
func (s *Set) Definitions() []*Definition {
	if s == nil {
		return nil
	}
	var out []*Definition
	for _, c := range s.byClass {
		out = append(out, c.def)
	}
	slices.SortFunc(out, func(a, b *Definition) int { return strings.Compare(a.Class, b.Class) })
	return out
}

// Load adds the classes that the files of folders define to a catalogue. Folders
// are read with the folders in them, but for hidden ones. The error is Errors:
// every mistake in every file. A catalogue with an error is not to be used.
func Load(c *engine.Catalog, folders ...string) (*Set, error) {
	var defs []*Definition
	var errs Errors
	for _, folder := range folders {
		files, err := list(folder)
		if err != nil {
			errs = append(errs, &Error{File: folder, Err: err})
		}
		for _, file := range files {
			d, wrong := read(file, module(folder, file))
			errs = append(errs, wrong...)
			if d != nil {
				defs = append(defs, d)
			}
		}
	}
	s, wrong := declare(c, defs)
	errs = append(errs, wrong...)
	if len(errs) > 0 {
		errs.sort()
		return nil, errs
	}
	return s, nil
}

// list returns the files with definitions below a folder, sorted. The folder and
// the files may be links, as in a mounted ConfigMap.
func list(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("read folder of node definitions: %w", err)
	}
	var files []string
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			below, err := list(path)
			if err != nil {
				return nil, err
			}
			files = append(files, below...)
		case strings.HasSuffix(e.Name(), Suffix):
			files = append(files, path)
		}
	}
	return files, nil
}

func read(file, module string) (*Definition, Errors) {
	info, err := os.Stat(file)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > workflows.MaxBytes) {
		err = &fs.PathError{Op: "read", Path: file, Err: fmt.Errorf("is no regular file of at most %d MiB", workflows.MaxBytes>>20)}
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, Errors{{File: file, Err: fmt.Errorf("read node definition: %w", err)}}
	}
	d, errs := Parse(file, data)
	if d != nil {
		d.module = module
	}
	return d, errs
}

// module is the name of the package that a file belongs to, as pages show it: the
// first folder below the one given, or else that itself.
func module(folder, file string) string {
	name := filepath.Base(folder)
	if abs, err := filepath.Abs(folder); err == nil {
		name = filepath.Base(abs)
	}
	if below, err := filepath.Rel(folder, file); err == nil {
		if first, _, ok := strings.Cut(filepath.ToSlash(below), "/"); ok {
			name = first
		}
	}
	return "custom_nodes." + name
}
