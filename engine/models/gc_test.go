package models

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stocked is a store with a few blobs of 10 bytes, each used a day later than the one before.
func stocked(t *testing.T, names ...string) (*Store, []Entry) {
	t.Helper()
	s := &Store{Dir: t.TempDir()}
	var entries []Entry
	for i, name := range names {
		text := bytes.Repeat([]byte{byte(i)}, 10)
		e := entryOf(t, text)
		e.Name = name
		part := s.Partial(e)
		if err := errors.Join(os.MkdirAll(filepath.Dir(part), 0o755), os.WriteFile(part, text, 0o644), s.Put(e, part)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Link(e); err != nil {
			t.Fatal(err)
		}
		used := time.Now().AddDate(0, 0, i-len(names))
		if err := os.Chtimes(s.usedFile(e.SHA256), used, used); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return s, entries
}

func entryOf(t *testing.T, data []byte) Entry {
	t.Helper()
	sum, err := HashPieces(t.Context(), bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	return Entry{Name: "vae/x", Size: sum.Size, SHA256: sum.SHA256, Pieces: sum.Pieces.Digest(), Sources: []string{"a:b"}}
}

func TestGC(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options GC
		keep    string
		want    []string // of a, b, c: a was used three days ago, c yesterday
	}{
		{"nothing asked", GC{}, "", []string{"vae/a", "vae/b", "vae/c"}},
		{"old", GC{Unused: 36 * time.Hour}, "", []string{"vae/c"}},
		{"old but kept", GC{Unused: 36 * time.Hour}, "vae/a", []string{"vae/a", "vae/c"}},
		{"too much", GC{Bytes: 25}, "", []string{"vae/b", "vae/c"}},
		{"too much, oldest kept", GC{Bytes: 25}, "vae/a", []string{"vae/a", "vae/c"}},
		{"far too much", GC{Bytes: 1}, "", nil},
		{"dry", GC{Bytes: 1, Dry: true}, "", []string{"vae/a", "vae/b", "vae/c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, entries := stocked(t, "vae/a", "vae/b", "vae/c")
			for _, e := range entries {
				if e.Name == tt.keep {
					tt.options.Keep = append(tt.options.Keep, e)
				}
			}
			removed, err := s.GC(t.Context(), tt.options)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				if _, err := os.Stat(s.Name(e)); err == nil {
					got = append(got, e.Name)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("names that are left (-want +got):\n%s", diff)
			}
			if !tt.options.Dry && len(removed)+len(got) != 3 {
				t.Errorf("%d removed and %d left", len(removed), len(got))
			}
			blobs, err := s.Blobs()
			if err != nil || len(blobs) != len(got) {
				t.Errorf("blobs are %+v, %v", blobs, err)
			}
		})
	}
}

func TestGCOfStrayThings(t *testing.T) {
	s, entries := stocked(t, "vae/a")
	mine := filepath.Join(t.TempDir(), "mine.pt")
	if err := os.WriteFile(mine, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	adopted := entryOf(t, []byte("mine"))
	adopted.Name = "vae/mine.pt"
	if err := s.Adopt(adopted, mine); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Link(adopted); err != nil {
		t.Fatal(err)
	}
	// Unfinished downloads: an old one goes, a young one stays.
	old, young := Entry{SHA256: digestA}, Entry{SHA256: entries[0].SHA256}
	long := time.Now().Add(-30 * 24 * time.Hour)
	err := errors.Join(os.WriteFile(s.Partial(old), nil, 0o644), os.WriteFile(s.Partial(old)+".done", nil, 0o644),
		os.Chtimes(s.Partial(old), long, long), os.WriteFile(s.Partial(young), nil, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(t.Context(), GC{Bytes: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Name(adopted)); err != nil {
		t.Errorf("an adopted file, which takes no room here, is gone: %v", err)
	}
	if err := s.Remove(t.Context(), adopted); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(mine); string(text) != "mine" {
		t.Errorf("the adopted file holds %q, %v", text, err)
	}
	if s.Has(adopted) {
		t.Error("the store still has the adopted file")
	}
	left, _ := filepath.Glob(filepath.Join(s.Dir, "blobs", "partial", "*"))
	if diff := cmp.Diff([]string{s.Partial(young)}, left); diff != "" {
		t.Errorf("unfinished downloads (-want +got):\n%s", diff)
	}
}

func TestNamesOfProjectsShareABlob(t *testing.T) {
	s, entries := stocked(t, "vae/a")
	other := entries[0]
	other.Name = "vae/sub/b"
	if _, err := s.Link(other); err != nil {
		t.Fatal(err)
	}
	blobs, err := s.Blobs()
	if err != nil || len(blobs) != 1 || !cmp.Equal(blobs[0].Names, []string{"vae/a", "vae/sub/b"}) {
		t.Errorf("blobs are %+v, %v", blobs, err)
	}
}

func TestVerify(t *testing.T) {
	data := make([]byte, 2*PieceSize+5)
	for i := range data {
		data[i] = byte(i >> 12)
	}
	e := entryOf(t, data)
	sum, err := HashPieces(t.Context(), bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParsePieces(e, sum.Pieces.Text())
	if err != nil || !cmp.Equal(list, sum.Pieces) {
		t.Fatalf("ParsePieces gives %v, %v", list, err)
	}
	good, bad := filepath.Join(t.TempDir(), "good"), filepath.Join(t.TempDir(), "bad")
	wrong := bytes.Clone(data)
	wrong[PieceSize+100] ^= 1
	if err := errors.Join(os.WriteFile(good, data, 0o644), os.WriteFile(bad, wrong, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, file string
		list       PieceList
		sample     int
		want       string
	}{
		{"good", good, nil, 0, ""},
		{"good by list", good, list, 0, ""},
		{"good sampled", good, list, 2, ""},
		{"bad", bad, nil, 0, "sha256 is "},
		{"bad by list", bad, list, 0, "piece 2 of 3, from byte 16777216, is wrong"},
		{"bad sampled whole", bad, list, 3, "piece 2 of 3"},
	} {
		err := Check{tt.file, e, tt.list, tt.sample}.Verify(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrDigest) || !bytes.Contains([]byte(err.Error()), []byte(tt.want))) {
			t.Errorf("%s: error is %v, want %q", tt.name, err, tt.want)
		}
	}
	found := 0
	for range 40 {
		if (Check{bad, e, list, 1}).Verify(t.Context()) != nil {
			found++
		}
	}
	if found == 0 || found == 40 {
		t.Errorf("a sample of one piece of three found the wrong one %d times of 40", found)
	}
	if _, err := ParsePieces(e, append(sum.Pieces.Text(), 'x')); !errors.Is(err, ErrDigest) {
		t.Errorf("a list with more in it: %v", err)
	}
}
