// Package live keeps the models of a running process at what models.lock says, also when that file changes.
//
// Vocabulary: a Set is one reading of models.lock and never changes. A Keeper has the set that is served, checks and
// fetches files of it, and replaces it by the set of a newer models.lock once the files of that are there and work: until
// then, and if they do not, the old one is served. A name is FOLDER/NAME, an entry's or one that its labels make
// (models.Lock.Aliases).
package live

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
)

// Options are what a Keeper is made of.
type Options struct {
	File     string // models.lock
	Optional bool   // a file that is not there is one that pins nothing
	// Fetcher has the store. Its Events become the keeper's.
	Fetcher *fetch.Fetcher
	// Folders are the directories to look into, without pins.
	Folders *models.Folders
	// Sums gives the sha256 of files. One that remembers it makes checks cheap.
	Sums fetch.Sums
	// Missing says that files that are not there may be fetched.
	Missing bool
	// Bytes is told how many bytes arrived; nil for nobody.
	Bytes func(n int64)
}

// Keeper has the set that is served. It is a models.Pins of that set. Its methods may be called from several goroutines at once.
type Keeper struct {
	options Options
	current atomic.Pointer[Set]
	events  hub
}

// Open reads models.lock.
func Open(o Options) (*Keeper, error) {
	k := &Keeper{options: o}
	text, err := k.read()
	if err != nil {
		return nil, err
	}
	s, err := k.newSet(text)
	if err != nil {
		return nil, err
	}
	k.current.Store(s)
	if o.Fetcher != nil {
		o.Fetcher.Events = k.event
	}
	return k, nil
}

// read returns the text of models.lock.
func (k *Keeper) read() (string, error) {
	text, err := os.ReadFile(k.options.File)
	if errors.Is(err, os.ErrNotExist) && k.options.Optional {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read model lock: %w", err)
	}
	return string(text), nil
}

// Set returns the set that is served now.
func (k *Keeper) Set() *Set { return k.current.Load() }

// Names is of models.Pins.
func (k *Keeper) Names(key string) []string { return k.Set().Names(key) }

// Path is of models.Pins.
func (k *Keeper) Path(key, name string) (string, bool) { return k.Set().Path(key, name) }

// Ensure is Set.Ensure of the set that is served.
func (k *Keeper) Ensure(ctx context.Context, names []string, report Report) error {
	return k.Set().Ensure(ctx, names, report)
}

var _ models.Pins = (*Keeper)(nil)
