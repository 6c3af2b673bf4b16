package models

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Fetcher opens a model file at one kind of source. What it gives is checked by the caller; it need not be.
type Fetcher interface {
	Fetch(ctx context.Context, source string) (io.ReadCloser, error)
}

// Store keeps model files by content in Dir/blobs/sha256 and links names to them in Dir/models, which is laid out as a
// ComfyUI models directory. A blob may be a link to a file elsewhere that was adopted. Several processes may use one store.
type Store struct {
	Dir      string
	Fetchers map[string]Fetcher // of Ensure, by scheme of the source: "embed"
}

// Ensure makes the store hold an entry's file under its name and returns the name's path. A file that is there already
// costs a look at its size; otherwise the sources are read in order from their beginning to their end; package fetch knows better
// ways for large files. Errors are ErrDigest when content differs from the entry, ErrMissing when no source gave a file.
func (s *Store) Ensure(ctx context.Context, e Entry) (string, error) {
	if err := e.Check(); err != nil {
		return "", fmt.Errorf("ensure %w", err)
	}
	if !s.Has(e) {
		if err := s.fetch(ctx, e, s.Blob(e)); err != nil {
			return "", fmt.Errorf("ensure %s: %w", e, err)
		}
	}
	return s.Link(e)
}

// Blob is where the store keeps an entry's content.
func (s *Store) Blob(e Entry) string { return s.blob(e.SHA256) }

func (s *Store) blob(digest string) string { return filepath.Join(s.Dir, "blobs", "sha256", digest) }

// Name is where the store shows an entry's file under its name.
func (s *Store) Name(e Entry) string {
	return filepath.Join(s.Dir, "models", filepath.FromSlash(e.Name))
}

// Has reports whether the store has a blob of the entry's digest and size. It does not read it.
func (s *Store) Has(e Entry) bool {
	info, err := os.Stat(s.Blob(e))
	return err == nil && info.Mode().IsRegular() && info.Size() == e.Size
}

// Partial is the file that an unfinished download of an entry is written to, on the file system of the blobs. Whoever uses
// it holds the entry's Lock.
func (s *Store) Partial(e Entry) string { return filepath.Join(s.Dir, "blobs", "partial", e.SHA256) }

// Lock waits until nobody else, in this process or another, writes the entry's blob. waiting, which may be nil, is called
// when that takes a while. held is false where the file system has no locks.
func (s *Store) Lock(ctx context.Context, e Entry, waiting func()) (unlock func(), held bool, err error) {
	return lockFile(ctx, s.Partial(e)+".lock", waiting)
}

// Put makes a complete, checked and synced file the entry's blob, in one step.
func (s *Store) Put(e Entry, file string) error {
	blob := s.Blob(e)
	if err := os.MkdirAll(filepath.Dir(blob), 0o755); err != nil {
		return err
	}
	// Blobs are read-only: what writes into a model by its name would change it for every project.
	if err := os.Chmod(file, 0o444); err != nil {
		return err
	}
	if err := os.Rename(file, blob); err != nil {
		return err
	}
	return syncDir(filepath.Dir(blob))
}

// Adopt makes a file elsewhere, whose content the caller has checked, the entry's blob without copying it.
func (s *Store) Adopt(e Entry, file string) error {
	file, err := filepath.Abs(file)
	if err == nil {
		file, err = filepath.EvalSymlinks(file)
	}
	if err != nil {
		return fmt.Errorf("adopt %s: %w", e, err)
	}
	blob := s.Blob(e)
	if file == blob {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(blob), 0o755); err != nil {
		return fmt.Errorf("adopt %s: %w", e, err)
	}
	return replaceLink(blob, file)
}

// Link makes the entry's name a link to its blob and returns the name's path. A link of that name that leads elsewhere is
// replaced; a file that somebody put there is an ErrDigest.
func (s *Store) Link(e Entry) (string, error) {
	name := s.Name(e)
	if err := link(name, s.Blob(e)); err != nil {
		return "", fmt.Errorf("link %s: %w", e, err)
	}
	s.Touch(e)
	return name, nil
}

// Version returns a name of the entry's blob that no other version of the file has: the entry's own, in a directory of its
// digest. It is made when it is not there. Where it cannot be made, it is the blob's.
func (s *Store) Version(e Entry) string {
	name := filepath.Join(s.versions(e.SHA256), filepath.FromSlash(e.Name))
	if err := link(name, s.Blob(e)); err != nil {
		return s.Blob(e)
	}
	return name
}

func (s *Store) versions(digest string) string {
	return filepath.Join(s.Dir, "blobs", "versions", digest)
}

// Touch notes that the entry's blob is used now. A note that cannot be written is left out: it only guides what is
// removed first.
func (s *Store) Touch(e Entry) {
	file := s.usedFile(e.SHA256)
	now := time.Now()
	if os.Chtimes(file, now, now) == nil || os.MkdirAll(filepath.Dir(file), 0o755) != nil {
		return
	}
	_ = os.WriteFile(file, nil, 0o644)
}

func (s *Store) usedFile(digest string) string { return filepath.Join(s.Dir, "blobs", "used", digest) }

// Pieces returns the list of an entry's pieces, if the store knows it. A file of one piece is its own list.
func (s *Store) Pieces(e Entry) (PieceList, bool) {
	text, err := os.ReadFile(s.piecesFile(e.Pieces))
	if err != nil || e.Pieces == "" {
		return nil, false
	}
	list, err := ParsePieces(e, text)
	return list, err == nil
}

// PutPieces keeps a list of pieces under its digest.
func (s *Store) PutPieces(list PieceList) error {
	return replaceFile(s.piecesFile(list.Digest()), bytes.NewReader(list.Text()))
}

func (s *Store) piecesFile(digest string) string {
	return filepath.Join(s.Dir, "blobs", "pieces", digest)
}

// fetch writes the blob from the first source that has it.
func (s *Store) fetch(ctx context.Context, e Entry, blob string) error {
	var failed []error
	for _, source := range e.Sources {
		err := s.fetchFrom(ctx, e, source, blob)
		if err == nil || ctx.Err() != nil {
			return err
		}
		failed = append(failed, fmt.Errorf("source %s: %w", source, err))
	}
	err := errors.Join(failed...)
	if errors.Is(err, ErrDigest) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrMissing, err)
}

func (s *Store) fetchFrom(ctx context.Context, e Entry, source, blob string) error {
	fetcher := s.Fetchers[Scheme(source)]
	if fetcher == nil {
		return fmt.Errorf("nothing fetches %s: sources", Scheme(source))
	}
	body, err := fetcher.Fetch(ctx, source)
	if err != nil {
		return err
	}
	defer body.Close()
	return replaceFile(blob, &checked{ctx: ctx, r: body, entry: e, sum: newSum()})
}

// link makes name a link to the blob. A link that leads elsewhere is replaced; a file that somebody put there is not.
func link(name, blob string) error {
	if now, err := os.Stat(name); err == nil {
		if want, err := os.Stat(blob); err == nil && os.SameFile(now, want) {
			return nil
		}
	}
	if info, err := os.Lstat(name); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%w: %s is another file, which the store did not put there", ErrDigest, name)
	}
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	target, err := filepath.Rel(dir, blob)
	if err != nil {
		return err
	}
	return replaceLink(name, target)
}
