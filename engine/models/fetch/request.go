package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

var errStalled = errors.New("nothing came for too long")

// PiecesURL is where the list of a file's pieces lies: beside the file.
func PiecesURL(url string) string {
	path, query, found := strings.Cut(url, "?")
	if !found {
		return url + ".pieces"
	}
	return path + ".pieces?" + query
}

// watched is a body whose reads are given up when nothing comes for a while.
type watched struct {
	io.ReadCloser
	timer *time.Timer
	stall time.Duration
	ctx   context.Context
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.ReadCloser.Read(p)
	w.timer.Stop()
	if err != nil && context.Cause(w.ctx) == errStalled {
		err = errStalled
	}
	return n, err
}

// open begins a request when there is a slot for it; stop ends it and gives the slot back.
func (f *Fetcher) open(ctx context.Context, s Source, o Object, r Range) (body io.Reader, stop func(), err error) {
	select {
	case f.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(f.Stall, func() { cancel(errStalled) })
	opened, err := s.Open(ctx, o, r)
	timer.Stop()
	if err != nil {
		err = f.explained(ctx, err)
		cancel(nil)
		<-f.slots
		return nil, nil, err
	}
	stop = func() {
		timer.Stop()
		cancel(nil)
		opened.Close()
		<-f.slots
	}
	return &watched{opened, timer, f.Stall, ctx}, stop, nil
}

// stat looks up a file under the same conditions.
func (f *Fetcher) stat(ctx context.Context, s Source, url string) (Object, error) {
	select {
	case f.slots <- struct{}{}:
	case <-ctx.Done():
		return Object{}, ctx.Err()
	}
	defer func() { <-f.slots }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(f.Stall, func() { cancel(errStalled) })
	defer timer.Stop()
	o, err := s.Stat(ctx, url)
	if err != nil {
		return Object{}, f.explained(ctx, err)
	}
	return o, nil
}

// explained tells a request that was given up for its silence from others.
func (f *Fetcher) explained(ctx context.Context, err error) error {
	if context.Cause(ctx) == errStalled {
		return Temporary(fmt.Errorf("%w (%v)", errStalled, f.Stall), 0)
	}
	return err
}

// readAll reads a small file that has at most limit bytes.
func (f *Fetcher) readAll(ctx context.Context, s Source, url string, limit int64) ([]byte, error) {
	var data []byte
	err := f.retry(ctx, func() (bool, error) {
		o, err := f.stat(ctx, s, url)
		if err != nil {
			return false, err
		}
		if o.Size > limit {
			return false, fmt.Errorf("%s has %d bytes, want at most %d", url, o.Size, limit)
		}
		length := o.Size
		if length < 0 {
			length = limit
		}
		body, stop, err := f.open(ctx, s, o, Range{0, length})
		if err != nil {
			return false, err
		}
		defer stop()
		if data, err = io.ReadAll(io.LimitReader(body, limit)); err != nil {
			return false, Temporary(err, 0)
		}
		return true, nil
	}, func(error) {})
	return data, err
}
