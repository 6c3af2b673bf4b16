package engine

import (
	"container/list"
	"sync"
)

// Cache keeps results by key from run to run. The zero Cache keeps
// everything; it may serve several runs at a time.
type Cache struct {
	// MaxBytes bounds the results' size as they tell it (see Bytes): beyond
	// it those used least recently go first. 0 means no bound.
	MaxBytes int64
	// Classic drops, when a run starts, what its plan does not use, as
	// ComfyUI does by default.
	Classic bool

	mu      sync.Mutex
	entries map[Key]*list.Element // of *entry
	recent  list.List             // the most recently used first
	bytes   int64
}

type entry struct {
	key Key
	out *outcome
}

// outcome is what executing a step gave.
type outcome struct {
	values  [][]any // the list of each output
	ui      UI
	meta    Meta // of the node that ran
	bytes   int64
	digests []string // per output, nil when nobody asked

	sketches []string // likewise
}

// sizer is a result that says how much memory it holds.
type sizer interface{ Bytes() int64 }

// overhead is what an entry takes beside its values, roughly.
const overhead = 512

func (o *outcome) measure() {
	o.bytes = overhead
	for _, values := range o.values {
		for _, v := range values {
			o.bytes += sizeOf(v)
		}
	}
}

func sizeOf(v any) (n int64) {
	const word = 16
	switch v := v.(type) {
	case sizer:
		// A value whose Bytes panics counts as small.
		_ = catch(func() error { n = v.Bytes(); return nil })
	case string:
		n = int64(len(v))
	}
	return n + word
}

// Len is the number of results held.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

// Bytes is the size of the results held.
func (c *Cache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// Clear drops everything.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries, c.bytes = nil, 0
	c.recent.Init()
}

// begin marks what a plan uses as recently used, so that it is not dropped
// before the plan runs, and returns the ids of the nodes whose results are
// there.
func (c *Cache) begin(steps []*Step) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var held []string
	used := make(map[Key]bool, len(steps))
	for _, s := range steps {
		used[s.Key] = true
		if e, ok := c.entries[s.Key]; ok {
			c.recent.MoveToFront(e)
			held = append(held, s.ID)
		}
	}
	if c.Classic {
		c.dropUnused(used)
	}
	return held
}

func (c *Cache) dropUnused(used map[Key]bool) {
	for key, e := range c.entries {
		if !used[key] {
			c.drop(e)
		}
	}
}

func (c *Cache) drop(e *list.Element) {
	old := c.recent.Remove(e).(*entry)
	delete(c.entries, old.key)
	c.bytes -= old.out.bytes
}

func (c *Cache) get(key Key) (*outcome, bool) {
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return nil, false
	}
	c.recent.MoveToFront(e)
	return e.Value.(*entry).out, true
}

// put keeps a result, unless it is larger than the bound all by itself.
func (c *Cache) put(key Key, out *outcome) {
	if c == nil {
		return
	}
	out.measure()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		c.drop(e)
	}
	if c.MaxBytes > 0 && out.bytes > c.MaxBytes {
		return
	}
	if c.entries == nil {
		c.entries = map[Key]*list.Element{}
	}
	c.entries[key] = c.recent.PushFront(&entry{key, out})
	c.bytes += out.bytes
	for c.MaxBytes > 0 && c.bytes > c.MaxBytes {
		c.drop(c.recent.Back())
	}
}
