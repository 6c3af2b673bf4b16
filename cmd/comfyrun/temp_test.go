package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRemoveOld(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	now := time.Now()
	write := func(name string, age time.Duration) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "old.png"), 2*time.Hour)
	write(filepath.Join(dir, "sub", "old.png"), 2*time.Hour)
	write(filepath.Join(dir, "new.png"), time.Minute)
	write(filepath.Join(outside, "old.png"), 2*time.Hour)
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	removed, err := removeOld(dir, now.Add(-time.Hour))
	if removed != 2 || err != nil {
		t.Errorf("removed %d, %v; want 2", removed, err)
	}
	for _, name := range []string{filepath.Join(dir, "new.png"), filepath.Join(dir, "link"), filepath.Join(outside, "old.png")} {
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
	if removed, err := removeOld(filepath.Join(dir, "nothing"), now); removed != 0 || err != nil {
		t.Errorf("a folder that is not there: %d, %v", removed, err)
	}
}
