package models

import (
	"path/filepath"
	"slices"
	"strings"
)

// File is a model file with the place where it was found.
type File struct {
	Name  string
	Index int    // of its directory in Folders.Paths
	Path  string // Index's directory and Name
}

// Files lists the model files of a folder like Names, but directory after directory, each sorted by code point, and a
// name once for every directory that holds it.
func (f *Folders) Files(key string) []File {
	folder := f.find(key)
	if folder == nil {
		return nil
	}
	files := []File{}
	for i, dir := range folder.Paths {
		w := walk{root: dir, folder: folder}
		w.directory(dir, nil)
		slices.Sort(w.names)
		for _, name := range w.names {
			files = append(files, File{name, i, filepath.Join(dir, filepath.FromSlash(name))})
		}
	}
	return files
}

// IsModel reports whether a name ends as the files of models do, in any case of letters.
func IsModel(name string) bool {
	return slices.Contains(modelExtensions, strings.ToLower(filepath.Ext(name)))
}
