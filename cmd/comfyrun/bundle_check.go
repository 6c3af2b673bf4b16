package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/charts"
)

// errStale is what --check finds.
var errStale = errors.New("not what comfyrun bundle would write now; run it again and commit the result")

// runCheck makes a folder's bundle anew and compares. Sources, options and targets are those of the folder's record; sources
// on the command line, if any, take the place of the record's.
func (f *bundleFlags) runCheck(cmd *cobra.Command, args []string) error {
	data, err := os.ReadFile(filepath.Join(f.check, charts.RecordFile))
	if err != nil {
		return usagef("check bundle: %w", err)
	}
	record, err := charts.ParseRecord(data)
	if err != nil {
		return usagef("%s: %w", f.check, err)
	}
	if slices.Contains(record.Sources, "-") && len(args) == 0 {
		return usagef("check bundle: it was made of the standard input; name its workflows")
	}
	if len(args) == 0 {
		args = f.here(record.Sources...)
	}
	f.takeFrom(*record)
	b, err := f.make(cmd, args)
	if err != nil {
		return err
	}
	files, err := b.Files(*record)
	if err != nil {
		return usagef("check bundle: %w", err)
	}
	return compareBundle(cmd.OutOrStdout(), f.check, files)
}

// takeFrom sets what a record says of how its bundle was made. Definitions that the command line names go before the record's.
func (f *bundleFlags) takeFrom(r charts.Record) {
	f.record = r
	if r.Lock != "" {
		f.record.Lock = f.here(r.Lock)[0]
	}
	if len(f.convert.nodes.folders) == 0 {
		f.convert.nodes.folders = f.here(r.Nodes...)
	}
	if len(f.convert.objectInfo) == 0 {
		f.convert.objectInfo = f.here(r.Info...)
	}
}

// here finds files that the record names as seen from the bundle's folder.
func (f *bundleFlags) here(names ...string) (found []string) {
	for _, name := range names {
		if name != "-" && !filepath.IsAbs(filepath.FromSlash(name)) {
			name = filepath.Join(f.check, filepath.FromSlash(name))
		}
		found = append(found, name)
	}
	return found
}

// compareBundle writes how a folder differs from what it should hold.
func compareBundle(w io.Writer, folder string, files []charts.File) error {
	stale, err := staleFiles(folder, files)
	if err != nil {
		return err
	}
	differ := len(stale)
	for _, file := range files {
		have, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(file.Path)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read bundle: %w", err)
		}
		if !bytes.Equal(have, file.Data) {
			differ++
			writeDifference(w, file.Path, string(have), string(file.Data))
		}
	}
	for _, name := range stale {
		fmt.Fprintf(w, "--- %s\nis too many\n", name)
	}
	if differ > 0 {
		return fmt.Errorf("check bundle %s: %d of %d files: %w", folder, differ, len(files)+len(stale), errStale)
	}
	fmt.Fprintf(w, "%s is current: %d files\n", folder, len(files))
	return nil
}

// writeDifference writes the lines between the first and the last that differ, as diff -u does with one hunk.
func writeDifference(w io.Writer, name, have, want string) {
	a, b := textLines(have), textLines(want)
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	endA, endB := len(a), len(b)
	for endA > start && endB > start && a[endA-1] == b[endB-1] {
		endA, endB = endA-1, endB-1
	}
	fmt.Fprintf(w, "--- %s\n+++ %s, made anew\n@@ -%d,%d +%d,%d @@\n", name, name, start+1, endA-start, start+1, endB-start)
	for _, line := range a[start:endA] {
		fmt.Fprintln(w, "-"+line)
	}
	for _, line := range b[start:endB] {
		fmt.Fprintln(w, "+"+line)
	}
}

func textLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
