// Package library offers a folder of workflows by name, with typed parameters.
//
// # Vocabulary
//
// A named workflow is a file NAME.json in the API format. A parameter is a name
// under which one or more literal inputs of its nodes can be set from outside;
// a target is one such input. Parameters are declared in the workflow itself, by
// node titles of the form "NAME: text" (see titles.go), or beside it in a
// sidecar NAME.params.toml (see sidecar.go). What a parameter takes comes from
// the catalogue: type, range, choices. A sidecar may narrow that, never widen it.
//
// A version is one content of the two files, named by a digest. A version that
// does not check is not offered: the last one that did stays, and the reason is
// listed beside it.
//
// Filling a workflow means setting its parameters; the result is a graph that
// the engine can plan. The package knows nothing of HTTP, and logs nothing.
package library

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// Workflow is one version of a named workflow that checks. It never changes.
type Workflow struct {
	Name        string
	Title       string // the name when the sidecar gives none
	Description string
	Digest      string // of both files, SHA-256 in hexadecimal
	Params      []Param

	graph *workflows.Graph
}

// Graph returns a copy of the workflow as it lies in its file.
func (w *Workflow) Graph() *workflows.Graph { return w.graph.Clone() }

// Param returns a parameter by its name.
func (w *Workflow) Param(name string) (*Param, bool) {
	for i := range w.Params {
		if w.Params[i].Name == name {
			return &w.Params[i], true
		}
	}
	return nil, false
}

// Entry is what a library knows of a name.
type Entry struct {
	Name     string
	Workflow *Workflow // the version that is offered; nil: none has checked yet
	Newest   string    // digest of the files as they are now; "": they cannot be read
	Err      error     // why the newest version is not offered; nil: it is
}

// Change is something that a scan found.
type Change struct {
	Entry
	Removed bool // there is no such file any more
}

// Library is a folder of named workflows. Make one with New.
type Library struct {
	// Recheck is the time after which a version that did not check is checked
	// again: a model may have arrived. 0: 10 seconds.
	Recheck time.Duration

	dir     string
	catalog func() *engine.Catalog

	scanning sync.Mutex // held while the folder is read
	checked  map[string]time.Time
	stamp    string // of the folder at the last scan

	mu      sync.RWMutex
	entries map[string]Entry
	err     error
}

// New returns a library of the workflows in a folder, which are checked against
// the catalogue of the moment. It is empty until the first Scan.
func New(dir string, catalog func() *engine.Catalog) *Library {
	return &Library{dir: dir, catalog: catalog, checked: map[string]time.Time{}, entries: map[string]Entry{}}
}

// List returns everything in the folder, sorted by name.
func (l *Library) List() []Entry {
	l.mu.RLock()
	defer l.mu.RUnlock()
	list := make([]Entry, 0, len(l.entries))
	for _, e := range l.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Get returns the entry of a name.
func (l *Library) Get(name string) (Entry, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	e, ok := l.entries[name]
	return e, ok
}

// Err says why the folder itself could not be read at the last scan; what was
// offered before stays. Nil: it could.
func (l *Library) Err() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.err
}

// Problems lists, sorted by name, what keeps newest versions from being
// offered, one line each; none when all is well.
func (l *Library) Problems() []string {
	var out []string
	if err := l.Err(); err != nil {
		out = append(out, err.Error())
	}
	for _, e := range l.List() {
		if e.Err != nil {
			out = append(out, fmt.Sprintf("workflow %s: %s", e.Name, strings.ReplaceAll(e.Err.Error(), "\n", "; ")))
		}
	}
	return out
}

// Scan reads what has changed in the folder and returns it, sorted by name. An
// error says that the folder cannot be read.
func (l *Library) Scan() ([]Change, error) {
	l.scanning.Lock()
	defer l.scanning.Unlock()
	stamp := stampOf(l.dir) // before reading: what is written meanwhile has another stamp next time
	if stamp != "" && stamp == l.stamp && !l.due() {
		return nil, nil
	}
	l.stamp = stamp
	found, err := readFolder(l.dir)
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, name := range found.names() {
		if change, ok := l.look(name, found[name]); ok {
			changes = append(changes, change)
		}
	}
	changes = append(changes, l.drop(found)...)
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Name, b.Name) })
	return changes, nil
}

// due reports whether a version that did not check is to be checked again.
func (l *Library) due() bool {
	for _, e := range l.List() {
		if e.Err != nil && l.waited(e.Name) {
			return true
		}
	}
	return false
}

func (l *Library) waited(name string) bool {
	return time.Since(l.checked[name]) >= cmp.Or(l.Recheck, 10*time.Second)
}

// look brings one entry up to date and says whether anything about it changed.
func (l *Library) look(name string, f files) (Change, bool) {
	old, known := l.Get(name)
	same := known && f.err == nil && old.Newest == f.digest()
	if same && (old.Err == nil || !l.waited(name)) {
		return Change{}, false
	}
	e := Entry{Name: name, Workflow: old.Workflow}
	if f.err != nil {
		e.Err = f.err
	} else {
		e.Newest = f.digest()
		if w, err := read(name, f, l.catalog()); err != nil {
			e.Err = err
		} else {
			e.Workflow = w
		}
	}
	l.checked[name] = time.Now()
	l.mu.Lock()
	l.entries[name] = e
	l.mu.Unlock()
	return Change{Entry: e}, !known || old.Newest != e.Newest || text(old.Err) != text(e.Err)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// drop forgets the names that have no file any more.
func (l *Library) drop(found folder) []Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	var changes []Change
	for name, e := range l.entries {
		if _, there := found[name]; !there {
			delete(l.entries, name)
			delete(l.checked, name)
			changes = append(changes, Change{Entry: e, Removed: true})
		}
	}
	return changes
}

// Watch scans the folder again and again, and hands what it finds to report,
// until ctx ends. An error of the folder is reported when it appears and when
// it goes (a nil error without changes). 0: every second.
func (l *Library) Watch(ctx context.Context, every time.Duration, report func([]Change, error)) {
	tick := time.NewTicker(cmp.Or(every, time.Second))
	defer tick.Stop()
	before := text(l.Err())
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changes, err := l.Scan()
		if len(changes) > 0 || text(err) != before {
			report(changes, err)
		}
		before = text(err)
	}
}
