package engine

import "time"

// EventKind says what happened in a run.
type EventKind string

// What happens in a run, roughly in this order.
const (
	EventStart       EventKind = "start"
	EventCached      EventKind = "cached"      // Nodes: whose results are there already
	EventExecuting   EventKind = "executing"   // a node begins, or tries again after a lazy input
	EventProgress    EventKind = "progress"    // Value of Total, perhaps a Preview
	EventWarning     EventKind = "warning"     // Text: what a node has to say to people
	EventExecuted    EventKind = "executed"    // UI of a node, also of a cached output node
	EventNodeDone    EventKind = "node_done"   // Duration, Key, Digests
	EventBlocked     EventKind = "blocked"     // Err: a node did not run because of a Blocker with a message
	EventSuccess     EventKind = "success"     // the end
	EventError       EventKind = "error"       // the end: Err
	EventInterrupted EventKind = "interrupted" // the end
)

// Event is one thing that happened. Events of a run arrive one at a time.
type Event struct {
	Kind  EventKind
	Time  time.Time
	Meta         // of the node, where one is concerned
	Class string // of the node

	// Nodes are ids: of EventCached the nodes whose results are there; of
	// EventError, EventBlocked and EventInterrupted those that finished in
	// this run, in order. All is the ids of all nodes, with EventError.
	Nodes, All []string

	Value, Total int
	Preview      any

	Text string // EventWarning

	UI       UI
	Cached   bool // EventExecuted, EventNodeDone: taken from an earlier execution
	Key      Key
	Digests  []string // per output, see RunOptions.Digests
	Duration time.Duration
	Err      *NodeError
}

// Meta places a node. A node of the workflow itself is its own Display and
// Real and has no Parent; of one made by an expansion Display is the node that
// a page shows as running, Parent whose expansion it is, Real the node of the
// workflow behind it all.
type Meta struct{ Node, Display, Parent, Real string }

func (s *Step) meta() Meta {
	m := Meta{Node: s.ID, Display: s.ID, Real: s.ID}
	if s.parent == nil {
		return m
	}
	m.Parent, m.Display = s.parent.ID, ""
	for at := s; at.parent != nil; at = at.parent {
		if m.Display == "" {
			m.Display = at.display
		}
		m.Real = at.parent.ID
	}
	m.Display = orElse(m.Display, m.Real)
	return m
}

// real is the node of the workflow behind a node made by an expansion.
func (s *Step) real() *Step {
	for s.parent != nil {
		s = s.parent
	}
	return s
}

func (r *run) emit(e Event) {
	if r.options.Events == nil {
		return
	}
	e.Time = time.Now()
	r.emitting.Lock()
	defer r.emitting.Unlock()
	r.options.Events(e)
}

// tell emits an event about a step.
func (r *run) tell(s *Step, e Event) {
	if r.options.Events == nil {
		return
	}
	e.Meta, e.Class = s.meta(), s.Type.Class
	r.emit(e)
}
