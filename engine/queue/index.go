package queue

import (
	"container/heap"
	"sort"
	"sync"
	"time"
)

// index is what a process knows of the streams. Records reach it from the
// process's own writes and from the streams, in any order and more than once.
type index struct {
	session  string
	lease    time.Duration
	alone    bool // no other process can have a prompt
	most     int  // entries of the history
	mostSize int64

	mu      sync.Mutex
	items   map[string]*item   // by token of the id
	keys    map[string]*item   // by idempotency key
	active  map[*item]struct{} // accepted and not finished
	held    map[*item]struct{} // active and claimed by somebody
	ready   order              // to be taken
	ended   []*item            // the history, by place
	size    int64              // of its bodies
	changed chan struct{}      // closed at the next change
	counter float64            // the next number
	ends    []time.Time        // when the last few prompts ended
	over    recent             // run tokens of prompts whose result was seen
	removed recent             // run tokens of results that are not in the history any more
	gone    uint64             // up to here the history has been cleared
}

// item is what is known of one prompt id.
type item struct {
	token string

	sub     *submission // nil: not accepted, or finished
	arrival uint64

	claim    claim
	claimAt  uint64    // its revision; 0: none
	claimSeq uint64    // the newest revision that was seen
	heard    time.Time // of the claim's owner
	claiming bool      // by this process, just now
	leased   *Lease    // this process has it

	end    *ending // nil: not in the history
	endSeq uint64
	size   int64
	heapAt int // in index.ready; -1: not
}

func newIndex(o Options, session string) *index {
	return &index{session: session, lease: o.Lease, alone: o.URL == "", most: o.HistoryMax, mostSize: o.HistoryBytes,
		items: map[string]*item{}, keys: map[string]*item{}, active: map[*item]struct{}{}, held: map[*item]struct{}{},
		changed: make(chan struct{})}
}

// Changed returns a channel that is closed when a prompt next enters, is taken,
// or leaves.
func (x *index) Changed() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.changed
}

// NextNumber counts a number that no prompt will have; ComfyUI does so for a
// prompt that it refuses.
func (x *index) NextNumber() float64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.counter++
	return x.counter - 1
}

func (x *index) item(token string) *item {
	it := x.items[token]
	if it == nil {
		it = &item{token: token, heapAt: -1}
		x.items[token] = it
	}
	return it
}

// applyPrompt takes note of an accepted prompt. It reports whether the prompt
// has finished already, so that its message is only a remainder.
func (x *index) applyPrompt(token string, seq uint64, s submission) (remainder bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.count(s)
	it := x.item(token)
	if it.end != nil && it.end.Run == s.Run || x.over.has(s.Run) {
		x.settle(it)
		return true
	}
	if it.arrival >= seq {
		return false
	}
	x.withdraw(it)
	it.sub, it.arrival = &s, seq
	if s.Key != "" {
		x.keys[s.Key] = it
	}
	x.settle(it)
	return false
}

// count keeps the counter beyond all numbers that were assigned.
func (x *index) count(s submission) {
	if s.Assigned {
		x.counter = max(x.counter, s.Number+1, -s.Number+1)
	}
}

func (x *index) applyClaim(token string, seq uint64, c claim) {
	x.mu.Lock()
	defer x.mu.Unlock()
	it := x.item(token)
	if seq <= it.claimSeq {
		return
	}
	it.claim, it.claimAt, it.claimSeq, it.heard = c, seq, seq, time.Now()
	if l := it.leased; l != nil && l.run == c.Run {
		switch {
		case c.Owner != x.session:
			l.end(ErrLost)
			it.leased = nil
		case c.Cancel:
			l.end(ErrCancelled)
		}
	}
	if x.over.has(c.Run) {
		it.claim, it.claimAt = claim{}, 0
	}
	x.settle(it)
}

// setClaim takes note of what a claim is known to be now; 0 of none.
func (x *index) setClaim(it *item, seq uint64, c claim) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if seq >= it.claimSeq || seq == 0 {
		it.claim, it.claimAt, it.claimSeq, it.heard = c, seq, max(seq, it.claimSeq), time.Now()
	}
	x.settle(it)
}

// drop takes note that a prompt is not in its stream any more, as far as one
// can see: should it turn up again, it is taken up again.
func (x *index) drop(it *item, run string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if it.sub != nil && it.sub.Run == run {
		x.leave(it)
		it.arrival = 0
	}
	x.settle(it)
}

// applyEnd takes note of a result, of size bytes, or of its removal.
func (x *index) applyEnd(token string, seq uint64, e ending, size int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.count(e.submission)
	it := x.item(token)
	if seq <= it.endSeq || seq <= x.gone || !e.Deleted && x.removed.has(e.Run) {
		x.settle(it)
		return
	}
	x.forget(it)
	it.endSeq = seq
	if e.Deleted {
		x.removed.add(e.Run)
	} else {
		x.remember(it, e, size)
	}
	if it.sub != nil && it.sub.Run == e.Run {
		x.finish(it)
	}
	x.settle(it)
	x.trim()
}

// finish makes an item inactive that has a result.
func (x *index) finish(it *item) {
	x.over.add(it.sub.Run)
	x.leave(it)
	x.ends = append(x.ends, time.Now())
	if len(x.ends) > 32 {
		x.ends = append(x.ends[:0], x.ends[1:]...)
	}
}

