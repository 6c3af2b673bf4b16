package web

import (
	"bytes"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Bounds of a socket.
const (
	socketRoom    = 1024     // messages that wait to be sent
	socketBytes   = 64 << 20 // of these
	passingRoom   = 256      // of these, how many may be left out
	socketRead    = 64 << 10 // bytes of a message from the client
	socketWrite   = 10 * time.Second
	socketPing    = 25 * time.Second
	socketSilence = 5 * time.Minute // without a sign of life; clients that only listen now and then answer pings late

	answerLead   = 15 * time.Millisecond  // that an answer to POST /prompt has over the messages of its prompt
	longestPause = 150 * time.Millisecond // of a client that submits without a break
)

// closing is why a socket ends: a close code and a text.
type closing struct {
	code int
	text string
}

var (
	goingAway = closing{websocket.CloseGoingAway, "the server stops"}
	tooSlow   = closing{websocket.ClosePolicyViolation, "the client does not keep up"}
	over      = closing{websocket.CloseNormalClosure, ""}
)

// outgoing is a message on its way to a client. A passing one may be left out.
type outgoing struct {
	data    []byte
	binary  bool
	passing bool
}

// socket is a client's connection.
type socket struct {
	sid      string
	conn     *websocket.Conn
	answer   []byte      // to the client's feature flags
	metadata atomic.Bool // the client understands previews with metadata

	held *outgoing // a preview that follows the next progress message; the hub's

	mu      sync.Mutex
	answers int       // to prompts of this client that are on their way
	since   time.Time // of the first of them
	waiting []outgoing
	passing int // of waiting
	bytes   int // of waiting
	ended   *closing
	wake    chan struct{}
}

func newSocket(sid string, conn *websocket.Conn, f features) *socket {
	return &socket{sid: sid, conn: conn, answer: jsonMessage("feature_flags", f), wake: make(chan struct{}, 1)}
}

var progressPrefix = []byte(`{"type":"progress",`)

// message sends a text, and the preview that waits for it.
func (s *socket) message(text []byte, passing bool) {
	if s.held == nil {
		s.push(outgoing{text, false, passing})
		return
	}
	held := *s.held
	s.held = nil
	if bytes.HasPrefix(text, progressPrefix) {
		s.push(outgoing{text, false, passing})
		s.push(held)
		return
	}
	s.push(held)
	s.push(outgoing{text, false, passing})
}

// hold keeps a preview until the progress message of its step.
func (s *socket) hold(preview outgoing) {
	if s.held != nil {
		s.push(*s.held)
	}
	s.held = &preview
}

// push puts a message into the row. When that is too long the oldest passing messages are left out; when that does not
// help the socket is closed.
func (s *socket) push(m outgoing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return
	}
	for s.passing > 0 && (m.passing && s.passing >= passingRoom || s.full(m)) {
		s.dropPassing()
	}
	if s.full(m) {
		s.endLocked(tooSlow)
		return
	}
	s.waiting = append(s.waiting, m)
	s.bytes += len(m.data)
	if m.passing {
		s.passing++
	}
	s.notify()
}

func (s *socket) full(m outgoing) bool {
	return len(s.waiting) >= socketRoom || s.bytes > 0 && s.bytes+len(m.data) > socketBytes
}

func (s *socket) dropPassing() {
	for i, m := range s.waiting {
		if m.passing {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			s.bytes -= len(m.data)
			s.passing--
			return
		}
	}
}

func (s *socket) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// end closes the socket, after what waits has been sent, unless it is too slow for that.
func (s *socket) end(why closing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(why)
}

func (s *socket) endLocked(why closing) {
	if s.ended != nil {
		return
	}
	s.ended = &why
	if why == tooSlow {
		s.waiting = nil
		// A write that hangs has its deadline brought forward.
		s.conn.NetConn().SetWriteDeadline(time.Now().Add(time.Second))
	}
	s.notify()
}

// pause keeps messages back until the function that it returns was called, and a little longer. Trivial prompts end
// before the answer to their submission is out, and clients exist that begin to listen when they have read it.
func (s *socket) pause() (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers == 0 {
		s.since = time.Now()
	}
	s.answers++
	return func() {
		time.AfterFunc(answerLead, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.answers--
			s.notify()
		})
	}
}

// take returns what waits to be sent, and whether nothing comes after it.
func (s *socket) take() ([]outgoing, *closing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers > 0 && s.ended == nil && time.Since(s.since) < longestPause {
		return nil, nil // resuming wakes the writer
	}
	batch := s.waiting
	s.waiting, s.passing, s.bytes = nil, 0, 0
	return batch, s.ended
}

// write sends what is pushed, and pings, until the socket ends.
func (s *socket) write() {
	defer s.conn.Close()
	ticker := time.NewTicker(socketPing)
	defer ticker.Stop()
	for {
		batch, ended := s.take()
		for _, m := range batch {
			if s.send(m) != nil {
				s.end(over)
				return
			}
		}
		if ended != nil {
			text := websocket.FormatCloseMessage(ended.code, ended.text)
			s.conn.WriteControl(websocket.CloseMessage, text, time.Now().Add(time.Second)) // the client may be gone
			return
		}
		select {
		case <-s.wake:
		case <-ticker.C:
			if s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(socketWrite)) != nil {
				s.end(over)
				return
			}
		}
	}
}

func (s *socket) send(m outgoing) error {
	kind := websocket.TextMessage
	if m.binary {
		kind = websocket.BinaryMessage
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(socketWrite)); err != nil {
		return err
	}
	return s.conn.WriteMessage(kind, m.data)
}

// read takes the client's messages, of which only the first counts, until the connection ends.
func (s *socket) read() {
	defer s.end(over)
	s.conn.SetReadLimit(socketRead)
	alive := func(string) error { return s.conn.SetReadDeadline(time.Now().Add(socketSilence)) }
	s.conn.SetPongHandler(alive)
	first := true
	for {
		if alive("") != nil {
			return
		}
		kind, data, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		if first && kind == websocket.TextMessage {
			first = !s.hear(data)
		}
	}
}

// hear reads a message and reports whether it is one. Feature flags are answered.
func (s *socket) hear(data []byte) bool {
	var m struct {
		Type any `json:"type"`
		Data struct {
			Metadata any `json:"supports_preview_metadata"`
		} `json:"data"`
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil || object == nil {
		return false
	}
	if err := json.Unmarshal(data, &m); err == nil && m.Type == "feature_flags" {
		s.metadata.Store(m.Data.Metadata == true)
		s.push(outgoing{data: s.answer})
	}
	return true
}
