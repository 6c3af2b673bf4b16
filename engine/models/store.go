package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Fetcher opens a model file at one kind of source. What it gives is checked by the caller; it need not be.
type Fetcher interface {
	Fetch(ctx context.Context, source string) (io.ReadCloser, error)
}

// Store keeps model files by content in Dir/blobs/sha256 and links names to them in Dir/models, which is laid out as a
// ComfyUI models directory. Several processes may use one store.
type Store struct {
	Dir      string
	Fetchers map[string]Fetcher // by scheme of the source: "https", "embed"
}

// Ensure makes the store hold an entry's file under its name and returns the name's path. A file that is there already
// costs a look at its size; otherwise the sources are tried in order. Errors are ErrDigest when content differs from the
// entry, ErrMissing when no source gave a file.
func (s *Store) Ensure(ctx context.Context, e Entry) (string, error) {
	if err := e.Check(); err != nil {
		return "", fmt.Errorf("ensure %w", err)
	}
	blob := s.blob(e)
	if info, err := os.Stat(blob); err != nil || info.Size() != e.Size {
		if err := s.fetch(ctx, e, blob); err != nil {
			return "", fmt.Errorf("ensure model %q: %w", e.Name, err)
		}
	}
	name := filepath.Join(s.Dir, "models", filepath.FromSlash(e.Name))
	if err := link(name, blob); err != nil {
		return "", fmt.Errorf("ensure model %q: %w", e.Name, err)
	}
	return name, nil
}

func (s *Store) blob(e Entry) string { return filepath.Join(s.Dir, "blobs", "sha256", e.SHA256) }

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
	fetcher := s.Fetchers[scheme(source)]
	if fetcher == nil {
		return fmt.Errorf("nothing fetches %s: sources", scheme(source))
	}
	body, err := fetcher.Fetch(ctx, source)
	if err != nil {
		return err
	}
	defer body.Close()
	cancellable := readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return body.Read(p)
	})
	return replaceFile(blob, &checked{r: cancellable, entry: e, sum: sha256.New()})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// checked reads a model file and fails at its end, or before, unless it is the entry's.
type checked struct {
	r     io.Reader
	entry Entry
	sum   hash.Hash
	n     int64
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.sum.Write(p[:n])
	if c.n > c.entry.Size {
		return 0, fmt.Errorf("%w: longer than %d bytes", ErrDigest, c.entry.Size)
	}
	if err == io.EOF {
		return n, c.end()
	}
	return n, err
}

func (c *checked) end() error {
	if c.n < c.entry.Size {
		return fmt.Errorf("%w: ends after %d of %d bytes", ErrDigest, c.n, c.entry.Size)
	}
	if got := hex.EncodeToString(c.sum.Sum(nil)); got != c.entry.SHA256 {
		return fmt.Errorf("%w: sha256 is %s, want %s", ErrDigest, got, c.entry.SHA256)
	}
	return io.EOF
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
