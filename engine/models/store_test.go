package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// memory is a fetcher of a few texts; it counts what it opened.
type memory struct {
	files  map[string]string
	opened []string
}

func (m *memory) Fetch(_ context.Context, source string) (io.ReadCloser, error) {
	m.opened = append(m.opened, source)
	text, ok := m.files[source]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(iotest.OneByteReader(strings.NewReader(text))), nil
}

func entryFor(text string, sources ...string) Entry {
	sum := sha256.Sum256([]byte(text))
	return Entry{Name: "vae/sub/x.pt", Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:]), Sources: sources}
}

func TestEnsure(t *testing.T) {
	source := &memory{files: map[string]string{"mem:good": "weights", "mem:bad": "Weights"}}
	store := Store{Dir: t.TempDir(), Fetchers: map[string]Fetcher{"mem": source}}
	entry := entryFor("weights", "mem:absent", "other:x", "mem:bad", "mem:good")
	for range 2 { // the second time finds the blob
		path, err := store.Ensure(t.Context(), entry)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); string(text) != "weights" {
			t.Errorf("file holds %q, %v", text, err)
		}
		if want := filepath.Join(store.Dir, "models/vae/sub/x.pt"); path != want {
			t.Errorf("path is %s, want %s", path, want)
		}
	}
	if want := []string{"mem:absent", "mem:bad", "mem:good"}; !slices.Equal(source.opened, want) {
		t.Errorf("opened %v, want %v", source.opened, want)
	}
	noStrayFiles(t, store.Dir, "blobs/sha256/"+entry.SHA256, "blobs/used/"+entry.SHA256, "models/vae/sub/x.pt")
	moved := store.Dir + "-moved"
	if err := os.Rename(store.Dir, moved); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(moved, "models/vae/sub/x.pt")); err != nil {
		t.Errorf("the link does not survive a move of the store: %v", err)
	}
}

func TestEnsureMendsLinkAndBlob(t *testing.T) {
	source := &memory{files: map[string]string{"mem:good": "weights"}}
	store := Store{Dir: t.TempDir(), Fetchers: map[string]Fetcher{"mem": source}}
	entry := entryFor("weights", "mem:good")
	path, err := store.Ensure(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(store.Blob(entry), 3); err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	if err := os.Symlink("nowhere", path); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Ensure(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "weights" {
		t.Errorf("file holds %q", text)
	}
}

func TestEnsureRefuses(t *testing.T) {
	source := &memory{files: map[string]string{"mem:long": "weights+", "mem:short": "weight", "mem:other": "Weights"}}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name, source string
		ctx          context.Context
		want         error
		text         string
	}{
		{"longer", "mem:long", t.Context(), ErrDigest, "longer than 7 bytes"},
		{"shorter", "mem:short", t.Context(), ErrDigest, "ends after 6 of 7 bytes"},
		{"other", "mem:other", t.Context(), ErrDigest, "sha256 is "},
		{"absent", "mem:absent", t.Context(), ErrMissing, "source mem:absent: file does not exist"},
		{"no fetcher", "s3://b/k", t.Context(), ErrMissing, "nothing fetches s3: sources"},
		{"cancelled", "mem:other", cancelled, context.Canceled, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := Store{Dir: t.TempDir(), Fetchers: map[string]Fetcher{"mem": source}}
			_, err := store.Ensure(tt.ctx, entryFor("weights", tt.source))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error is %v, want %v with %q", err, tt.want, tt.text)
			}
			noStrayFiles(t, store.Dir)
		})
	}
}

func TestEnsureLeavesStrangersAlone(t *testing.T) {
	store := Store{Dir: t.TempDir(), Fetchers: map[string]Fetcher{"mem": &memory{files: map[string]string{"mem:good": "weights"}}}}
	path := filepath.Join(store.Dir, "models/vae/sub/x.pt")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Ensure(t.Context(), entryFor("weights", "mem:good")); !errors.Is(err, ErrDigest) {
		t.Errorf("error is %v, want ErrDigest", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "mine" {
		t.Errorf("the stranger's file holds %q", text)
	}
}

// noStrayFiles fails unless dir holds exactly the files named.
func noStrayFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			got = append(got, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("files are %v, %v; want %v", got, err, want)
	}
}

// A version's name outlives a change of what the entry's name leads to, and goes with its blob.
func TestVersions(t *testing.T) {
	source := &memory{files: map[string]string{"mem:old": "old", "mem:new": "new!"}}
	store := Store{Dir: t.TempDir(), Fetchers: map[string]Fetcher{"mem": source}}
	old, next := entryFor("old", "mem:old"), entryFor("new!", "mem:new")
	if _, err := store.Ensure(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	version := store.Version(old)
	if _, err := store.Ensure(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{version: "old", store.Version(old): "old", store.Version(next): "new!", store.Name(old): "new!"} {
		if text, err := os.ReadFile(file); string(text) != want {
			t.Errorf("%s holds %q, %v; want %q", file, text, err, want)
		}
	}
	if filepath.Base(version) != "x.pt" {
		t.Errorf("the version is called %s", version)
	}
	if err := store.Remove(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(version); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the version of a removed blob stays: %v", err)
	}
}
