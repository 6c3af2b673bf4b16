package live

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
)

// Report is told what is about to be fetched, and returns what is told how that goes: event, one call at a time, and end,
// when it is over.
type Report func(plan *fetch.Plan) (event func(fetch.Event), end func())

// Progress is how far the download of an entry's file is.
type Progress struct {
	Entry models.Entry
	Bytes int64 // that are there, of Entry.Size
}

// progressPause is how long reports on one file are apart.
const progressPause = 200 * time.Millisecond

// Meter makes a Report of what is told the progress of files now and then.
func Meter(tell func(Progress)) Report {
	return func(*fetch.Plan) (func(fetch.Event), func()) {
		m := &meter{tell: tell, bytes: map[string]int64{}, told: map[string]time.Time{}}
		return m.event, func() {}
	}
}

type meter struct {
	tell  func(Progress)
	bytes map[string]int64 // by name
	told  map[string]time.Time
}

func (m *meter) event(e fetch.Event) {
	name := e.Entry.Name
	switch e.Kind {
	case fetch.EventStart:
		m.bytes[name] = e.Bytes
	case fetch.EventBytes:
		m.bytes[name] += e.Bytes
	case fetch.EventLost:
		m.bytes[name] -= e.Bytes
	case fetch.EventDone:
		m.bytes[name] = e.Entry.Size
	}
	if e.Kind == fetch.EventBytes && time.Since(m.told[name]) < progressPause {
		return
	}
	m.told[name] = time.Now()
	m.tell(Progress{Entry: e.Entry, Bytes: max(0, min(m.bytes[name], e.Entry.Size))})
}

// hub hands the events of all downloads to those who wait for some.
type hub struct {
	mu   sync.Mutex
	list []*listener
}

// listener waits for downloads of entries.
type listener struct {
	entries []models.Entry
	event   func(fetch.Event)
}

// event is the Events of the fetcher.
func (k *Keeper) event(e fetch.Event) {
	if e.Kind == fetch.EventBytes && k.options.Bytes != nil {
		k.options.Bytes(e.Bytes)
	}
	k.events.mu.Lock()
	defer k.events.mu.Unlock()
	for _, l := range k.events.list {
		for _, wanted := range l.entries {
			if wanted.SHA256 == e.Entry.SHA256 { // whoever fetches it, under whatever name
				e.Entry = wanted
				l.event(e)
			}
		}
	}
}

func (h *hub) add(l *listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, l)
}

func (h *hub) remove(l *listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = slices.DeleteFunc(h.list, func(other *listener) bool { return other == l })
}

// fetch brings files into the store.
func (k *Keeper) fetch(ctx context.Context, entries []models.Entry, w wanted) error {
	plan, err := k.options.Fetcher.Plan(ctx, entries)
	if err != nil {
		return err
	}
	plan.Unnamed = w.beside
	if w.report != nil {
		event, end := w.report(plan)
		defer end()
		l := &listener{entries, event}
		k.events.add(l)
		defer k.events.remove(l)
	}
	return k.options.Fetcher.Fetch(ctx, plan)
}
