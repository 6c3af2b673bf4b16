package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/comfyrun/comfyrun/engine/models"
)

// partial is an unfinished file and the journal beside it: a line "INDEX SHA256" for each piece that was written. A killed
// process leaves the pieces of its journal; after a power failure some may be wrong, so they are read again before they count.
type partial struct {
	file    *os.File
	journal *os.File
	size    int64

	mu   sync.Mutex
	sums map[int][sha256.Size]byte // of the pieces that are there
}

// journalName is the journal of an unfinished file.
func journalName(file string) string { return file + ".done" }

// openPartial opens or makes the unfinished file, and reserves its space.
func openPartial(file string, size int64) (p *partial, err error) {
	p = &partial{size: size, sums: map[int][sha256.Size]byte{}}
	if p.file, err = os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, err
	}
	if err = reserve(p.file, size); err == nil {
		p.journal, err = os.OpenFile(journalName(file), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	}
	if err != nil {
		p.file.Close()
		return nil, err
	}
	p.read()
	return p, nil
}

// read takes up the journal. A line that was cut off is passed over, and ended so that the next one stands alone.
func (p *partial) read() {
	text, err := io.ReadAll(p.journal)
	if err != nil {
		return
	}
	p.sums = parseJournal(string(text), p.size)
	if len(text) > 0 && text[len(text)-1] != '\n' {
		_, _ = p.journal.WriteString("\n") // if it fails the next note is lost with it, no more
	}
}

func parseJournal(text string, size int64) map[int][sha256.Size]byte {
	sums := map[int][sha256.Size]byte{}
	for line := range strings.SplitSeq(text, "\n") {
		var index int
		var digits string
		if n, _ := fmt.Sscanf(line, "%d %64s", &index, &digits); n != 2 {
			continue
		}
		raw, err := hex.DecodeString(digits)
		if err == nil && len(raw) == sha256.Size && index >= 0 && index < models.PieceCount(size) {
			sums[index] = [sha256.Size]byte(raw)
		}
	}
	return sums
}

// journaledBytes is how much of a file an unfinished download has, by its journal.
func journaledBytes(file string, size int64) int64 {
	text, err := os.ReadFile(journalName(file))
	if err != nil {
		return 0
	}
	total := int64(0)
	for i := range parseJournal(string(text), size) {
		total += models.PieceLength(size, i)
	}
	return total
}

// check reads the pieces of the journal and keeps those that are what it says and, if there is a list, what that says.
func (p *partial) check(ctx context.Context, list models.PieceList) error {
	buf := make([]byte, bufferSize)
	for i, noted := range p.sums {
		sum := sha256.New()
		part := io.NewSectionReader(p.file, int64(i)*models.PieceSize, models.PieceLength(p.size, i))
		_, err := io.CopyBuffer(sum, struct{ io.Reader }{part}, buf)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || [sha256.Size]byte(sum.Sum(nil)) != noted || list != nil && list[i] != noted {
			delete(p.sums, i)
		}
	}
	return nil
}

// missing lists the pieces that are not there, in order.
func (p *partial) missing() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var indices []int
	for i := range models.PieceCount(p.size) {
		if _, ok := p.sums[i]; !ok {
			indices = append(indices, i)
		}
	}
	return indices
}

// bytes is how much is there.
func (p *partial) bytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := int64(0)
	for i := range p.sums {
		total += models.PieceLength(p.size, i)
	}
	return total
}

// done notes a piece that was written.
func (p *partial) done(index int, sum [sha256.Size]byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sums[index] = sum
	_, err := fmt.Fprintf(p.journal, "%d %x\n", index, sum)
	return err
}

// forget makes all pieces count as missing.
func (p *partial) forget() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.sums)
	return p.journal.Truncate(0)
}

func (p *partial) close() error { return errors.Join(p.file.Close(), p.journal.Close()) }
