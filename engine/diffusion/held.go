package diffusion

import (
	"slices"
	"strings"
)

// Held returns how many bytes of weights are loaded: those of sessions that use
// one of the files, and those of all others. A path is one of Model.File and its
// like. Weights that several sessions have in common count once.
func (r *Runtime) Held(paths ...string) (named, others int64) {
	p := r.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	type group struct {
		bytes int64
		named bool
	}
	shared := map[string]group{}
	for _, e := range p.entries {
		if !e.loaded() {
			continue
		}
		uses := slices.ContainsFunc(paths, func(path string) bool { return strings.Contains(e.origin, path) })
		if uses {
			named += e.own
		} else {
			others += e.own
		}
		g := shared[e.shared]
		shared[e.shared] = group{max(g.bytes, e.bytes), g.named || uses}
	}
	for _, g := range shared {
		if g.named {
			named += g.bytes
		} else {
			others += g.bytes
		}
	}
	return named, others
}

// loaded reports whether an entry has its session.
func (e *entry) loaded() bool {
	select {
	case <-e.ready:
		return e.err == nil
	default:
		return false
	}
}
