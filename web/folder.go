package web

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
)

// tempPrefix begins the names of files that are being written. Listings leave them out.
const tempPrefix = ".comfyrun-"

// folder is a directory that clients reach: through an os.Root, which nothing leads out of, neither names nor links.
type folder struct {
	dir   string
	given bool // it is there, or it is a mistake; others are made when they are missing
	mu    sync.Mutex
	root  *os.Root
}

// open returns the directory. One that was removed and made again while the server ran is opened again; requests that
// hold the old one keep it until they are done (the runtime closes it then).
func (f *folder) open() (*os.Root, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root != nil && f.same() {
		return f.root, nil
	}
	if f.dir == "" {
		return nil, errors.New("open folder: none is set")
	}
	if !f.given {
		if err := os.MkdirAll(f.dir, 0o755); err != nil {
			return nil, fmt.Errorf("open folder: %w", err)
		}
	}
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return nil, fmt.Errorf("open folder: %w", err)
	}
	f.root = root
	return root, nil
}

// same reports whether the directory that is open is still the one of its name.
func (f *folder) same() bool {
	held, err := f.root.Stat(".")
	if err != nil {
		return false
	}
	now, err := os.Stat(f.dir)
	return err == nil && os.SameFile(held, now)
}

func (f *folder) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root == nil {
		return nil
	}
	err := f.root.Close()
	f.root = nil
	return err
}

// maxName bounds a client's path, so that files have names that every program can use.
const maxName = 1024

// errOutside says that a client's path leaves its folder.
var errOutside = errors.New("path leads out of its folder or is too long")

// inside joins the parts of a client's path, which has forward slashes, into a name for an os.Root. It is an error when
// the path leaves the folder at its end; an absolute one does.
func inside(parts ...string) (string, error) {
	for _, part := range parts {
		if path.IsAbs(part) || strings.ContainsRune(part, 0) {
			return "", errOutside
		}
	}
	name := filepath.FromSlash(path.Join(append([]string{"."}, parts...)...))
	if !filepath.IsLocal(name) || len(name) > maxName {
		return "", errOutside
	}
	return name, nil
}

// openFile opens a regular file for reading. Anything else does not exist.
func openFile(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	// A look before the opening, which would wait at a named pipe.
	if info, err := root.Stat(name); err != nil || !info.Mode().IsRegular() {
		return nil, nil, fs.ErrNotExist
	}
	file, err := root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// replaceFile writes a file in one step: readers see the old content or all of the new one, and a failure leaves nothing.
// Its directory is made if need be.
func replaceFile(root *os.Root, name string, content io.Reader) (err error) {
	dir := filepath.Dir(name)
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temp := filepath.Join(dir, tempPrefix+rand.Text())
	file, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			file.Close()
			root.Remove(temp)
		}
	}()
	if _, err := io.Copy(file, content); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if info, err := root.Stat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("replace %s: %w and no file", name, fs.ErrExist)
	}
	return root.Rename(temp, name)
}

// exists reports whether something has the name.
func exists(root *os.Root, name string) bool {
	_, err := root.Lstat(name)
	return err == nil
}
