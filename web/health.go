package web

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// healthRoutes registers what an operator's machines ask for.
func (s *Server) healthRoutes() {
	bare := s.bare()
	bare.get("/healthz", open, gin.WrapF(Alive))
	bare.get("/readyz", open, gin.WrapH(s.Ready))
	if s.Metrics == nil {
		bare.get("/metrics", read, notFound)
		return
	}
	bare.get("/metrics", read, gin.WrapH(s.Metrics.Handler()))
}

// Readiness is what has to be true before prompts are welcome: a list of conditions in the order
// in which they come true while a server starts. The zero Readiness is ready.
type Readiness struct {
	Log *slog.Logger // told of every change; nil: nobody

	mu       sync.Mutex
	steps    []*Condition
	draining bool
	asked    map[string]func() error
	started  time.Time
}

// Condition is one thing that has to be true.
type Condition struct {
	of     *Readiness
	name   string
	met    bool
	detail string
}

// Expect adds a condition that is not met yet: a few words such as "models warmed".
func (r *Readiness) Expect(name string) *Condition {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started.IsZero() {
		r.started = time.Now()
	}
	c := &Condition{of: r, name: name}
	r.steps = append(r.steps, c)
	return c
}

// Check adds a condition that is asked whenever somebody wants to know, such as "queue reachable"; f must answer at once.
func (r *Readiness) Check(name string, f func() error) {
	c := r.Expect(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	c.met = true
	if r.asked == nil {
		r.asked = map[string]func() error{}
	}
	r.asked[name] = f
}

// Met says that the condition is true now.
func (c *Condition) Met() { c.set(true, "") }

// Unmet says that it is not, or not any more, and why.
func (c *Condition) Unmet(why string) { c.set(false, why) }

// Note says something about the condition, and leaves open or settled what is: "" for nothing to say.
func (c *Condition) Note(text string) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.detail = text
}

func (c *Condition) set(met bool, detail string) {
	r := c.of
	r.mu.Lock()
	changed := c.met != met
	c.met, c.detail = met, detail
	log, after := r.Log, time.Since(r.started)
	r.mu.Unlock()
	if log == nil || !changed {
		return
	}
	if met {
		log.Info("ready: "+c.name, "after_ms", after.Milliseconds())
		return
	}
	log.Warn("not ready: "+c.name, "why", detail)
}

// Drain says that the process is about to stop: no more requests are wanted. There is no way back.
func (r *Readiness) Drain() {
	r.mu.Lock()
	first := !r.draining
	r.draining = true
	log := r.Log
	r.mu.Unlock()
	if first && log != nil {
		log.Info("draining: no more requests are wanted")
	}
}

// State is the answer of GET /readyz.
type State struct {
	Ready      bool             `json:"ready"`
	Draining   bool             `json:"draining,omitempty"`
	Waiting    string           `json:"waiting_for,omitempty"` // the first condition that is not met
	Conditions []ConditionState `json:"conditions"`
}

// ConditionState is how one condition stands.
type ConditionState struct {
	Name   string `json:"name"`
	Met    bool   `json:"met"`
	Detail string `json:"detail,omitempty"`
}

// State says how things stand. A nil Readiness is ready.
func (r *Readiness) State() State {
	s := State{Ready: true, Conditions: []ConditionState{}}
	if r == nil {
		return s
	}
	conditions, asked := r.copy(&s)
	for _, c := range conditions {
		if f := asked[c.Name]; f != nil && c.Met {
			if err := f(); err != nil {
				c.Met, c.Detail = false, err.Error()
			}
		}
		if !c.Met && s.Waiting == "" {
			s.Waiting = c.Name
		}
		s.Conditions = append(s.Conditions, c)
	}
	s.Ready = s.Waiting == "" && !s.Draining
	return s
}

// copy takes what State needs, so that conditions are asked without the lock.
func (r *Readiness) copy(s *State) (list []ConditionState, asked map[string]func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Draining = r.draining
	asked = make(map[string]func() error, len(r.asked))
	for name, f := range r.asked {
		asked[name] = f
	}
	for _, c := range r.steps {
		list = append(list, ConditionState{c.name, c.met, c.detail})
	}
	return list, asked
}

// text is the state in lines, for people and for kubectl's events.
func (s State) text() string {
	var b strings.Builder
	switch {
	case s.Draining:
		b.WriteString("draining\n")
	case s.Ready:
		b.WriteString("ready\n")
	default:
		fmt.Fprintf(&b, "waiting for: %s\n", s.Waiting)
	}
	for _, c := range s.Conditions {
		mark := "-"
		if c.Met {
			mark = "+"
		}
		fmt.Fprintf(&b, "[%s] %s", mark, c.Name)
		if c.Detail != "" {
			b.WriteString(": " + c.Detail)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// ServeHTTP answers GET /readyz: status 200 when ready, else 503; text, or JSON for who asks for that.
func (r *Readiness) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s := r.State()
	status := http.StatusOK
	if !s.Ready {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	body, kind := []byte(s.text()), "text/plain; charset=utf-8"
	if strings.Contains(req.Header.Get("Accept"), "application/json") || req.URL.Query().Get("format") == "json" {
		body, _ = json.Marshal(s)
		kind = "application/json; charset=utf-8"
	}
	plainAnswer(w, status, kind, body)
}

// Alive answers GET /healthz: the process answers. It asks nothing and takes no lock, so that a busy server is not killed.
func Alive(w http.ResponseWriter, _ *http.Request) {
	plainAnswer(w, http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n"))
}

func plainAnswer(w http.ResponseWriter, status int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body) // who is gone needs no answer
}

// Probes is what a worker without an API, or a second address of a server, answers: /healthz, /readyz, and /metrics
// unless that is nil.
func Probes(ready *Readiness, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", Alive)
	mux.Handle("GET /readyz", ready)
	if metrics != nil {
		mux.Handle("GET /metrics", metrics)
	}
	return mux
}
