package weights

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// abandoned is the age at which an unfinished file is taken for the rest of a
// process that was killed.
const abandoned = 24 * time.Hour

// evict removes the files used longest ago until the cache fits MaxBytes, but
// not keep and none that is in use, and what killed processes left. A file that
// cannot be removed stays; the next call tries again.
func (c *Cache) evict(keep string) {
	dir := filepath.Dir(keep)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil || !info.Mode().IsRegular():
		case strings.Contains(e.Name(), tempMark) && time.Since(info.ModTime()) > abandoned:
			os.Remove(filepath.Join(dir, e.Name()))
		case strings.HasSuffix(e.Name(), suffix):
			files = append(files, info)
			total += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range files {
		if c.MaxBytes <= 0 || total <= c.MaxBytes {
			return
		}
		path := filepath.Join(dir, info.Name())
		if path != keep && removeUnused(path) {
			total -= info.Size()
		}
	}
}

// removeUnused removes the file unless somebody holds it.
func removeUnused(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	// Another file may have taken the path before the lock was ours.
	return tryFlock(f, unix.LOCK_EX) == nil && standsAt(f, path) && os.Remove(path) == nil
}
