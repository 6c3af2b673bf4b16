package weights

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func digestOf(t *testing.T, d *Digests, path string) string {
	t.Helper()
	sum, err := d.Digest(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func writeOld(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * clockStep)
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestDigestIsRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	want := writeOld(t, path, "first")
	d := &Digests{Dir: t.TempDir()}
	if got := digestOf(t, d, path); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	notes := files(t, d.Dir)
	if len(notes) != 1 {
		t.Fatalf("notes %v, want one", notes)
	}
	// A forged note shows whether it is read.
	note := filepath.Join(d.Dir, notes[0])
	data, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Repeat("ab", 32)
	if err := os.WriteFile(note, []byte(strings.Replace(string(data), want, forged, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	// A value of its own stands for the next process: only the note is shared.
	if got := digestOf(t, &Digests{Dir: d.Dir}, path); got != forged {
		t.Errorf("the file was read again: %s", got)
	}
	// Same size, new content.
	want = writeOld(t, path, "other")
	if got := digestOf(t, d, path); got != want {
		t.Errorf("changed file: got %s, want %s", got, want)
	}
	// Whatever the note holds, the answer is right.
	for _, text := range []string{"", "{}", "null", `{"SHA256":"zz"}`} {
		if err := os.WriteFile(note, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := digestOf(t, &Digests{Dir: d.Dir}, path); got != want {
			t.Errorf("note %q: got %s, want %s", text, got, want)
		}
	}
}

// TestDigestIsRememberedWithoutAFolder forges the sum in memory, which shows
// whether the file is read again.
func TestDigestIsRememberedWithoutAFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	want := writeOld(t, path, "first")
	d := &Digests{}
	if got := digestOf(t, d, path); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if len(d.sums) != 1 {
		t.Fatalf("%d sums in memory, want one", len(d.sums))
	}
	forged := strings.Repeat("ab", 32)
	for s := range d.sums {
		d.sums[s] = forged
	}
	if got := digestOf(t, d, path); got != forged {
		t.Errorf("the file was read again: %s", got)
	}
	want = writeOld(t, path, "other")
	if got := digestOf(t, d, path); got != want {
		t.Errorf("changed file: got %s, want %s", got, want)
	}
}

func TestDigestOfAYoungFileIsNotRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	d := &Digests{Dir: t.TempDir()}
	if err := remember(filepath.Join(d.Dir, "note"), remembered{Stamp: stamp{Path: path, Ctime: time.Now().Add(time.Minute).UnixNano()}}); err != nil {
		t.Fatal(err)
	}
	if notes := files(t, d.Dir); len(notes) != 0 {
		t.Errorf("notes %v, want none", notes)
	}
}

func TestDigestFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	for _, d := range []*Digests{{}, {Dir: t.TempDir()}} {
		if _, err := d.Digest(t.Context(), path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("missing file: %v", err)
		}
	}
	writeOld(t, path, "text")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, d := range []*Digests{{}, {Dir: t.TempDir()}} {
		if _, err := d.Digest(ctx, path); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	}
}
