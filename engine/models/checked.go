package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"slices"
)

func newSum() hash.Hash { return sha256.New() }

// checked reads a model file and fails at its end, or before, unless it is the entry's, and when ctx ends.
type checked struct {
	ctx   context.Context
	r     io.Reader
	entry Entry
	sum   hash.Hash
	n     int64
}

func (c *checked) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
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

// Check is a comparison of a file with an entry.
type Check struct {
	File   string
	Entry  Entry
	Pieces PieceList // of the entry; nil when not known
	Sample int       // above 0: how many pieces to read at most, if they are known
}

// Verify reads the file and compares it with the entry. With a list of its pieces an error says which of them is wrong,
// and a sample of them is chosen at random; without one the whole file is read. Differences are ErrDigest.
func (c Check) Verify(ctx context.Context) error {
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != c.Entry.Size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrDigest, c.File, info.Size(), c.Entry.Size)
	}
	if c.Sample > 0 && len(c.Pieces) > c.Sample {
		return c.pieces(ctx, f, rand.Perm(len(c.Pieces))[:c.Sample])
	}
	whole := &checked{ctx: ctx, r: f, entry: c.Entry, sum: newSum()}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{whole}, make([]byte, 1<<20))
	if err != nil && ctx.Err() == nil {
		if err := c.pieces(ctx, f, rand.Perm(len(c.Pieces))); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	return nil
}

// pieces compares the pieces with the indices given.
func (c Check) pieces(ctx context.Context, f *os.File, indices []int) error {
	slices.Sort(indices)
	buf := make([]byte, 1<<20)
	for _, i := range indices {
		sum := newSum()
		part := io.NewSectionReader(f, int64(i)*PieceSize, PieceLength(c.Entry.Size, i))
		if _, err := hashPiece(ctx, io.TeeReader(part, sum), buf, nil); err != nil {
			return fmt.Errorf("%s: %w", c.File, err)
		}
		if [sha256.Size]byte(sum.Sum(nil)) != c.Pieces[i] {
			return fmt.Errorf("%w: %s: piece %d of %d, from byte %d, is wrong", ErrDigest, c.File, i+1, len(c.Pieces), int64(i)*PieceSize)
		}
	}
	return nil
}
