package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/comfyrun/comfyrun/engine/models"
)

// wrongTries is how often one source may give a piece with the wrong content.
const wrongTries = 3

// piece fetches one piece. A source that fails or gives the wrong content is followed by the next; nil without a
// piece means that only sources are left that can be read from their beginning only, or none.
func (d *download) piece(ctx context.Context, index int) error {
	wrong := map[*origin]int{}
	for {
		o := d.pick(ctx, wrong)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if o == nil || o.object.Whole {
			return nil
		}
		sum, n, err := d.readPiece(ctx, o, index)
		if err == nil && d.right(index, sum) {
			return d.keep(o, index, sum)
		}
		if disk := (*diskError)(nil); ctx.Err() != nil || errors.As(err, &disk) {
			return errors.Join(ctx.Err(), err)
		}
		if err != nil {
			o.drop(err)
		} else {
			wrong[o]++
			err = d.wrong(o, index, wrong[o])
		}
		d.f.tell(Event{Entry: d.e, Kind: EventLost, Bytes: n, Text: fmt.Sprintf("%s: %v", o.url, err)})
	}
}

// right says whether a piece has the content that the list tells, if there is a list.
func (d *download) right(index int, sum [sha256.Size]byte) bool {
	return d.list == nil || d.list[index] == sum
}

func (d *download) keep(o *origin, index int, sum [sha256.Size]byte) error {
	o.mu.Lock()
	o.good++
	o.mu.Unlock()
	return d.part.done(index, sum)
}

// wrong counts a wrong piece. A source that gives one again and again, or wrong ones only, is dropped.
func (d *download) wrong(o *origin, index, times int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bad++
	err := fmt.Errorf("%w: piece %d of %d is wrong", models.ErrDigest, index+1, len(d.list))
	if o.err == nil && (times >= wrongTries || o.good == 0 && o.bad >= wrongTries) {
		o.err = err
	}
	return err
}

// readPiece reads a piece from a source into the partial file. A connection that breaks is followed by one that goes
// on where it broke. n is how many bytes were told of.
func (d *download) readPiece(ctx context.Context, o *origin, index int) (sum [sha256.Size]byte, n int64, err error) {
	p := d.arriving(index)
	err = d.f.retry(ctx, func() (bool, error) {
		before := p.n
		body, stop, err := d.f.open(ctx, o.source, o.object, Range{p.base + p.n, p.length - p.n})
		if err != nil {
			return false, err
		}
		defer stop()
		err = p.copy(ctx, body)
		return p.n > before, err
	}, func(err error) { d.again(o, err) })
	return p.sum(), p.n, err
}

// again tells of a failure that is tried again.
func (d *download) again(o *origin, err error) {
	d.f.tell(Event{Entry: d.e, Kind: EventRetry, Text: fmt.Sprintf("%s: %v", o.url, err)})
}

// arriving is a piece that is being read.
type arriving struct {
	d            *download
	base, length int64
	n            int64 // bytes that came
	hash         hash.Hash
	there        bool // the file has it already: nothing is written
}

func (d *download) arriving(index int) *arriving {
	return &arriving{d: d, base: int64(index) * models.PieceSize, length: models.PieceLength(d.e.Size, index), hash: sha256.New()}
}

func (p *arriving) sum() [sha256.Size]byte { return [sha256.Size]byte(p.hash.Sum(nil)) }

// copy reads what is missing of the piece, hashes it and writes it.
func (p *arriving) copy(ctx context.Context, body io.Reader) error {
	pooled := p.d.f.bytes.Get().(*[]byte)
	defer p.d.f.bytes.Put(pooled)
	for p.n < p.length {
		buf := (*pooled)[:min(bufferSize, p.length-p.n)]
		got, readErr := io.ReadFull(body, buf)
		if got > 0 {
			if err := p.write(ctx, buf[:got]); err != nil {
				return err
			}
			p.n += int64(got)
		}
		if readErr != nil && p.n < p.length {
			if readErr == io.EOF {
				readErr = io.ErrUnexpectedEOF
			}
			return Temporary(readErr, 0)
		}
	}
	return nil
}

func (p *arriving) write(ctx context.Context, data []byte) error {
	p.hash.Write(data)
	if !p.there {
		if _, err := p.d.part.file.WriteAt(data, p.base+p.n); err != nil {
			return &diskError{err}
		}
		p.d.f.tell(Event{Entry: p.d.e, Kind: EventBytes, Bytes: int64(len(data))})
	}
	if p.d.f.Rate > 0 {
		return p.d.f.limit.WaitN(ctx, len(data))
	}
	return nil
}

// diskError is a failure to write, which no source can help.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }

func (e *diskError) Unwrap() error {
	if errors.Is(e.err, syscall.ENOSPC) {
		return errors.Join(ErrSpace, e.err)
	}
	return e.err
}

// stream reads a source that can only be read from its beginning, and keeps the pieces that are missing.
func (d *download) stream(ctx context.Context, o *origin) error {
	err := d.f.retry(ctx, func() (bool, error) {
		before := len(d.part.missing())
		err := d.streamOnce(ctx, o)
		return len(d.part.missing()) < before, err
	}, func(err error) { d.again(o, err) })
	if disk := (*diskError)(nil); ctx.Err() != nil || errors.As(err, &disk) {
		return errors.Join(ctx.Err(), err)
	}
	if err != nil {
		o.drop(err)
	}
	return nil
}

func (d *download) streamOnce(ctx context.Context, o *origin) error {
	body, stop, err := d.f.open(ctx, o.source, o.object, Range{0, d.e.Size})
	if err != nil {
		return err
	}
	defer stop()
	missing := map[int]bool{}
	for _, i := range d.part.missing() {
		missing[i] = true
	}
	for i := range models.PieceCount(d.e.Size) {
		p := d.arriving(i)
		p.there = !missing[i]
		if err := p.copy(ctx, body); err != nil {
			d.lose(p)
			return err
		}
		if !d.right(i, p.sum()) {
			d.lose(p)
			return fmt.Errorf("%w: piece %d of %d is wrong", models.ErrDigest, i+1, len(d.list))
		}
		if missing[i] {
			if err := d.keep(o, i, p.sum()); err != nil {
				return &diskError{err}
			}
		}
	}
	if n, _ := io.ReadFull(body, make([]byte, 1)); n > 0 {
		return fmt.Errorf("%w: longer than %d bytes", models.ErrDigest, d.e.Size)
	}
	return nil
}

// lose tells that what came of a piece counts no more.
func (d *download) lose(p *arriving) {
	if !p.there {
		d.f.tell(Event{Entry: d.e, Kind: EventLost, Bytes: p.n})
	}
}

// retry calls try until it gives no error, one that does not pass, or too many in a row without progress. again is told
// of errors that are tried again.
func (f *Fetcher) retry(ctx context.Context, try func() (progress bool, err error), again func(error)) error {
	for fails := 0; ; {
		progress, err := try()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if progress {
			fails = 0
		}
		fails++
		after, passes := passing(err)
		if !passes || fails >= f.Tries {
			return err
		}
		again(err)
		pause := min(f.Pause<<min(fails-1, 20), 40*f.Pause)
		pause = max(after, pause/2+rand.N(pause/2+1))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
