package web

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
)

// hub hands the queue's events to the sockets that want them. A process has one, with one subscription, so that a
// client's socket may be at any process.
type hub struct {
	queue  *queue.Queue
	events *queue.Subscription
	done   chan struct{} // closed when no more events come

	mu      sync.Mutex
	sockets map[string]*socket   // by sid: the one that connected last
	open    map[*socket]struct{} // all
	running map[string][]place   // by client: the node of each of its prompts that run, that which began last at the end
	status  statusTeller
	closed  bool
	behind  sync.WaitGroup // goroutines of sockets
}

// place is a node of a prompt that runs, as pages show it.
type place struct{ prompt, node string }

// maxRunning bounds of how many clients the running nodes are known.
const maxRunning = 10_000

// newHub starts a hub.
func newHub(q *queue.Queue) (*hub, error) {
	events, err := q.Subscribe(queue.Filter{})
	if err != nil {
		return nil, fmt.Errorf("start hub: %w", err)
	}
	h := &hub{queue: q, events: events, done: make(chan struct{}),
		sockets: map[string]*socket{}, open: map[*socket]struct{}{}, running: map[string][]place{}}
	h.status.send = h.sendStatus
	h.status.lock = &h.mu
	go func() {
		defer close(h.done)
		for e := range events.C {
			h.dispatch(e)
		}
	}()
	return h, nil
}

// close says goodbye to all sockets and waits until they are gone.
func (h *hub) close() {
	h.events.Close()
	<-h.done
	h.mu.Lock()
	h.closed = true
	h.status.stop()
	for s := range h.open {
		s.end(goingAway)
	}
	h.mu.Unlock()
	h.behind.Wait()
}

// dispatch gives an event to whom it concerns.
func (h *hub) dispatch(e queue.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e.Kind {
	case worker.KindStatus:
		var s worker.Status
		if json.Unmarshal(e.Data, &s) == nil { // else it is of another version
			h.status.tell(e.Prompt, s)
		}
	case worker.KindMessage:
		h.follow(e)
		h.each(e.Client, func(s *socket) { s.message(e.Data, e.Passing) })
	case worker.KindText:
		text := numbered(frameText, e.Data)
		h.each(e.Client, func(s *socket) { s.push(outgoing{text, true, e.Passing}) })
	case worker.KindPreview:
		h.preview(e)
	}
}

// each calls a function for a client's socket, or for all of them.
func (h *hub) each(client string, f func(*socket)) {
	if client != "" {
		if s := h.sockets[client]; s != nil {
			f(s)
		}
		return
	}
	for _, s := range h.sockets {
		f(s)
	}
}

// Numbers of binary frames.
const (
	framePreview  = 1 // type of the picture, picture
	frameText     = 3
	frameMetadata = 4 // length of the metadata, metadata, picture

	jpegPreview = 1
	pngPreview  = 2
)

func numbered(number uint32, body ...[]byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, number)
	for _, b := range body {
		out = append(out, b...)
	}
	return out
}

// preview sends a picture with its metadata to a client that understands them, and alone to others. One that is
// for everybody is sent alone.
func (h *hub) preview(e queue.Event) {
	if len(e.Data) < 4 {
		return
	}
	length := int64(binary.BigEndian.Uint32(e.Data))
	if length > int64(len(e.Data)-4) {
		return
	}
	picture := e.Data[4+length:]
	kind := uint32(jpegPreview)
	if bytes.HasPrefix(picture, []byte("\x89PNG")) {
		kind = pngPreview
	}
	var alone, rich []byte
	h.each(e.Client, func(s *socket) {
		if e.Client != "" && s.metadata.Load() {
			if rich == nil {
				rich = numbered(frameMetadata, e.Data)
			}
			s.push(outgoing{rich, true, e.Passing})
			return
		}
		if alone == nil {
			alone = numbered(framePreview, binary.BigEndian.AppendUint32(nil, kind), picture)
		}
		s.hold(outgoing{alone, true, e.Passing})
	})
}

var executingPrefix = []byte(`{"type":"executing",`)

// follow takes note of the node that runs of a client's prompt, for sockets that connect later.
func (h *hub) follow(e queue.Event) {
	if e.Client == "" || !bytes.HasPrefix(e.Data, executingPrefix) {
		return
	}
	var m struct {
		Data struct {
			Display string `json:"display_node"`
		}
	}
	if json.Unmarshal(e.Data, &m) != nil {
		return
	}
	known := h.leaves(e.Client, e.Prompt)
	if m.Data.Display != "" && (known || len(h.running) < maxRunning) {
		h.running[e.Client] = append(h.running[e.Client], place{e.Prompt, m.Data.Display})
	}
}

// leaves forgets the running node of a client's prompt, and reports whether anything was known of the client.
func (h *hub) leaves(client, prompt string) (known bool) {
	places, known := h.running[client]
	places = slices.DeleteFunc(places, func(p place) bool { return p.prompt == prompt })
	if h.running[client] = places; len(places) == 0 {
		delete(h.running, client)
	}
	return known
}

// checkRunning forgets the running nodes of a client's prompts that do not run any more: their worker may have died.
func (h *hub) checkRunning(ctx context.Context, sid string) {
	h.mu.Lock()
	places := slices.Clone(h.running[sid])
	h.mu.Unlock()
	for _, at := range places {
		if info, err := h.queue.Find(ctx, at.prompt); err == nil && info.State == queue.Running {
			continue
		}
		h.mu.Lock()
		if slices.Contains(h.running[sid], at) { // else it has gone on meanwhile
			h.leaves(sid, at.prompt)
		}
		h.mu.Unlock()
	}
}

// add makes a socket its client's, in place of an earlier one, and greets it. False: the hub is closed.
func (h *hub) add(s *socket) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.open[s] = struct{}{}
	h.sockets[s.sid] = s
	h.behind.Add(2)
	s.push(outgoing{data: statusMessage(h.queue.Depth(), &s.sid)})
	if places := h.running[s.sid]; len(places) > 0 {
		s.push(outgoing{data: jsonMessage("executing", map[string]string{"node": places[len(places)-1].node})})
	}
	return true
}

// remove forgets a socket, and only that one: its client may have connected again.
func (h *hub) remove(s *socket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, s)
	if h.sockets[s.sid] == s {
		delete(h.sockets, s.sid)
	}
}

// pause keeps back what is for a client while its prompt is being answered; see socket.pause.
func (h *hub) pause(client string) (resume func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sockets[client]; s != nil {
		return s.pause()
	}
	return func() {}
}

// post sends a message to clients of this process.
func (h *hub) post(sids []string, text []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, sid := range sids {
		if s := h.sockets[sid]; s != nil {
			s.push(outgoing{data: text, passing: true})
		}
	}
}

// sendStatus tells every client how many prompts are left.
func (h *hub) sendStatus(remaining int) {
	text := statusMessage(remaining, nil)
	for _, s := range h.sockets {
		s.message(text, false)
	}
}

func statusMessage(remaining int, sid *string) []byte {
	type info struct {
		Remaining int `json:"queue_remaining"`
	}
	type status struct {
		Info info `json:"exec_info"`
	}
	return jsonMessage("status", struct {
		Status status  `json:"status"`
		SID    *string `json:"sid,omitempty"`
	}{status{info{remaining}}, sid})
}

func jsonMessage(kind string, data any) []byte {
	text, err := json.Marshal(struct {
		Type string `json:"type"`
		Data any    `json:"data"`
	}{kind, data})
	if err != nil {
		return []byte("{}") // data is made of texts and numbers
	}
	return text
}
