package auth

import (
	"net/netip"
	"sync"
	"time"
)

// Limiter slows down guessing. An address may fail Burst times at once, and then once per Every; beyond that its tokens are
// not even looked at, except by names that succeeded from there before: who works behind the same address as somebody
// who guesses is not locked out. The zero Limiter is ready to use.
type Limiter struct {
	Burst int           // 0: 10
	Every time.Duration // 0: 6 s
	Now   func() time.Time

	mu   sync.Mutex
	seen map[netip.Prefix]*record
}

type record struct {
	failures float64 // what has not been forgiven yet
	at       time.Time
	good     map[string]bool
}

const (
	mostAddresses = 10_000
	mostNames     = 100 // per address
)

// Wait says how long an address has to wait before a token of it is looked at; 0: it may go on.
func (l *Limiter) Wait(from netip.Addr) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.seen[network(from)]
	if r == nil {
		return 0
	}
	l.forgive(r)
	if over := r.failures - float64(l.burst()-1); over > 0 {
		return time.Duration(over * float64(l.every()))
	}
	return 0
}

// Failed notes that an address came with a wrong token.
func (l *Limiter) Failed(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.record(from)
	l.forgive(r)
	r.failures = min(r.failures+1, float64(l.burst()))
}

// Succeeded notes that an address came with the token of that name.
func (l *Limiter) Succeeded(from netip.Addr, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.record(from); len(r.good) < mostNames {
		r.good[name] = true
	}
}

// Known reports whether the name succeeded from this address before.
func (l *Limiter) Known(from netip.Addr, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.seen[network(from)]
	return r != nil && r.good[name]
}

// record finds or makes the record of an address; the map stays bounded.
func (l *Limiter) record(from netip.Addr) *record {
	key := network(from)
	if r := l.seen[key]; r != nil {
		return r
	}
	if l.seen == nil {
		l.seen = map[netip.Prefix]*record{}
	}
	if len(l.seen) >= mostAddresses {
		l.evict()
	}
	r := &record{at: l.now(), good: map[string]bool{}}
	l.seen[key] = r
	return r
}

// evict drops what is forgiven, and if that is nothing, any one.
func (l *Limiter) evict() {
	for key, r := range l.seen {
		if l.forgive(r); r.failures == 0 {
			delete(l.seen, key)
		}
	}
	for key := range l.seen {
		if len(l.seen) < mostAddresses {
			return
		}
		delete(l.seen, key)
	}
}

func (l *Limiter) forgive(r *record) {
	now := l.now()
	r.failures = max(0, r.failures-now.Sub(r.at).Seconds()/l.every().Seconds())
	r.at = now
}

func (l *Limiter) burst() int {
	if l.Burst > 0 {
		return l.Burst
	}
	return 10
}

func (l *Limiter) every() time.Duration {
	if l.Every > 0 {
		return l.Every
	}
	return 6 * time.Second
}

func (l *Limiter) now() time.Time {
	if l.Now != nil {
		return l.Now()
	}
	return time.Now()
}

// network is what counts as one address: of IPv6 the /64 that one customer has.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}
