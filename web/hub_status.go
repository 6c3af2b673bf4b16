package web

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
)

// tellStatus tells every client how many prompts are left. Whoever has just put prompts on the queue names them; without
// a name some were removed.
func (s *Server) tellStatus(accepted ...string) {
	if len(accepted) == 0 {
		s.publishStatus("", worker.Status{Remaining: s.Queue.Depth(), Change: worker.Other})
	}
	for _, id := range accepted {
		// A worker may have executed it already; then it is not counted any more.
		s.publishStatus(id, worker.Status{Remaining: max(s.Queue.Depth(), 1), Change: worker.Accepted})
	}
}

func (s *Server) publishStatus(prompt string, status worker.Status) {
	data, err := json.Marshal(status)
	if err == nil {
		err = s.Queue.Publish(queue.Event{Prompt: prompt, Kind: worker.KindStatus, Data: data})
	}
	if err != nil {
		s.Log.Warn("clients are not told of the queue's length", "err", err)
	}
}

// Bounds of status messages, which go to every socket: beyond them only the newest is sent, soon.
const (
	statusBurst = 60
	statusRate  = 20.0 // per second
	statusPause = 100 * time.Millisecond
)

const (
	maxTold = 4096
	// late is how long after a prompt has begun the news that it was accepted may arrive.
	late = 10 * time.Second
)

// statusTeller turns the news about prompts into status messages: one when a prompt is accepted, one when it begins, one
// when it has ended. The first two come from different processes or goroutines, and are sent in this order however they arrive.
type statusTeller struct {
	send func(remaining int)
	lock sync.Locker // that the caller of tell holds

	told  map[string]told // prompts of which only one half is known
	order []string        // of told

	level   float64 // messages that may be sent now
	at      time.Time
	pending int // to send when the timer fires
	timer   *time.Timer
}

type told struct {
	begun bool // it began before it was said that it was accepted
	at    time.Time
}

// tell sends what follows from a piece of news.
func (t *statusTeller) tell(prompt string, s worker.Status) {
	half, known := t.told[prompt]
	if half.begun && time.Since(half.at) > late {
		known = false
	}
	switch {
	case s.Change == worker.Accepted && known && half.begun:
		delete(t.told, prompt)
		return
	case s.Change == worker.Accepted:
		t.remember(prompt, told{false, time.Now()})
	case s.Change == worker.Begun && known && !half.begun:
		delete(t.told, prompt)
	case s.Change == worker.Begun:
		t.remember(prompt, told{true, time.Now()})
		t.pace(s.Remaining)
	}
	t.pace(s.Remaining)
}

func (t *statusTeller) remember(prompt string, half told) {
	if t.told == nil {
		t.told = map[string]told{}
	}
	t.told[prompt] = half
	t.order = append(t.order, prompt)
	if len(t.order) > maxTold {
		delete(t.told, t.order[0])
		t.order = t.order[1:]
	}
}

// pace sends a status now, or when the last one is old enough.
func (t *statusTeller) pace(remaining int) {
	if t.timer != nil {
		t.pending = remaining
		return
	}
	now := time.Now()
	if t.at.IsZero() {
		t.level = statusBurst
	} else {
		t.level = min(t.level+now.Sub(t.at).Seconds()*statusRate, statusBurst)
	}
	t.at = now
	if t.level >= 1 {
		t.level--
		t.send(remaining)
		return
	}
	t.pending = remaining
	t.timer = time.AfterFunc(statusPause, t.flush)
}

func (t *statusTeller) flush() {
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.timer == nil {
		return
	}
	t.timer = nil
	t.send(t.pending)
}

func (t *statusTeller) stop() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}
