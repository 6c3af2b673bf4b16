package fetch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/comfyrun/comfyrun/engine/models"
)

// Action is what is done about an entry.
type Action string

// The actions.
const (
	ActionNone  Action = "present" // the store has it
	ActionAdopt Action = "adopt"   // a file in a folder has the content; it is linked to
	ActionFetch Action = "fetch"
)

// Plan is what Fetch would do.
type Plan struct {
	Items []Item `json:"items"`
	Bytes int64  `json:"bytes"` // to download, less what unfinished downloads have
	Room  int64  `json:"room"`  // to take on the store's disk, less what unfinished downloads have reserved
	Free  int64  `json:"free"`  // on the store's disk

	// Unnamed keeps the names as they are: the files come into the store and are not shown.
	Unnamed bool `json:"-"`
}

// Item is what Fetch would do about one entry.
type Item struct {
	Entry  models.Entry `json:"entry"`
	Action Action       `json:"action"`
	File   string       `json:"file,omitempty"`  // to adopt
	Bytes  int64        `json:"bytes,omitempty"` // to download
	Room   int64        `json:"room,omitempty"`  // to take on the disk
}

// Plan looks at the store and the folders, and decides. No source is asked. An entry none of whose sources can be read
// is an error.
func (f *Fetcher) Plan(ctx context.Context, entries []models.Entry) (*Plan, error) {
	f.setup()
	plan := &Plan{Free: freeBytes(f.Store.Dir)}
	for _, e := range entries {
		if err := e.Check(); err != nil {
			return nil, fmt.Errorf("plan fetch: %w", err)
		}
		item, err := f.plan(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("plan fetch: %s: %w", e, err)
		}
		if item.Action == ActionFetch && slices.ContainsFunc(plan.Items, func(other Item) bool { return other.Entry.SHA256 == e.SHA256 }) {
			item.Bytes, item.Room = 0, 0 // one download serves both names
		}
		plan.Items = append(plan.Items, item)
		plan.Bytes += item.Bytes
		plan.Room += item.Room
	}
	return plan, nil
}

func (f *Fetcher) plan(ctx context.Context, e models.Entry) (Item, error) {
	if f.Store.Has(e) {
		return Item{Entry: e, Action: ActionNone}, nil
	}
	file, err := f.adoptable(ctx, e)
	if err != nil {
		return Item{}, err
	}
	if file != "" {
		return Item{Entry: e, Action: ActionAdopt, File: file}, nil
	}
	if err := f.readable(e); err != nil {
		return Item{}, err
	}
	part := f.Store.Partial(e)
	return Item{
		Entry: e, Action: ActionFetch,
		Bytes: max(0, e.Size-journaledBytes(part, e.Size)), Room: max(0, e.Size-reservedBytes(part)),
	}, nil
}

// reservedBytes is what a file takes on the disk, which is not what it is long when parts were never written.
func reservedBytes(file string) int64 {
	var stat syscall.Stat_t
	if err := syscall.Stat(file, &stat); err != nil {
		return 0
	}
	return stat.Blocks * 512
}

// readable reports why no source of an entry can be read.
func (f *Fetcher) readable(e models.Entry) error {
	for _, source := range e.Sources {
		if f.Sources[models.Scheme(source)] != nil {
			return nil
		}
	}
	return fmt.Errorf("%w: nothing reads %s", models.ErrMissing, strings.Join(e.Sources, ", "))
}

// adoptable finds a file in the folders that has the entry's content: one of its name, or else one of its folder with
// its size.
func (f *Fetcher) adoptable(ctx context.Context, e models.Entry) (string, error) {
	if f.Folders == nil {
		return "", nil
	}
	folder, name := e.Split()
	for _, candidate := range append([]string{name}, f.Folders.Names(folder)...) {
		file, err := f.Folders.Path(folder, candidate)
		if err != nil || !f.outside(file) {
			continue
		}
		if info, err := os.Stat(file); err != nil || info.Size() != e.Size {
			continue
		}
		sum, err := f.sum(ctx, file)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err == nil && sum == e.SHA256 {
			return file, nil
		}
	}
	return "", nil
}

// outside says whether a file is not one of the store's own: those are never adopted.
func (f *Fetcher) outside(file string) bool {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	own, err := filepath.EvalSymlinks(f.Store.Dir)
	if err != nil {
		return true // there is no store yet
	}
	inside, err := filepath.Rel(filepath.Join(own, "blobs"), real)
	return err != nil || strings.HasPrefix(inside, "..")
}

func (f *Fetcher) sum(ctx context.Context, file string) (string, error) {
	if f.Sums != nil {
		return f.Sums.Digest(ctx, file)
	}
	opened, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer opened.Close()
	sum, err := models.HashPieces(ctx, opened, nil)
	return sum.SHA256, err
}

// spaceMargin is left free beside the files.
const spaceMargin = 64 << 20

func (f *Fetcher) checkSpace(plan *Plan) error {
	free := freeBytes(f.Store.Dir)
	if plan.Room == 0 || free < 0 || plan.Room+spaceMargin <= free {
		return nil
	}
	for _, item := range plan.Items {
		if item.Room > 0 {
			return fmt.Errorf("fetch %s and what follows: %w below %s: %d bytes to come, %d free, of which %d are kept",
				item.Entry, ErrSpace, f.Store.Dir, plan.Room, free, int64(spaceMargin))
		}
	}
	return nil
}

// freeBytes is what the disk that a folder is or will be on has left; -1 when the system does not tell.
func freeBytes(dir string) int64 {
	for {
		var stat syscall.Statfs_t
		if err := syscall.Statfs(dir, &stat); err == nil {
			return int64(stat.Bavail) * int64(stat.Bsize)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return -1
		}
		dir = parent
	}
}
