package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/comfyrun/comfyrun/engine/models"
)

// download is one file on its way.
type download struct {
	f       *Fetcher
	e       models.Entry
	list    models.PieceList // nil when not known
	part    *partial
	origins []*origin
}

// origin is one of an entry's sources.
type origin struct {
	url    string
	source Source

	mu     sync.Mutex
	looked bool // the object was looked up
	object Object
	err    error // why it is not used any more
	good   int   // pieces that were right
	bad    int   // pieces that were not
}

func (o *origin) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

func (o *origin) drop(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
}

// download brings an entry's blob into the store. It alone writes the blob: others wait for its lock and then find it.
func (f *Fetcher) download(ctx context.Context, e models.Entry) error {
	unlock, held, err := f.Store.Lock(ctx, e, func() { f.tell(Event{Entry: e, Kind: EventWait, Text: "somebody else fetches it"}) })
	if err != nil {
		return err
	}
	defer unlock()
	if f.Store.Has(e) {
		return nil
	}
	file := f.Store.Partial(e)
	if !held {
		// Without locks somebody else may write too: each into a file of its own.
		file = fmt.Sprintf("%s.%d", file, os.Getpid())
		defer removePartial(file)
	}
	part, err := openPartial(file, e.Size)
	if err != nil {
		return errors.Join(err, removePartial(file))
	}
	d := &download{f: f, e: e, part: part}
	err = errors.Join(d.fetch(ctx), part.close())
	if err != nil {
		return err
	}
	if err := f.Store.Put(e, file); err != nil {
		return err
	}
	return removePartial(file)
}

func removePartial(file string) error {
	return errors.Join(ignoreAbsent(os.Remove(file)), ignoreAbsent(os.Remove(journalName(file))))
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// fetch fills the partial file and syncs it. It ends well only with the entry's content.
func (d *download) fetch(ctx context.Context) error {
	for _, url := range d.e.Sources {
		o := &origin{url: url, source: d.f.Sources[models.Scheme(url)]}
		if o.source == nil {
			o.err = fmt.Errorf("nothing reads %s: sources here", models.Scheme(url))
		}
		d.origins = append(d.origins, o)
	}
	d.list = d.pieceList(ctx)
	if err := d.part.check(ctx, d.list); err != nil {
		return err
	}
	d.f.tell(Event{Entry: d.e, Kind: EventStart, Bytes: d.part.bytes()})
	for {
		mixed := d.part.bytes() > 0
		if err := d.pieces(ctx); err != nil {
			return err
		}
		err := d.checkWhole(ctx)
		if err == nil {
			return d.part.file.Sync()
		}
		if err := d.startOver(err, mixed); err != nil {
			return err
		}
	}
}

// checkWhole compares the file with the entry where the pieces were not compared with a list.
func (d *download) checkWhole(ctx context.Context) error {
	if d.list != nil {
		return nil
	}
	return models.Check{File: d.part.file.Name(), Entry: d.e}.Verify(ctx)
}

// startOver throws away a file that is wrong somewhere. When all of it came from one source now, that one is not asked
// again; when some of it came at another time or from a source that failed since, the same ones are.
func (d *download) startOver(wrong error, mixed bool) error {
	if !errors.Is(wrong, models.ErrDigest) || d.part.bytes() == 0 {
		return wrong
	}
	lost := d.part.bytes()
	if err := d.part.forget(); err != nil {
		return err
	}
	d.f.tell(Event{Entry: d.e, Kind: EventLost, Bytes: lost, Text: wrong.Error()})
	var givers []*origin
	for _, o := range d.origins {
		if o.good > 0 {
			givers = append(givers, o)
			o.good = 0
		}
	}
	if !mixed && len(givers) == 1 {
		givers[0].drop(wrong)
	}
	return nil
}

// pieceList finds the list of the file's pieces: in the store, or beside the file at a source. Without one the download
// can be checked as a whole only.
func (d *download) pieceList(ctx context.Context) models.PieceList {
	if models.PieceCount(d.e.Size) == 1 {
		raw, _ := hex.DecodeString(d.e.SHA256) // it was checked
		return models.PieceList{[sha256.Size]byte(raw)}
	}
	if list, ok := d.f.Store.Pieces(d.e); ok || d.e.Pieces == "" {
		return list
	}
	for _, o := range d.origins {
		if o.failed() != nil {
			continue
		}
		text, err := d.f.readAll(ctx, o.source, PiecesURL(o.url), int64(models.PieceCount(d.e.Size))*(2*sha256.Size+1))
		if err != nil {
			continue
		}
		if list, err := models.ParsePieces(d.e, text); err == nil {
			_ = d.f.Store.PutPieces(list) // it is at the source too
			return list
		}
	}
	return nil
}

// pieces fetches all pieces that are missing.
func (d *download) pieces(ctx context.Context) error {
	for {
		missing := d.part.missing()
		if len(missing) == 0 {
			return nil
		}
		o := d.pick(ctx, nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if o == nil {
			return d.failure()
		}
		var err error
		if o.object.Whole {
			err = d.stream(ctx, o)
		} else {
			err = d.parallel(ctx, missing)
		}
		if err != nil {
			return err
		}
	}
}

// parallel fetches pieces with as many requests as there may be. It may leave some for sources that can be read from the
// beginning only.
func (d *download) parallel(ctx context.Context, missing []int) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(len(missing), d.f.Connections) {
		group.Go(func() error {
			for {
				at := int(next.Add(1)) - 1
				if at >= len(missing) {
					return nil
				}
				if err := d.piece(ctx, missing[at]); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// pick returns a source that can be read: the first that gave no wrong content for the piece in question, or the one that gave
// it the fewest times. It is nil when none is left.
func (d *download) pick(ctx context.Context, wrong map[*origin]int) *origin {
	var best *origin
	for _, o := range d.origins {
		if !d.ready(ctx, o) || best != nil && wrong[o] >= wrong[best] {
			continue
		}
		if best = o; wrong[o] == 0 {
			break
		}
	}
	return best
}

// ready looks up the object of a source once and says whether it can be used.
func (d *download) ready(ctx context.Context, o *origin) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil || o.looked {
		return o.err == nil
	}
	err := d.f.retry(ctx, func() (bool, error) {
		var err error
		o.object, err = d.f.stat(ctx, o.source, o.url)
		return false, err
	}, func(err error) { d.again(o, err) })
	if ctx.Err() != nil {
		return false
	}
	if err == nil && o.object.Size >= 0 && o.object.Size != d.e.Size {
		err = fmt.Errorf("%w: it has %d bytes, want %d", models.ErrDigest, o.object.Size, d.e.Size)
	}
	o.looked, o.err = true, err
	return err == nil
}

// failure says why no source is left.
func (d *download) failure() error {
	var all []error
	for _, o := range d.origins {
		all = append(all, fmt.Errorf("source %s: %w", o.url, o.failed()))
	}
	err := errors.Join(all...)
	if errors.Is(err, models.ErrDigest) || errors.Is(err, models.ErrMissing) {
		return err
	}
	return fmt.Errorf("%w: %w", models.ErrMissing, err)
}
