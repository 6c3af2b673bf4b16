package live

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/comfyrun/comfyrun/engine/models"
)

// Follower is what follows a changed models.lock. Its fields may be nil, and are called one at a time.
type Follower struct {
	// Every is how often the file is looked at; 0 stands for a second.
	Every time.Duration
	// Only says that files are not needed here: sets are replaced without a look at them.
	Only bool
	// Needed lists names that have to be there beside those that were.
	Needed func() []string
	// Warm loads the files of names out of a set that is not served yet, and runs them.
	Warm func(ctx context.Context, next *Set, names []string) error
	// Idle calls replace at a moment at which nothing uses the set that is served.
	Idle func(ctx context.Context, replace func()) error
	// Unused is told of files that no set serves any more: what was loaded from them may go. Paths have no links in them.
	Unused func(files []string)
	// Outcome is told how a change went, once for each attempt.
	Outcome func(Outcome)
}

// Outcome is what came of a changed models.lock.
type Outcome struct {
	Names []string // that lead to other content now, or would; sorted
	Took  time.Duration
	Err   error // why the set before is still served; nil: it is not
}

// Bounds of the time between attempts at a set that cannot be served; each pause is twice the one before.
const (
	firstPause = 5 * time.Second
	lastPause  = 5 * time.Minute
)

// errChanged ends an attempt at a set when models.lock has changed again.
var errChanged = errors.New("models.lock changed again")

// Watch looks at models.lock until ctx ends, and serves what it says when that can be served.
func (k *Keeper) Watch(ctx context.Context, f Follower) {
	if f.Every <= 0 {
		f.Every = time.Second
	}
	var failed attempt
	seen := k.Set().text
	for pause(ctx, f.Every) {
		text, err := k.read()
		if err == nil && text != seen { // it may be half written: it counts when it stays
			seen = text
			continue
		}
		switch {
		case err == nil && text == k.Set().text:
			if failed.err != nil { // it is as it was again
				f.outcome(Outcome{})
			}
			failed = attempt{}
			continue
		case failed.stands(text, err):
			continue
		}
		if text != failed.text {
			failed = attempt{}
		}
		outcome := k.follow(ctx, f, text, err)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(outcome.Err, errChanged) {
			continue
		}
		f.outcome(outcome)
		failed.note(text, outcome.Err)
	}
}

// attempt is the last one, if it failed.
type attempt struct {
	text  string
	err   error
	again time.Time
	pause time.Duration
}

// stands reports whether there is nothing to be gained from another attempt now.
func (a *attempt) stands(text string, err error) bool {
	if a.err == nil {
		return false
	}
	if err != nil {
		return a.err.Error() == err.Error()
	}
	return a.text == text && time.Now().Before(a.again)
}

func (a *attempt) note(text string, err error) {
	a.text, a.err = text, err
	a.pause = min(max(2*a.pause, firstPause), lastPause)
	a.again = time.Now().Add(a.pause)
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (f *Follower) outcome(o Outcome) {
	if f.Outcome != nil {
		f.Outcome(o)
	}
}

// follow makes one attempt at serving a text; err is why it could not be read.
func (k *Keeper) follow(ctx context.Context, f Follower, text string, err error) (o Outcome) {
	began := time.Now()
	defer func() { o.Took = time.Since(began) }()
	if err != nil {
		return Outcome{Err: err}
	}
	next, err := k.newSet(text)
	if err != nil {
		return Outcome{Err: err}
	}
	ctx, stop := k.whileUnchanged(ctx, text, f.Every)
	defer stop()
	change := k.compare(next)
	o.Names = change.names
	if !f.Only {
		err = change.prepare(ctx, f)
	}
	if err == nil {
		err = change.replace(ctx, f)
	}
	if err != nil && errors.Is(context.Cause(ctx), errChanged) {
		err = errChanged
	}
	o.Err = err
	change.drop(f, err == nil)
	return o
}

// whileUnchanged returns a context that ends when models.lock does not have the text any more.
func (k *Keeper) whileUnchanged(ctx context.Context, text string, every time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		for pause(ctx, every) {
			if now, err := k.read(); err == nil && now != text {
				cancel(errChanged)
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// change leads from the set that is served to the next one.
type change struct {
	keeper    *Keeper
	was, next *Set
	names     []string // whose content differs, sorted
	here      []string // of those: whose file was there
}

func (k *Keeper) compare(next *Set) *change {
	c := &change{keeper: k, was: k.Set(), next: next}
	for _, name := range next.All() {
		old, before := c.was.names[name]
		if !before || old.SHA256 == next.names[name].SHA256 {
			continue
		}
		c.names = append(c.names, name)
		if _, there := c.was.file(old); there {
			c.here = append(c.here, name)
		}
	}
	return c
}

// prepare brings the files of the next set and tries them. What nobody had so far comes when it is asked for.
func (c *change) prepare(ctx context.Context, f Follower) error {
	names := c.here
	if f.Needed != nil {
		names = append(slices.Clone(names), f.Needed()...)
	}
	if err := c.next.ensure(ctx, names, wanted{beside: true}); err != nil {
		return err
	}
	if f.Warm == nil || len(c.here) == 0 {
		return nil
	}
	if err := f.Warm(ctx, c.next, c.here); err != nil {
		return fmt.Errorf("try new models: %w", err)
	}
	return nil
}

// replace serves the next set.
func (c *change) replace(ctx context.Context, f Follower) error {
	swap := func() {
		c.keeper.current.Store(c.next)
		if f.Only {
			return
		}
		for _, e := range c.next.entries(c.here) {
			if c.keeper.options.Fetcher.Store.Has(e) {
				// A file that somebody put there by hand keeps the name for others; here the pin counts.
				_, _ = c.keeper.options.Fetcher.Store.Link(e)
			}
		}
	}
	if f.Idle == nil {
		swap()
		return nil
	}
	return f.Idle(ctx, swap)
}

// drop tells which files are of no more use: those of the old set, or of the next one when it was not to be.
func (c *change) drop(f Follower, replaced bool) {
	gone, stays := c.was, c.next
	if !replaced {
		gone, stays = c.next, c.was
	}
	kept := map[string]bool{}
	for _, e := range stays.names {
		if file, ok := stays.real(e); ok {
			kept[file] = true
		}
	}
	var files []string
	for _, e := range gone.entries(c.names) {
		if file, ok := gone.real(e); ok && !kept[file] {
			kept[file] = true
			files = append(files, file)
		}
	}
	if len(files) > 0 && f.Unused != nil {
		f.Unused(files)
	}
}

// real is the file of an entry without links.
func (s *Set) real(e models.Entry) (string, bool) {
	file, ok := s.file(e)
	if !ok {
		return "", false
	}
	file, err := filepath.EvalSymlinks(file)
	return file, err == nil
}
