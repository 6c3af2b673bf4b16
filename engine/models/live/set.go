package live

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/models"
)

// Set is one reading of models.lock. It is a models.Pins.
type Set struct {
	keeper *Keeper
	text   string
	lock   *models.Lock
	names  map[string]models.Entry // also those that labels make
}

func (k *Keeper) newSet(text string) (*Set, error) {
	lock, err := models.ParseLock([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("read model lock %s: %w", k.options.File, err)
	}
	s := &Set{keeper: k, text: text, lock: lock, names: lock.Aliases()}
	for _, e := range lock.Models {
		s.names[e.Name] = e
	}
	return s, nil
}

// Lock is what was read.
func (s *Set) Lock() *models.Lock { return s.lock }

// Find returns the entry of a name.
func (s *Set) Find(name string) (models.Entry, bool) {
	e, ok := s.names[name]
	return e, ok
}

// All lists the names, sorted.
func (s *Set) All() []string { return slices.Sorted(maps.Keys(s.names)) }

// Names is of models.Pins: the names whose files are there, or may be fetched.
func (s *Set) Names(key string) []string {
	var names []string
	for _, name := range s.All() {
		inside, ok := strings.CutPrefix(name, key+"/")
		if !ok {
			continue
		}
		if _, there := s.file(s.names[name]); there || s.keeper.options.Missing {
			names = append(names, inside)
		}
	}
	return names
}

// Path is of models.Pins.
func (s *Set) Path(key, name string) (string, bool) {
	e, pinned := s.names[key+"/"+name]
	if !pinned {
		return "", false
	}
	return s.file(e)
}

// file finds an entry's file: what the store has by its digest, or else what a folder has by its name. The former has a
// name that no other version of it has, so that whoever has opened this one is left alone. A name in the store that leads
// to another version is none of this one.
func (s *Set) file(e models.Entry) (string, bool) {
	o := &s.keeper.options
	if o.Fetcher.Store.Has(e) {
		return o.Fetcher.Store.Version(e), true
	}
	folder, name := e.Split()
	file, err := o.Folders.Path(folder, name)
	return file, err == nil && !s.keeper.links(file, e)
}

// links reports whether a file is a link that the store made for another version of an entry.
func (k *Keeper) links(file string, e models.Entry) bool {
	store := k.options.Fetcher.Store
	if file != store.Name(e) {
		return false
	}
	link, err := os.Readlink(file)
	if err != nil {
		return false
	}
	if !filepath.IsAbs(link) {
		link = filepath.Join(filepath.Dir(file), link)
	}
	return filepath.Dir(link) == filepath.Dir(store.Blob(e)) && link != store.Blob(e)
}

// At returns the entry whose file is at a path without links.
func (s *Set) At(path string) (models.Entry, bool) {
	for _, name := range s.All() {
		if file, ok := s.real(s.names[name]); ok && file == path {
			return s.names[name], true
		}
	}
	return models.Entry{}, false
}

// Error is what is wrong with the file of an entry.
type Error struct {
	Entry models.Entry
	Err   error
}

// Error names the entry and its line.
func (e *Error) Error() string { return fmt.Sprintf("check %s: %v", e.Entry, e.Err) }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Absent returns the entry of a name whose file is not there.
func (s *Set) Absent(name string) (models.Entry, bool) {
	e, pinned := s.names[name]
	if !pinned {
		return e, false
	}
	_, there := s.file(e)
	return e, !there
}

// Ensure makes the files of names fit for use: what is there is compared with its entry, what is not there is fetched if
// that is allowed. Names that are not pinned are left alone. A wrong file is an ErrDigest, one that is not there an
// ErrMissing. report may be nil.
func (s *Set) Ensure(ctx context.Context, names []string, report Report) error {
	return s.ensure(ctx, names, wanted{report: report})
}

// wanted says how files are wanted.
type wanted struct {
	// beside says that what is not the entry's content stays as it is, and the store gets the entry's, without its name.
	beside bool
	report Report
}

func (s *Set) ensure(ctx context.Context, names []string, w wanted) error {
	absent, err := s.check(ctx, s.entries(names), w.beside)
	if err != nil || len(absent) == 0 {
		return err
	}
	if !s.keeper.options.Missing {
		return s.notThere(absent)
	}
	if err := s.keeper.fetch(ctx, absent, w); err != nil {
		return err
	}
	if absent, err = s.check(ctx, absent, false); err != nil {
		return err
	}
	return s.notThere(absent)
}

// entries are those of names, each once.
func (s *Set) entries(names []string) []models.Entry {
	var entries []models.Entry
	for _, name := range names {
		e, pinned := s.names[name]
		if pinned && !slices.ContainsFunc(entries, func(other models.Entry) bool { return other.Name == e.Name }) {
			entries = append(entries, e)
		}
	}
	return entries
}

// check compares what is there with its pins and returns what is not. With beside, files of folders that are something
// else count as not there.
func (s *Set) check(ctx context.Context, entries []models.Entry, beside bool) (absent []models.Entry, err error) {
	o := &s.keeper.options
	for _, e := range entries {
		file, there := s.file(e)
		if !there {
			absent = append(absent, e)
			continue
		}
		sum, err := o.Sums.Digest(ctx, file)
		switch {
		case err != nil:
			return nil, &Error{e, err}
		case sum == e.SHA256:
			o.Fetcher.Store.Touch(e)
		case beside && !o.Fetcher.Store.Has(e):
			absent = append(absent, e)
		default:
			return nil, &Error{e, fmt.Errorf("%w: %s has sha256 %s, and models.lock pins %s", models.ErrDigest, file, sum, e.SHA256)}
		}
	}
	return absent, nil
}

// notThere says what is pinned and absent; nil when nothing is.
func (s *Set) notThere(absent []models.Entry) error {
	var all []error
	for _, e := range absent {
		all = append(all, s.keeper.AbsentError(e))
	}
	return errors.Join(all...)
}

// AbsentError says that an entry's file is not there, and how it can be had. It is an ErrMissing.
func (k *Keeper) AbsentError(e models.Entry) error {
	folder, name := e.Split()
	_, err := k.options.Folders.Path(folder, name)
	if err == nil {
		err = fmt.Errorf("find model %q in %s: %w: there is another version of it", name, folder, models.ErrMissing)
	}
	return fmt.Errorf("%w; models.lock pins it: comfyrun models fetch gets it, and so does --fetch=missing", err)
}
