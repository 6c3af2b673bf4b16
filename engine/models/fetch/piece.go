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
	base, length := int64(index)*models.PieceSize, models.PieceLength(d.e.Size, index)
	h := sha256.New()
	err = d.f.retry(ctx, func() (bool, error) {
		before := n
		body, stop, err := d.f.open(ctx, o.source, o.object, Range{base + n, length - n})
		if err != nil {
			return false, err
		}
		defer stop()
		err = d.copy(ctx, body, h, base, &n, length)
		return n > before, err
	}, func(err error) {
		d.f.tell(Event{Entry: d.e, Kind: EventRetry, Text: fmt.Sprintf("%s: %v", o.url, err)})
	})
	return [sha256.Size]byte(h.Sum(nil)), n, err
}

// copy reads up to length bytes of a piece, of which n are there, hashes them and writes them at base.
func (d *download) copy(ctx context.Context, body io.Reader, h hash.Hash, base int64, n *int64, length int64) error {
	pooled := d.f.bytes.Get().(*[]byte)
	defer d.f.bytes.Put(pooled)
	for *n < length {
		buf := (*pooled)[:min(bufferSize, length-*n)]
		got, readErr := io.ReadFull(body, buf)
		if got > 0 {
			if err := d.write(ctx, buf[:got], base+*n, h); err != nil {
				return err
			}
			*n += int64(got)
		}
		if readErr != nil && *n < length {
			if readErr == io.EOF {
				readErr = io.ErrUnexpectedEOF
			}
			return Temporary(readErr, 0)
		}
	}
	return nil
}

func (d *download) write(ctx context.Context, data []byte, at int64, h hash.Hash) error {
	h.Write(data)
	if at >= 0 {
		if _, err := d.part.file.WriteAt(data, at); err != nil {
			return &diskError{err}
		}
		d.f.tell(Event{Entry: d.e, Kind: EventBytes, Bytes: int64(len(data))})
	}
	if d.f.Rate > 0 {
		return d.f.limit.WaitN(ctx, len(data))
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
	}, func(err error) {
		d.f.tell(Event{Entry: d.e, Kind: EventRetry, Text: fmt.Sprintf("%s: %v", o.url, err)})
	})
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
		h, n, base := sha256.New(), int64(0), int64(i)*models.PieceSize
		if !missing[i] {
			base = -d.e.Size - 1 // below 0: the bytes are there and are not written again
		}
		if err := d.copy(ctx, body, h, base, &n, models.PieceLength(d.e.Size, i)); err != nil {
			return err
		}
		sum := [sha256.Size]byte(h.Sum(nil))
		if !d.right(i, sum) {
			return fmt.Errorf("%w: piece %d of %d is wrong", models.ErrDigest, i+1, len(d.list))
		}
		if missing[i] {
			if err := d.keep(o, i, sum); err != nil {
				return &diskError{err}
			}
		}
	}
	if n, _ := io.ReadFull(body, make([]byte, 1)); n > 0 {
		return fmt.Errorf("%w: longer than %d bytes", models.ErrDigest, d.e.Size)
	}
	return nil
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
