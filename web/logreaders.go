package web

import (
	"slices"
	"sync"
)

// maxLogReaders bounds how many clients are remembered; the one that asked first is forgotten then.
const maxLogReaders = 100

// logReaders are the clients that want the lines of the log as they come.
type logReaders struct {
	mu   sync.Mutex
	sids []string // in the order in which they asked
}

func (r *logReaders) set(sid string, wanted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sids = slices.DeleteFunc(slices.Clone(r.sids), func(s string) bool { return s == sid })
	if !wanted || sid == "" {
		return
	}
	if len(r.sids) == maxLogReaders {
		r.sids = r.sids[1:]
	}
	r.sids = append(r.sids, sid)
}

// all returns who reads. The list is not changed later.
func (r *logReaders) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sids
}
