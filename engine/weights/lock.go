package weights

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Locks are flock(2) locks: they belong to an open file, so they work between
// goroutines as between processes, and end with the process.

// lockPath waits until it alone holds the lock file at path, which it creates.
// The returned function gives the lock back and removes the file.
func lockPath(ctx context.Context, path string) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		if err := flock(ctx, f, unix.LOCK_EX); err != nil {
			f.Close()
			return nil, err
		}
		if standsAt(f, path) {
			return func() { os.Remove(path); f.Close() }, nil
		}
		// The holder before us removed the file: its lock guards nothing.
		f.Close()
	}
}

// flock waits for a lock on f until ctx ends. On a file system without locks
// it does nothing: then two processes may do the same work, each with
// temporary files of its own.
func flock(ctx context.Context, f *os.File, how int) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := tryFlock(f, how)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func tryFlock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOLCK):
			return nil
		}
		return err
	}
}

// standsAt reports whether path still names the open file f.
func standsAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}
