//go:build unix

// Package cputest bounds the processor time of tests of what could grow without
// bounds, so that a busy machine does not fail them.
package cputest

import (
	"syscall"
	"testing"
	"time"
)

// Within fails the test if, from here to its end, the process keeps processors
// busy for longer.
func Within(t testing.TB, most time.Duration) {
	t.Helper()
	start := used(t)
	t.Cleanup(func() {
		if took := used(t) - start; took > most {
			t.Errorf("took %v of processor time, more than %v", took, most)
		}
	})
}

// used is how long this process has kept processors busy.
func used(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano())
}
