package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// entry is a file, folder or symbolic link of a layer.
type entry struct {
	path  string // without a slash in front
	mode  int64
	owner int // user and group
	data  []byte
	link  string // target of a symbolic link
	dir   bool
}

// layer is a set of entries. Folders above an entry need not be added.
type layer struct {
	name    string
	entries []entry
}

func (l *layer) add(e entry) { l.entries = append(l.entries, e) }

// copy adds a file of this machine.
func (l *layer) copy(from, to string, mode int64) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read file for image: %w", err)
	}
	l.add(entry{path: to, mode: mode, data: data})
	return nil
}

func (l *layer) size() (n int64) {
	for _, e := range l.entries {
		n += int64(len(e.data))
	}
	return n
}

// complete adds the folders above entries, and sorts: a folder comes before what is in it.
func (l *layer) complete() ([]entry, error) {
	all := map[string]entry{}
	for _, e := range l.entries {
		if old, ok := all[e.path]; ok && !bytes.Equal(old.data, e.data) {
			return nil, fmt.Errorf("pack layer %s: two files are called %s", l.name, e.path)
		}
		all[e.path] = e
	}
	for _, e := range l.entries {
		for dir := path.Dir(e.path); dir != "."; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = entry{path: dir, mode: 0o755, dir: true}
			}
		}
	}
	var sorted []entry
	for _, e := range all {
		sorted = append(sorted, e)
	}
	slices.SortFunc(sorted, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	return sorted, nil
}

// tar writes the layer; every time in it is the same.
func (l *layer) tar(at time.Time) ([]byte, error) {
	entries, err := l.complete()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.path, Mode: e.mode, Uid: e.owner, Gid: e.owner, ModTime: at, Typeflag: tar.TypeReg, Size: int64(len(e.data))}
		switch {
		case e.dir:
			h.Name, h.Typeflag = e.path+"/", tar.TypeDir
		case e.link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.link, 0o777
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack layer %s: %w", l.name, err)
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, fmt.Errorf("pack layer %s: %w", l.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack layer %s: %w", l.name, err)
	}
	return b.Bytes(), nil
}

// writeRoot writes the entries of layers below a folder that does not exist yet. Owners are left to who copies them.
func writeRoot(folder string, layers []layer) error {
	if err := os.Mkdir(folder, 0o755); err != nil {
		return fmt.Errorf("make root folder: %w", err)
	}
	for _, l := range layers {
		entries, err := l.complete()
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := e.write(filepath.Join(folder, filepath.FromSlash(e.path))); err != nil {
				return fmt.Errorf("write root folder: %w", err)
			}
		}
	}
	return nil
}

func (e entry) write(file string) error {
	mode := (&tar.Header{Mode: e.mode}).FileInfo().Mode()
	switch {
	case e.link != "":
		return os.Symlink(e.link, file)
	case !e.dir:
		if err := os.WriteFile(file, e.data, mode.Perm()); err != nil {
			return err
		}
	default:
		if err := os.MkdirAll(file, 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(file, mode)
}
