package models

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Blob is a file of the store.
type Blob struct {
	Digest  string
	Size    int64
	Used    time.Time // last use that the store knows of, or when it came
	Adopted string    // the file that it is a link to; "" for the store's own
	Names   []string  // FOLDER/NAME, sorted
}

// Blobs lists what the store keeps, sorted by digest.
func (s *Store) Blobs() ([]Blob, error) {
	entries, err := os.ReadDir(filepath.Join(s.Dir, "blobs", "sha256"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list store: %w", err)
	}
	names := s.names()
	var blobs []Blob
	for _, entry := range entries {
		if !sha256Text.MatchString(entry.Name()) {
			continue
		}
		if b, ok := s.blobAt(entry.Name()); ok {
			b.Names = names[b.Digest]
			blobs = append(blobs, b)
		}
	}
	return blobs, nil
}

// blobAt looks at a blob. One that was adopted and is gone has size 0.
func (s *Store) blobAt(digest string) (Blob, bool) {
	b := Blob{Digest: digest}
	own, err := os.Lstat(s.blob(digest))
	if err != nil {
		return b, false
	}
	b.Used = own.ModTime()
	if own.Mode()&fs.ModeSymlink != 0 {
		b.Adopted, _ = os.Readlink(s.blob(digest))
	}
	if info, err := os.Stat(s.blob(digest)); err == nil {
		b.Size = info.Size()
	}
	if used, err := os.Stat(s.usedFile(digest)); err == nil {
		b.Used = used.ModTime()
	}
	return b, true
}

// names gives the names that link to each blob.
func (s *Store) names() map[string][]string {
	names := map[string][]string{}
	root := filepath.Join(s.Dir, "models")
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 {
			return nil // what cannot be read names nothing
		}
		target, err := os.Readlink(path)
		if err != nil {
			return nil
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		name, err := filepath.Rel(root, path)
		if err == nil && filepath.Dir(target) == filepath.Join(s.Dir, "blobs", "sha256") {
			names[filepath.Base(target)] = append(names[filepath.Base(target)], filepath.ToSlash(name))
		}
		return nil
	})
	return names
}

// GC says what may be removed from a store.
type GC struct {
	Unused time.Duration // blobs not used for longer; 0: no blob for its age
	Bytes  int64         // of the store's own blobs may stay, the least recently used go first; 0: any number
	Keep   []Entry       // never removed
	Dry    bool          // nothing is removed, only listed
}

// staleDownload is how old an unfinished download is when nobody will go on with it.
const staleDownload = 7 * 24 * time.Hour

// GC removes what the options allow, with the names that lead there, and returns what was removed. Unfinished downloads that
// nobody touched for a week go too. Adopted files stay; only the link to them goes, and counts no bytes.
func (s *Store) GC(ctx context.Context, o GC) ([]Blob, error) {
	blobs, err := s.Blobs()
	if err != nil {
		return nil, err
	}
	removed := o.choose(blobs)
	if o.Dry {
		return removed, nil
	}
	for _, b := range removed {
		if err := s.remove(ctx, b); err != nil {
			return removed, fmt.Errorf("remove blob %s: %w", b.Digest, err)
		}
	}
	return removed, s.removePartials(ctx)
}

// choose picks the blobs to remove, the least recently used first.
func (o GC) choose(blobs []Blob) []Blob {
	total := int64(0)
	for _, b := range blobs {
		total += b.own()
	}
	slices.SortStableFunc(blobs, func(a, b Blob) int { return cmp.Or(a.Used.Compare(b.Used), cmp.Compare(a.Digest, b.Digest)) })
	var chosen []Blob
	for _, b := range blobs {
		old := o.Unused > 0 && time.Since(b.Used) > o.Unused
		much := o.Bytes > 0 && total > o.Bytes && b.own() > 0
		kept := slices.ContainsFunc(o.Keep, func(e Entry) bool { return e.SHA256 == b.Digest })
		if (old || much) && !kept {
			chosen = append(chosen, b)
			total -= b.own()
		}
	}
	return chosen
}

// own is how many bytes go when the blob does.
func (b Blob) own() int64 {
	if b.Adopted != "" {
		return 0
	}
	return b.Size
}

// remove takes away a blob and its names. The entry's lock keeps a download from ending meanwhile.
func (s *Store) remove(ctx context.Context, b Blob) error {
	unlock, _, err := s.Lock(ctx, Entry{SHA256: b.Digest}, nil)
	if err != nil {
		return err
	}
	defer unlock()
	for _, name := range b.Names {
		if err := os.Remove(filepath.Join(s.Dir, "models", filepath.FromSlash(name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(s.blob(b.Digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = os.Remove(s.usedFile(b.Digest)) // nothing depends on the note
	_ = os.RemoveAll(s.versions(b.Digest))
	return nil
}

// Remove takes an entry's blob and its names out of the store.
func (s *Store) Remove(ctx context.Context, e Entry) error {
	b, ok := s.blobAt(e.SHA256)
	if !ok {
		return nil
	}
	b.Names = s.names()[e.SHA256]
	if err := s.remove(ctx, b); err != nil {
		return fmt.Errorf("remove %s: %w", e, err)
	}
	return nil
}

func (s *Store) removePartials(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(s.Dir, "blobs", "partial"))
	if err != nil {
		return nil // there is none
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !sha256Text.MatchString(entry.Name()) || time.Since(info.ModTime()) < staleDownload {
			continue
		}
		e := Entry{SHA256: entry.Name()}
		unlock, _, err := s.Lock(ctx, e, nil)
		if err != nil {
			return err
		}
		err = errors.Join(os.RemoveAll(s.Partial(e)), os.RemoveAll(s.Partial(e)+".done"))
		unlock()
		if err != nil {
			return fmt.Errorf("remove unfinished download: %w", err)
		}
	}
	return nil
}
