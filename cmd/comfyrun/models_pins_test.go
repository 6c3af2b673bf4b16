package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// A bit that changes on the disk itself changes no time of the file. The test plays that by noting the old digest under
// the new stamp: what is remembered is believed, except with --paranoid, and by verify.
func TestParanoidFindsFlippedBit(t *testing.T) {
	home := Home(t.TempDir())
	data := bytes.Repeat([]byte("weights "), 1000)
	sum, err := models.HashPieces(t.Context(), bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	e := models.Entry{Name: "vae/x.pt", Size: sum.Size, SHA256: sum.SHA256, Sources: []string{"a:b"}}
	file := filepath.Join(home.Models(), "vae", "x.pt")
	data[77] ^= 1
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, 0o644)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // files that are very young are not remembered
	lock := &models.Lock{Models: []models.Entry{e}}
	lockFile := filepath.Join(string(home), "models.lock")
	if err := models.WriteLock(lockFile, lock); err != nil {
		t.Fatal(err)
	}
	flags := pinFlags{lock: lockFile, fetch: "never", sources: sourceFlags{connections: 1}}
	notes := filepath.Join(home.Weights(), "digests")
	ensure := func() error {
		m := &machine{folders: models.NewFolders([]string{home.Models()}), digests: weights.Digests{Dir: notes}}
		k, err := flags.keeper(home, m, nil)
		if err != nil {
			t.Fatal(err)
		}
		return k.Ensure(t.Context(), []string{e.Name, "vae/not-pinned.pt"}, nil)
	}
	if err := ensure(); !errors.Is(err, models.ErrDigest) {
		t.Fatalf("a wrong file: error is %v, want ErrDigest", err)
	}
	rewriteNote(t, notes, e.SHA256)
	if err := ensure(); err != nil {
		t.Fatalf("the note is not believed: %v", err)
	}
	flags.paranoid = true
	if err := ensure(); !errors.Is(err, models.ErrDigest) {
		t.Errorf("paranoid: error is %v, want ErrDigest", err)
	}
	folders := models.NewFolders([]string{home.Models()})
	c := storeContext{home: home, folders: folders, lock: lock, digests: &weights.Digests{Dir: notes}}
	if err := c.verifyOne(t.Context(), e, 0); !errors.Is(err, models.ErrDigest) {
		t.Errorf("verify: error is %v, want ErrDigest", err)
	}
}

// rewriteNote changes the digest in the only note of a folder.
func rewriteNote(t *testing.T, dir, digest string) {
	t.Helper()
	notes, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(notes) != 1 {
		t.Fatalf("notes are %v, %v", notes, err)
	}
	text, err := os.ReadFile(notes[0])
	if err != nil {
		t.Fatal(err)
	}
	var raw struct{ Stamp json.RawMessage }
	if err := json.Unmarshal(text, &raw); err != nil {
		t.Fatal(err)
	}
	text, err = json.Marshal(map[string]any{"Stamp": raw.Stamp, "SHA256": digest})
	if err == nil {
		err = os.WriteFile(notes[0], text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestSizeFlag(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "7": 7, "7B": 7, "1.5k": 1500, "2 MB": 2e6, "1GiB": 1 << 30, "3tib": 3 << 40} {
		var s sizeFlag
		if err := s.Set(text); err != nil || int64(s) != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1XB", "1kk", "9999999TB", "MB"} {
		if err := new(sizeFlag).Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
