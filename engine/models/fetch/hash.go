package fetch

import (
	"context"
	"fmt"
	"io"

	"github.com/comfyrun/comfyrun/engine/models"
)

// Hash reads a file at a source from its beginning to its end and returns what identifies it. progress, which may be nil,
// is told how many bytes came since it was told last.
func (f *Fetcher) Hash(ctx context.Context, url string, progress func(n int)) (models.Sum, error) {
	f.setup()
	source := f.Sources[models.Scheme(url)]
	if source == nil {
		return models.Sum{}, fmt.Errorf("read %s: nothing reads %s: sources here", url, models.Scheme(url))
	}
	r := &resuming{ctx: ctx, f: f, source: source}
	defer r.end()
	err := f.retry(ctx, func() (bool, error) {
		var err error
		r.object, err = f.stat(ctx, source, url)
		return false, err
	}, func(error) {})
	if err == nil {
		var sum models.Sum
		if sum, err = models.HashPieces(ctx, r, progress); err == nil {
			return sum, nil
		}
	}
	return models.Sum{}, fmt.Errorf("read %s: %w", url, err)
}

// resuming reads an object to its end and goes on where a connection broke.
type resuming struct {
	ctx    context.Context
	f      *Fetcher
	source Source
	object Object
	at     int64
	body   io.Reader
	stop   func()
}

func (r *resuming) Read(p []byte) (n int, err error) {
	if r.object.Size >= 0 && r.at >= r.object.Size {
		return 0, io.EOF
	}
	err = r.f.retry(r.ctx, func() (bool, error) {
		if r.body == nil {
			if err := r.open(); err != nil {
				return false, err
			}
		}
		var err error
		n, err = r.body.Read(p)
		r.at += int64(n)
		if err == nil || n > 0 || err == io.EOF && r.object.Size < 0 {
			return true, err
		}
		r.end()
		return false, r.broken(err)
	}, func(error) {})
	return n, err
}

func (r *resuming) open() (err error) {
	length := r.object.Size - r.at
	if r.object.Size < 0 {
		length = 0
	}
	r.body, r.stop, err = r.f.open(r.ctx, r.source, r.object, Range{r.at, length})
	return err
}

// broken is why reading ended too early. What can only be read from its beginning cannot be gone on with.
func (r *resuming) broken(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if r.object.Whole && r.at > 0 {
		return err
	}
	return Temporary(err, 0)
}

func (r *resuming) end() {
	if r.stop != nil {
		r.stop()
	}
	r.body, r.stop = nil, nil
}