func (x *index) leave(it *item) {
	if it.end == nil && it.sub.Key != "" {
		delete(x.keys, it.sub.Key)
	}
	x.withdraw(it)
	it.sub, it.claim, it.claimAt = nil, claim{}, 0
	if it.leased != nil {
		it.leased.end(ErrRecorded)
		it.leased = nil
	}
}

// remember adds a result to the history.
func (x *index) remember(it *item, e ending, size int64) {
	if e.Place == 0 {
		e.Place = it.endSeq
	}
	it.end, it.size = &e, size
	at := sort.Search(len(x.ended), func(i int) bool { return x.ended[i].end.Place > e.Place })
	x.ended = append(x.ended, nil)
	copy(x.ended[at+1:], x.ended[at:])
	x.ended[at] = it
	x.size += size
	if e.Key != "" {
		x.keys[e.Key] = it
	}
}

// forget removes an item's result from the history.
func (x *index) forget(it *item) {
	if it.end == nil {
		return
	}
	at := sort.Search(len(x.ended), func(i int) bool { return x.ended[i].end.Place >= it.end.Place })
	for ; x.ended[at] != it; at++ { // equal places are rare
	}
	if at == 0 {
		x.ended[0] = nil
		x.ended = x.ended[1:]
	} else {
		x.ended = append(x.ended[:at], x.ended[at+1:]...)
	}
	x.size -= it.size
	if it.end.Key != "" && x.keys[it.end.Key] == it && (it.sub == nil || it.sub.Key != it.end.Key) {
		delete(x.keys, it.end.Key)
	}
	it.end, it.size = nil, 0
}

// trim keeps the history's bounds.
func (x *index) trim() {
	for len(x.ended) > 0 && (len(x.ended) > x.most || x.size > x.mostSize) {
		it := x.ended[0]
		x.removed.add(it.end.Run)
		x.forget(it)
		x.settle(it)
	}
}

// cleared takes note that the history up to seq is gone.
func (x *index) cleared(seq uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.gone = max(x.gone, seq)
	for _, it := range append([]*item(nil), x.ended...) {
		if it.endSeq <= seq {
			x.forget(it)
			x.settle(it)
		}
	}
}

// settle brings an item's places in the index up to date.
func (x *index) settle(it *item) {
	delete(x.active, it)
	delete(x.held, it)
	if it.sub != nil {
		x.active[it] = struct{}{}
		if x.claimed(it) {
			x.held[it] = struct{}{}
		}
	} else if it.end == nil && it.claim.Run == "" && x.items[it.token] == it {
		delete(x.items, it.token)
	}
	if !x.takeable(it) {
		x.withdraw(it)
	} else if it.heapAt < 0 {
		heap.Push(&x.ready, it)
	}
	close(x.changed)
	x.changed = make(chan struct{})
}

// withdraw takes an item out of the order.
func (x *index) withdraw(it *item) {
	if it.heapAt >= 0 {
		heap.Remove(&x.ready, it.heapAt)
	}
}

// claimed reports whether an active item is somebody's.
func (x *index) claimed(it *item) bool { return it.claim.Run == it.sub.Run && it.claim.Owner != "" }

// dead reports whether the owner of a claimed item is gone.
func (x *index) dead(it *item) bool {
	if it.leased != nil || it.claiming {
		return false
	}
	return x.alone || time.Since(it.heard) > x.lease
}

func (x *index) takeable(it *item) bool {
	return it.sub != nil && it.leased == nil && !it.claiming && (!x.claimed(it) || x.dead(it))
}

// next takes the first prompt from the order. It is the caller's until it calls release.
func (x *index) next() (*item, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.ready) == 0 {
		return nil, false
	}
	it := heap.Pop(&x.ready).(*item)
	it.claiming = true
	return it, true
}

func (x *index) release(it *item) {
	x.mu.Lock()
	defer x.mu.Unlock()
	it.claiming = false
	x.settle(it)
}

// state says where an item is. It may be nil.
func (x *index) state(it *item) State {
	switch {
	case it == nil || it.sub == nil && it.end == nil:
		return Unknown
	case it.sub == nil:
		return it.end.State
	case !x.claimed(it):
		return Queued
	case it.claim.Cancel && it.claim.Started == 0:
		return Cancelled
	case x.dead(it):
		return Lost
	}
	return Running
}

// before is the order in which prompts run.
func (it *item) before(other *item) bool {
	a, b := it.sub.Number, other.sub.Number
	return a < b || a == b && it.arrival < other.arrival
}

// order is a heap of active items.
type order []*item

func (o order) Len() int           { return len(o) }
func (o order) Less(i, j int) bool { return o[i].before(o[j]) }
func (o order) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].heapAt, o[j].heapAt = i, j
}

// Push is heap.Interface's.
func (o *order) Push(e any) {
	it := e.(*item)
	it.heapAt = len(*o)
	*o = append(*o, it)
}

// Pop is heap.Interface's.
func (o *order) Pop() any {
	last := len(*o) - 1
	it := (*o)[last]
	it.heapAt = -1
	(*o)[last] = nil
	*o = (*o)[:last]
	return it
}

// recent remembers the last few run tokens.
type recent struct {
	set  map[string]bool
	ring []string
	at   int
}

const recentMost = 4096

func (r *recent) has(run string) bool { return r.set[run] }

func (r *recent) add(run string) {
	if r.set == nil {
		r.set, r.ring = map[string]bool{}, make([]string, recentMost)
	}
	delete(r.set, r.ring[r.at])
	r.set[run], r.ring[r.at] = true, run
	r.at = (r.at + 1) % recentMost
}
