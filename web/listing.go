package web

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// listing is how a folder is listed.
type listing struct {
	root    *os.Root
	recurse bool // below subdirectories too, but not through links, which may lead back up
	dirs    bool // list directories, not only files
	dots    bool // list names that begin with a dot
}

// listed is one entry: its name relative to the directory that was asked for.
type listed struct {
	name string
	info fs.FileInfo
}

// list returns the entries of a directory, sorted by name. What cannot be read below it is left out.
func (l listing) list(dir string) ([]listed, error) {
	var out []listed
	if err := l.below(dir, "", &out); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b listed) int { return cmp.Compare(a.name, b.name) })
	return out, nil
}

func (l listing) below(dir, sub string, out *[]listed) error {
	names, err := l.names(filepath.Join(dir, sub))
	if err != nil {
		return err
	}
	for _, base := range names {
		name := filepath.Join(sub, base)
		info, err := l.root.Stat(filepath.Join(dir, name))
		if err != nil || strings.HasPrefix(base, tempPrefix) || !l.dots && strings.HasPrefix(base, ".") {
			continue
		}
		if info.Mode().IsRegular() || info.IsDir() && l.dirs {
			*out = append(*out, listed{name, info})
		}
		if own, err := l.root.Lstat(filepath.Join(dir, name)); l.recurse && err == nil && own.IsDir() {
			l.below(dir, name, out) // what cannot be read is left out
		}
	}
	return nil
}

func (l listing) names(dir string) ([]string, error) {
	d, err := l.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}
