package fetch

import (
	"errors"
	"time"
)

// temporary marks an error that may pass.
type temporary struct {
	err   error
	after time.Duration // that the source asks to wait
}

func (t *temporary) Error() string { return t.err.Error() }
func (t *temporary) Unwrap() error { return t.err }

// Temporary marks an error of a source that may pass, such as a broken connection, with the time that the source asks to
// be left alone, 0 for none. Errors without the mark end the use of a source for a file.
func Temporary(err error, after time.Duration) error { return &temporary{err, after} }

// passing reports whether an error may pass, and how long to wait at least.
func passing(err error) (time.Duration, bool) {
	var t *temporary
	if errors.As(err, &t) {
		return min(t.after, time.Minute), true
	}
	return 0, false
}
