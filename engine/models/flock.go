package models

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockFile waits until it alone holds the lock file, which it makes. It is a flock(2) lock: it belongs to an open file, so it
// works between goroutines as between processes, and ends with the process. waiting, which may be nil, is called once when
// another one holds it. The returned function removes the file and gives the lock back. held is false on a file system
// without locks.
func lockFile(ctx context.Context, file string, waiting func()) (unlock func(), held bool, err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, false, err
	}
	for {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, false, err
		}
		held, err := flock(ctx, f, waiting)
		if err != nil {
			f.Close()
			return nil, false, err
		}
		if !held || standsAt(f, file) {
			return func() { os.Remove(file); f.Close() }, held, nil
		}
		f.Close() // the one before us removed it: the lock guards nothing
		waiting = nil
	}
}

func flock(ctx context.Context, f *os.File, waiting func()) (held bool, err error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.ENOLCK):
			return false, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return false, err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// standsAt reports whether file still names the open file f.
func standsAt(f *os.File, file string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(file)
	return err == nil && os.SameFile(a, b)
}
