package weights

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// tempMark is in the names of files that are not finished.
const tempMark = ".tmp-"

// replaceFile writes the file at path so that it is there whole or not at all:
// into a temporary file of the same folder, synchronised, then renamed.
func replaceFile(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+tempMark)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncMeanwhile lets the disk work while write fills f, so that the last
// synchronisation has less to wait for.
func syncMeanwhile(f *os.File, write func() error) error {
	written, synced := make(chan struct{}), make(chan error)
	go func() {
		// The system reports a failed write to the first Sync only.
		var first error
		for {
			select {
			case <-written:
				synced <- first
				return
			case <-time.After(time.Second):
				if err := f.Sync(); first == nil {
					first = err
				}
			}
		}
	}()
	err := write()
	close(written)
	if syncErr := <-synced; err == nil {
		err = syncErr
	}
	return err
}

// syncDir makes a rename survive a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// reserve gives f its final size, and fails early where there is no room.
func reserve(f *os.File, size int64) error {
	dir := filepath.Dir(f.Name())
	if free, err := freeBytes(dir); err == nil && free < size {
		return fmt.Errorf("%s has room for %d bytes, %d are needed: %w", dir, free, size, unix.ENOSPC)
	}
	return f.Truncate(size)
}

// freeBytes returns what may still be written to the file system of dir.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
