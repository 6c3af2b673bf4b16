package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/comfyrun/comfyrun/charts"
)

// writeBundle brings a folder to the files given. Files of an earlier bundle that are not among them are removed. What has
// the name of one and another origin stays, and nothing is written then.
func writeBundle(folder string, files []charts.File) error {
	changed, err := changedFiles(folder, files)
	if err != nil {
		return err
	}
	stale, err := staleFiles(folder, files)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(folder, charts.MapsDir), 0o755); err != nil {
		return fmt.Errorf("make output folder: %w", err)
	}
	var writers errgroup.Group // each waits for the disk
	writers.SetLimit(16)
	for _, file := range changed {
		writers.Go(func() error { return writeFile(filepath.Join(folder, filepath.FromSlash(file.Path)), file.Data) })
	}
	if err := writers.Wait(); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	for _, name := range stale {
		if err := os.Remove(filepath.Join(folder, filepath.FromSlash(name))); err != nil {
			return fmt.Errorf("remove what the bundle had before: %w", err)
		}
	}
	return nil
}

// changedFiles lists the files that a folder does not have so. One in whose place something else stands is an error.
func changedFiles(folder string, files []charts.File) (changed []charts.File, err error) {
	var foreign []error
	for _, file := range files {
		path := filepath.Join(folder, filepath.FromSlash(file.Path))
		old, err := os.ReadFile(path)
		switch {
		case err == nil && bytes.Equal(old, file.Data):
			continue
		case err == nil && !ownFile(file.Path, old):
			foreign = append(foreign, usagef("write bundle: %s was not made by comfyrun bundle; move it, or choose another folder", path))
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			foreign = append(foreign, usagef("write bundle: %w", err))
		}
		changed = append(changed, file)
	}
	return changed, errors.Join(foreign...)
}

// ownFile says whether a file of a bundle's folder was made by bundle.
func ownFile(name string, data []byte) bool {
	if name == charts.RecordFile {
		_, err := charts.ParseRecord(data)
		return err == nil
	}
	return charts.Generated(data)
}

// staleFiles lists, with forward slashes and sorted, the files of an earlier bundle that are none of these: they have the name of
// a bundle's file, and the mark of bundle on top.
func staleFiles(folder string, files []charts.File) ([]string, error) {
	var stale []string
	for _, dir := range []string{"", charts.MapsDir} {
		entries, err := os.ReadDir(filepath.Join(folder, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read bundle: %w", err)
		}
		for _, e := range entries {
			name := strings.TrimPrefix(dir+"/"+e.Name(), "/")
			if !e.Type().IsRegular() || !charts.MayHold(name) || slices.ContainsFunc(files, func(f charts.File) bool { return f.Path == name }) {
				continue
			}
			data, err := os.ReadFile(filepath.Join(folder, dir, e.Name()))
			if err == nil && charts.Generated(data) {
				stale = append(stale, name)
			}
		}
	}
	return stale, nil
}
