package models

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// PieceSize is the length of the pieces that a file is hashed in, in bytes: 16 MiB. The last piece may be shorter.
const PieceSize = 16 << 20

// PieceList is the sha256 of each piece of a file, in order. With it a piece can be checked before the others are there.
// An empty file has no pieces.
type PieceList [][sha256.Size]byte

// Sum is what identifies a file's content.
type Sum struct {
	Size   int64
	SHA256 string // of the whole
	Pieces PieceList
}

// PieceCount is the number of pieces of a file of so many bytes.
func PieceCount(size int64) int { return int((size + PieceSize - 1) / PieceSize) }

// PieceLength is the length of the piece with an index, from 0, of a file of so many bytes.
func PieceLength(size int64, index int) int64 { return min(PieceSize, size-int64(index)*PieceSize) }

// Text is the list as it is stored beside a file: a line of 64 hexadecimal digits for each piece.
func (l PieceList) Text() []byte {
	var b bytes.Buffer
	for _, sum := range l {
		fmt.Fprintf(&b, "%x\n", sum)
	}
	return b.Bytes()
}

// Digest is the sha256 of the list's text: what an Entry pins.
func (l PieceList) Digest() string {
	sum := sha256.Sum256(l.Text())
	return hex.EncodeToString(sum[:])
}

// ParsePieces reads the text of the list of an entry's pieces. What is not the text that the entry pins is an ErrDigest.
func ParsePieces(e Entry, text []byte) (PieceList, error) {
	sum := sha256.Sum256(text)
	if got := hex.EncodeToString(sum[:]); got != e.Pieces {
		return nil, fmt.Errorf("%w: sha256 of the list of pieces is %s, want %s", ErrDigest, got, e.Pieces)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(text) == 0 {
		lines = nil
	}
	if len(lines) != PieceCount(e.Size) {
		return nil, fmt.Errorf("%w: the list has %d pieces, and %d bytes are %d", ErrDigest, len(lines), e.Size, PieceCount(e.Size))
	}
	list := make(PieceList, len(lines))
	for i, line := range lines {
		raw, err := hex.DecodeString(line)
		if err != nil || len(raw) != sha256.Size {
			return nil, fmt.Errorf("%w: line %d of the list of pieces is no sha256", ErrDigest, i+1)
		}
		copy(list[i][:], raw)
	}
	return list, nil
}

// HashPieces reads a file to its end and returns what identifies it. progress, which may be nil, is told how many bytes
// were read since it was told last.
func HashPieces(ctx context.Context, r io.Reader, progress func(n int)) (Sum, error) {
	whole := sha256.New()
	sum := Sum{}
	buf := make([]byte, 1<<20)
	for {
		piece := sha256.New()
		n, err := hashPiece(ctx, io.TeeReader(io.LimitReader(r, PieceSize), io.MultiWriter(whole, piece)), buf, progress)
		sum.Size += n
		if err != nil {
			return Sum{}, err
		}
		if n > 0 {
			sum.Pieces = append(sum.Pieces, [sha256.Size]byte(piece.Sum(nil)))
		}
		if n < PieceSize {
			sum.SHA256 = hex.EncodeToString(whole.Sum(nil))
			return sum, nil
		}
	}
}

func hashPiece(ctx context.Context, r io.Reader, buf []byte, progress func(n int)) (int64, error) {
	total := int64(0)
	for {
		n, err := r.Read(buf)
		total += int64(n)
		if n > 0 && progress != nil {
			progress(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return total, err
		}
	}
}
