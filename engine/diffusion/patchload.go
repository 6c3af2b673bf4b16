package diffusion

import (
	"context"
	"maps"
	"strings"

	"github.com/comfyrun/comfyrun/engine/weights"
)

// located says where all weights of a component are.
type located struct {
	byName map[string]weights.Location
	own    int64 // bytes that no other session of the same file has
	held   []*weights.Located
}

func (l *located) close() {
	for _, h := range l.held {
		h.Close()
	}
}

// locate finds or makes the component's weights. Those that no step changed are
// where the component without steps has them; the others are made for this
// session, but for those of a merge, which go through the cache: they are all
// the weights there are.
func (c *component) locate(ctx context.Context, cache *weights.Cache) (*located, error) {
	l := &located{byName: map[string]weights.Location{}}
	var changed []weights.Part
	plain := false
	for _, p := range c.parts() {
		if strings.Contains(p.Name, mergedPrefix) {
			changed = append(changed, p)
		} else {
			plain = true
		}
	}
	if plain {
		if err := l.add(cache.Locate(ctx, c.file, c.name, c.original().parts())); err != nil {
			return l, err
		}
	}
	if c.hasMerge() {
		l.count(changed)
		if err := l.add(cache.Locate(ctx, c.file, c.name+".merged", changed)); err != nil {
			return l, err
		}
		changed = nil
	}
	changed = append(changed, c.extra...)
	if len(changed) == 0 {
		return l, nil
	}
	l.count(changed)
	return l, l.add(cache.Temporary(ctx, c.file, changed))
}

func (l *located) add(more *weights.Located, err error) error {
	if err == nil {
		maps.Copy(l.byName, more.ByName)
		l.held = append(l.held, more)
	}
	return err
}

func (l *located) count(parts []weights.Part) {
	for _, p := range parts {
		l.own += paramBytes(extraParam(p))
	}
}

// original returns the component before any steps.
func (c *component) original() *component {
	if c.base != nil {
		return c.base
	}
	return c
}

// hasMerge reports whether other models were merged in.
func (c *component) hasMerge() bool {
	for _, s := range c.steps {
		if s.lora == nil {
			return true
		}
	}
	return false
}
