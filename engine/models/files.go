package models

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// replaceFile writes a file in one step: readers see the old content or all of the new one, and a failure leaves nothing.
func replaceFile(file string, content io.Reader) (err error) {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			temp.Close()
			os.Remove(temp.Name())
		}
	}()
	if _, err := io.Copy(temp, content); err != nil {
		return err
	}
	if err := temp.Chmod(0o644); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}

// replaceLink makes name a symbolic link in one step.
func replaceLink(name, target string) error {
	temp, err := os.MkdirTemp(filepath.Dir(name), ".link.*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	link := filepath.Join(temp, "link")
	// The link is made one directory deeper than it will stand; only its text counts.
	if err := os.Symlink(target, link); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return os.Rename(link, name)
}

// syncDir makes the names of a directory last through a power failure. File systems that cannot are left to themselves.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	_ = d.Sync()
	return nil
}
