// Package golden holds workflows to pictures that they gave before.
//
// Vocabulary: a golden is a file beside a workflow that says what a picture of it
// looks like. NAME.golden.png holds the picture, NAME.golden.sha256 only the
// digest of its pixels. A [Test] is a workflow NAME.json with its goldens and its
// sidecar NAME.test.toml, which says how close is close enough. An output is a
// picture that a run of the workflow gave; its key, the part of the golden's name
// between NAME and golden, tells it from the others:
//
//	NAME.golden.png         the picture of a workflow with one output node
//	NAME.2.golden.png       its second picture, where that node gives several
//	NAME.9.golden.png       the picture of node 9, one of several output nodes
//	NAME.9.2.golden.png     its second picture
//
// An orphan is a golden, or a sidecar, whose workflow is gone. The package finds
// tests, compares and reports; it runs nothing and writes no files.
package golden

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Endings of the files of a test, behind its name.
const (
	WorkflowEnding = ".json"
	PictureEnding  = ".golden.png"
	DigestEnding   = ".golden.sha256"
	SidecarEnding  = ".test.toml"
)

// receiptEnding ends files that lie beside pictures and are no workflows.
const receiptEnding = ".receipt.json"

// Test is a workflow with what is expected of it.
type Test struct {
	Name     string // path of the workflow without its ending
	Workflow string // path; "" where it is gone
	Sidecar  string // path; "" without
	Goldens  []File // sorted by path
}

// File is a golden.
type File struct {
	Path string
	Key  string // which output; "" for the only one
}

// IsDigest says that the file holds a digest instead of a picture.
func (f File) IsDigest() bool { return strings.HasSuffix(f.Path, DigestEnding) }

// Golden finds the golden of an output.
func (t Test) Golden(key string) (File, bool) {
	i := slices.IndexFunc(t.Goldens, func(f File) bool { return f.Key == key })
	if i < 0 {
		return File{}, false
	}
	return t.Goldens[i], true
}

// Find lists the tests of folders and of workflow files, sorted by name, each
// once. Folders are searched to the bottom but for those whose name begins with a
// dot. Every *.json is listed, with goldens or without, but receipts: what is no
// workflow only its reader can tell. Orphans are tests without a workflow.
func Find(paths ...string) ([]Test, error) {
	all := map[string]Test{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("find tests: %w", err)
		}
		folders, only := []string{filepath.Dir(path)}, filepath.Clean(path)
		if info.IsDir() {
			only = ""
			if folders, err = foldersBelow(path); err != nil {
				return nil, fmt.Errorf("find tests: %w", err)
			}
		} else if !strings.HasSuffix(path, WorkflowEnding) {
			return nil, fmt.Errorf("find tests: %s is neither a folder nor a *%s", path, WorkflowEnding)
		}
		for _, folder := range folders {
			tests, err := testsIn(folder)
			if err != nil {
				return nil, fmt.Errorf("find tests: %w", err)
			}
			for _, t := range tests {
				if only == "" || t.Workflow == only {
					all[t.Name] = t
				}
			}
		}
	}
	var out []Test
	for _, t := range all {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Test) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func foldersBelow(top string) ([]string, error) {
	var folders []string
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		case path != top && strings.HasPrefix(e.Name(), "."):
			return filepath.SkipDir
		}
		folders = append(folders, path)
		return nil
	})
	return folders, err
}

// testsIn lists the tests of one folder.
func testsIn(folder string) ([]Test, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	tests := map[string]*Test{}
	at := func(name string) *Test {
		if tests[name] == nil {
			tests[name] = &Test{Name: filepath.Join(folder, name)}
		}
		return tests[name]
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), WorkflowEnding)
		if ok && name != "" && !e.IsDir() && !strings.HasSuffix(e.Name(), receiptEnding) {
			at(name).Workflow = filepath.Join(folder, e.Name())
		}
	}
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		if name, ok := strings.CutSuffix(e.Name(), SidecarEnding); ok {
			at(name).Sidecar = path
		}
		for _, ending := range []string{PictureEnding, DigestEnding} {
			if base, ok := strings.CutSuffix(e.Name(), ending); ok {
				owner, key := split(base, tests)
				t := at(owner)
				t.Goldens = append(t.Goldens, File{path, key})
			}
		}
	}
	var out []Test
	for _, t := range tests {
		out = append(out, *t)
	}
	return out, nil
}

// split tells the name of a workflow from the key behind it: the longest name that
// a workflow has wins. Without a workflow it is all name.
func split(base string, tests map[string]*Test) (name, key string) {
	for i := len(base); i > 0; i-- {
		if i < len(base) && base[i] != '.' {
			continue
		}
		if t := tests[base[:i]]; t != nil && t.Workflow != "" {
			return base[:i], strings.TrimPrefix(base[i:], ".")
		}
	}
	return base, ""
}
