//go:build s3 && linux

package fetch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A disk that is too full is told before anything is fetched, and when others fill it meanwhile. Mounting a small one needs root.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=120m"); err != nil {
		t.Fatalf("mount a small disk, as root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := serve(t, content)
	f, e := newFetcher(t), pin(t, content, true, s)
	f.Store.Dir = filepath.Join(dir, "home")
	fill := func(name string, size int) {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fill("some", 50<<20)
	err := get(t.Context(), f, e)
	if !errors.Is(err, ErrSpace) || !strings.Contains(err.Error(), `line 4: model "vae/x.safetensors"`) || s.requests.Load() > 0 {
		t.Errorf("error is %v after %d requests, want ErrSpace after none", err, s.requests.Load())
	}
	fill("more", 40<<20)
	// What Fetch would meet if the disk had filled up after it looked.
	err = f.do(t.Context(), Item{Entry: e, Action: ActionFetch}, true)
	if !errors.Is(err, ErrSpace) {
		t.Errorf("error is %v, want ErrSpace", err)
	}
	if left, _ := filepath.Glob(f.Store.Partial(e) + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "some")), os.Remove(filepath.Join(dir, "more"))); err != nil {
		t.Fatal(err)
	}
	// What an unfinished download has reserved is not asked for again.
	part, err := openPartial(f.Store.Partial(e), e.Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := part.close(); err != nil {
		t.Fatal(err)
	}
	fill("some", 80<<20)
	if err := get(t.Context(), f, e); err != nil {
		t.Fatal(err)
	}
	check(t, f, e, content)
}
