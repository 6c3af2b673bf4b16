package worker

import (
	"sync"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// letter is an event on its way out. One with make is made when its turn comes;
// no data: it is left out. A passing one may be left out before.
type letter struct {
	queue.Event
	make func() []byte
}

func (l *letter) mayGo() bool { return l.make != nil && l.Passing }

// waitingPreviews is how many pictures may wait to be encoded: beyond that the
// oldest is left out.
const waitingPreviews = 8

// outbox publishes events in order, in a goroutine of its own, so that the nodes
// need not wait for pictures to be encoded.
type outbox struct {
	publish func(queue.Event)

	mu      sync.Mutex
	idle    sync.Cond
	letters []letter
	toMake  int // of letters: passing pictures
	sending bool
}

func newOutbox(publish func(queue.Event)) *outbox {
	o := &outbox{publish: publish}
	o.idle.L = &o.mu
	return o
}

// add sends an event soon.
func (o *outbox) add(l letter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l.mayGo() {
		o.makeRoom()
		o.toMake++
	}
	o.letters = append(o.letters, l)
	if !o.sending {
		o.sending = true
		go o.send()
	}
}

// makeRoom leaves out the oldest picture that waits, if there are too many.
func (o *outbox) makeRoom() {
	if o.toMake < waitingPreviews {
		return
	}
	for i := range o.letters {
		if o.letters[i].mayGo() {
			o.letters = append(o.letters[:i], o.letters[i+1:]...)
			o.toMake--
			return
		}
	}
}

func (o *outbox) send() {
	for {
		o.mu.Lock()
		batch := o.letters
		o.letters, o.toMake = nil, 0
		if len(batch) == 0 {
			o.sending = false
			o.idle.Broadcast()
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		for _, l := range batch {
			if l.make != nil {
				if l.Data = l.make(); l.Data == nil {
					continue
				}
			}
			o.publish(l.Event)
		}
	}
}

// flush waits until everything is sent.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.sending {
		o.idle.Wait()
	}
}
