// Package fetch brings locked model files into a store: from object storage, the web, other folders, in parallel, and
// only as what they were locked as.
//
// Vocabulary: a Source is a kind of place, such as https; an object is a file at one, with a size and a version; a piece is
// 16 MiB of a file (models.PieceSize), the unit in which content is asked for, hashed and written; the pieces that arrived are
// noted in a journal, so that a download goes on where a killed process left it. A Plan says what would be done and is made
// without asking any source.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/comfyrun/comfyrun/engine/models"
)

// Source gives access to files at one kind of place. Its methods are called from several goroutines at once. Errors that
// may pass are marked with Temporary.
type Source interface {
	// Stat looks up a file without reading it.
	Stat(ctx context.Context, url string) (Object, error)
	// Open reads a part of the object that Stat returned, or fails when it is another one by now (ErrChanged).
	Open(ctx context.Context, o Object, r Range) (io.ReadCloser, error)
}

// Object is a file at a source.
type Object struct {
	URL     string
	Size    int64  // bytes; -1 when the source does not tell
	Version string // differs when the content does, such as an ETag; "" when the source does not tell
	Whole   bool   // it can be read from its beginning only
}

// Range is a part of a file in bytes.
type Range struct{ Offset, Length int64 }

// ErrChanged marks an object that is not any more the one that a download began with.
var ErrChanged = errors.New("the object changed during the download")

// ErrSpace marks a disk that is too full.
var ErrSpace = errors.New("not enough space")

// Sums gives the sha256 of a file in hexadecimal; it may remember it.
type Sums interface {
	Digest(ctx context.Context, file string) (string, error)
}

// Fetcher fetches entries into a store. Its fields are set before the first call.
type Fetcher struct {
	Store   *models.Store
	Sources map[string]Source // by scheme
	// Folders are searched for files to adopt instead of a download; nil for none.
	Folders *models.Folders
	// Sums hashes what may be adopted; nil reads it each time.
	Sums Sums
	// Connections bounds the requests at one time over all files; 0 stands for 8.
	Connections int
	// Rate bounds what arrives, in bytes per second over all files; 0 is no bound.
	Rate int64
	// Stall is how long a source may send nothing; 0 stands for 30 s.
	Stall time.Duration
	// Tries is how often in a row a source may fail without sending anything before it is given up; 0 stands for 8.
	Tries int
	// Pause is how long the first of those failures is waited for, each further one twice as long up to 40 times that; 0
	// stands for 250 ms. A source that asks for more time gets it.
	Pause time.Duration
	// Events is told how downloads go; nil for nobody. It is called by several goroutines at once.
	Events func(Event)

	once  sync.Once
	slots chan struct{}
	limit *rate.Limiter
	bytes sync.Pool
}

// Event is a moment of a download.
type Event struct {
	Entry models.Entry
	Kind  EventKind
	Bytes int64  // of EventBytes: how many came; of EventStart: how many are there already
	Text  string // what there is to say
}

// EventKind says what an Event tells.
type EventKind int

// The kinds of events.
const (
	EventStart EventKind = iota // a download begins or goes on
	EventBytes                  // bytes were written
	EventLost                   // bytes that were written count no more
	EventWait                   // somebody else fetches the file
	EventRetry                  // something went wrong and is tried again
	EventDone                   // the file is in the store under its name
)

const bufferSize = 256 << 10

func (f *Fetcher) setup() {
	f.once.Do(func() {
		if f.Connections <= 0 {
			f.Connections = 8
		}
		if f.Stall <= 0 {
			f.Stall = 30 * time.Second
		}
		if f.Tries <= 0 {
			f.Tries = 8
		}
		if f.Pause <= 0 {
			f.Pause = 250 * time.Millisecond
		}
		f.slots = make(chan struct{}, f.Connections)
		f.limit = rate.NewLimiter(rate.Inf, 0)
		if f.Rate > 0 {
			f.limit = rate.NewLimiter(rate.Limit(f.Rate), bufferSize)
		}
		f.bytes.New = func() any { buf := make([]byte, bufferSize); return &buf }
	})
}

func (f *Fetcher) tell(e Event) {
	if f.Events != nil {
		f.Events(e)
	}
}

// filesAtOnce bounds the files that are fetched at one time; connections are shared among them.
const filesAtOnce = 4

// Fetch does what a plan says. A file that cannot be had does not keep the others from coming; the error has all that
// went wrong. Several calls may run at one time; a file that two of them want comes once.
func (f *Fetcher) Fetch(ctx context.Context, plan *Plan) error {
	f.setup()
	if err := f.checkSpace(plan); err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(filesAtOnce)
	failed := make([]error, len(plan.Items))
	for i, item := range plan.Items {
		group.Go(func() error {
			failed[i] = f.do(ctx, item, !plan.Unnamed)
			return nil
		})
	}
	_ = group.Wait() // the errors are in failed
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(failed...)
}

// do brings one file into the store and, if wanted, shows it under its name.
func (f *Fetcher) do(ctx context.Context, item Item, named bool) error {
	var err error
	switch item.Action {
	case ActionAdopt:
		err = f.Store.Adopt(item.Entry, item.File)
	case ActionFetch:
		err = f.download(ctx, item.Entry)
	}
	if err == nil && named {
		_, err = f.Store.Link(item.Entry)
	}
	if err != nil {
		return fmt.Errorf("fetch %s: %w", item.Entry, err)
	}
	f.tell(Event{Entry: item.Entry, Kind: EventDone})
	return nil
}
