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

// Verify reads a file and compares it with an entry. With a list of its pieces an error says which of them are wrong, and
// at most sample of them, chosen at random, are read if sample is above zero; without a list the whole file is read.
// Differences are ErrDigest.
func Verify(ctx context.Context, file string, e Entry, list PieceList, sample int) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != e.Size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrDigest, file, info.Size(), e.Size)
	}
	if sample > 0 && len(list) > sample {
		return verifyPieces(ctx, f, e, list, rand.Perm(len(list))[:sample])
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{&checked{ctx: ctx, r: f, entry: e, sum: newSum()}}, make([]byte, 1<<20))
	if err != nil && ctx.Err() == nil && len(list) > 0 {
		if err := verifyPieces(ctx, f, e, list, nil); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// verifyPieces compares the pieces with the indices given, all without any.
func verifyPieces(ctx context.Context, f *os.File, e Entry, list PieceList, indices []int) error {
	if indices == nil {
		for i := range list {
			indices = append(indices, i)
		}
	}
	slices.Sort(indices)
	buf := make([]byte, 1<<20)
	for _, i := range indices {
		sum := newSum()
		part := io.NewSectionReader(f, int64(i)*PieceSize, PieceLength(e.Size, i))
		if _, err := hashPiece(ctx, io.TeeReader(part, sum), buf, nil); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		if [sha256.Size]byte(sum.Sum(nil)) != list[i] {
			return fmt.Errorf("%w: %s: piece %d of %d, from byte %d, is wrong", ErrDigest, f.Name(), i+1, len(list), int64(i)*PieceSize)
		}
	}
	return nil
}
