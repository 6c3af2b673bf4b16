package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// sweepPause lies between two looks at the folder of previews.
const sweepPause = 10 * time.Minute

// sweepTemp removes old previews, now and from time to time, until ctx ends.
func (p *process) sweepTemp(ctx context.Context, age time.Duration) {
	ticker := time.NewTicker(sweepPause)
	defer ticker.Stop()
	for {
		removed, err := removeOld(p.machine.dirs.Temp, time.Now().Add(-age))
		if err != nil {
			p.log.Warn("old previews stay", "err", err)
		} else if removed > 0 {
			p.log.Info("old previews are removed", "files", removed)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// removeOld removes the files below a folder that were last written before a time, and returns how many. Links are not followed.
func removeOld(dir string, before time.Time) (removed int, err error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil || !info.ModTime().Before(before) {
			return ignoreAbsence(err)
		}
		if err := root.Remove(filepath.FromSlash(name)); err != nil {
			return ignoreAbsence(err)
		}
		removed++
		return nil
	})
	return removed, err
}

// ignoreAbsence forgives that another process was faster.
func ignoreAbsence(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
