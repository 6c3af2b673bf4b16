package fetch

import (
	"errors"
	"os"
	"syscall"
)

// reserve gives a file its size and, where the file system can, its place on the disk, so that no disk runs full in the
// middle of a download.
func reserve(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > size {
		return f.Truncate(size)
	}
	if size == 0 || info.Size() == size {
		return nil
	}
	err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, syscall.ENOSPC) {
		return &os.PathError{Op: "reserve", Path: f.Name(), Err: errors.Join(ErrSpace, err)}
	}
	return f.Truncate(size) // a file system that cannot reserve
}
