package webtest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Converse plays a recorded conversation: it sends what the clients sent and
// compares every message that they received, in its order within a connection.
// A difference has the path of the request, or of the message below "recv" or
// "metadata"; known ones that name a line have it as Step, counted from 1 as in
// the file. Progress that comes between an interruption and its message is not
// compared: how far a node gets is a matter of speed.
func (p *Player) Converse(t *testing.T, c *Conversation, known []Known) {
	t.Helper()
	known = slices.DeleteFunc(slices.Clone(known), func(k Known) bool { return k.Transcript != c.Name })
	m := &meeting{Player: p, t: t, known: known, sockets: map[string]*Socket{}, met: map[Known]bool{}}
	for i, e := range inCausalOrder(c.Events) {
		m.line = i + 2 // after the line on the whole
		m.play(e)
		if t.Failed() {
			t.Fatalf("line %d: stopped", m.line)
		}
	}
	for name, s := range m.sockets {
		s.Silent(t, name)
	}
	for _, k := range known {
		if !m.met[k] {
			t.Errorf("%s does not differ, although that is known: %s", k.Path, k.Reason)
		}
	}
}

// meeting is a conversation while it is played.
type meeting struct {
	*Player
	t           *testing.T
	known       []Known
	sockets     map[string]*Socket
	met         map[Known]bool
	line        int
	interrupted bool // and the message about it has not come
}

func (m *meeting) play(e Event) {
	s := m.sockets[e.Socket]
	switch {
	case e.Connect != "":
		m.sockets[e.Socket] = Listen(m.t, m.URL, e.Connect)
	case e.Send != nil:
		s.Send(m.t, string(e.Send))
	case e.SendText != "":
		s.Send(m.t, e.SendText)
	case e.Close:
		s.Close(m.t)
	case e.Closed:
		m.closed(e.Socket)
	case e.Recv != nil:
		m.Pace.comesTo(e.Recv)
		m.text(e.Recv, m.next(s, e.Recv))
	case e.RecvBinary != nil:
		m.binary(e.RecvBinary, s.Next(m.t))
	case e.Request != nil:
		m.request(e)
	}
}

// inCausalOrder puts requests before the status messages that they cause:
// recorded was when their answers came.
func inCausalOrder(events []Event) []Event {
	events, remaining := slices.Clone(events), map[string]int{}
	for i, e := range events {
		n, ok := statusOf(e)
		caused := ok && n > remaining[e.Socket]
		if ok {
			remaining[e.Socket] = n
		}
		if caused && i+1 < len(events) && events[i+1].Request != nil {
			events[i], events[i+1] = events[i+1], events[i]
		}
	}
	return events
}

func statusOf(e Event) (remaining int, ok bool) {
	var m struct {
		Type string
		Data struct {
			Status struct {
				Info struct {
					Remaining int `json:"queue_remaining"`
				} `json:"exec_info"`
			}
		}
	}
	ok = e.Recv != nil && json.Unmarshal(e.Recv, &m) == nil && m.Type == "status"
	return m.Data.Status.Info.Remaining, ok
}

// closed waits for the end of a connection, before which nothing more comes.
func (m *meeting) closed(name string) {
	for f := range m.sockets[name].Frames {
		if !progress(f) { // which is under way while the client says goodbye
			m.t.Errorf("socket %s: not recorded: %s", name, f.Data)
		}
	}
	delete(m.sockets, name)
}

// progress says whether a message is a node's progress or a preview.
func progress(f Frame) bool { return f.Binary || bytes.Contains(f.Data, []byte(`"progress`)) }

// next waits for the message that is to be like want.
func (m *meeting) next(s *Socket, want json.RawMessage) Frame {
	f := s.Next(m.t)
	for m.interrupted && progress(f) && !progress(Frame{Data: want}) {
		f = s.Next(m.t)
	}
	m.interrupted = m.interrupted && !bytes.Contains(f.Data, []byte(`"execution_interrupted"`))
	return f
}

func (m *meeting) request(e Event) {
	a, err := m.Do(*e.Request)
	if err != nil {
		m.t.Fatal(err)
	}
	m.interrupted = m.interrupted || strings.HasSuffix(e.Request.Path, "/interrupt")
	m.report(e.Request.Path, m.Differences(*e.Response, a))
}

func (m *meeting) report(at string, differences []Difference) {
	m.t.Helper()
	for _, d := range differences {
		k := slices.IndexFunc(m.known, func(k Known) bool { return k.covers(k.Transcript, m.line, d.Path) })
		if k < 0 {
			m.t.Errorf("line %d, %s: %v", m.line, at, d)
			continue
		}
		m.met[m.known[k]] = true
	}
}

func (m *meeting) text(want json.RawMessage, got Frame) {
	if got.Binary {
		m.t.Errorf("line %d: want %s, got a binary frame", m.line, want)
		return
	}
	differences := Compare("recv", want, got.Data)
	m.report("message", differences)
	if a, b := keysInOrder(want), keysInOrder(got.Data); len(differences) == 0 && !slices.Equal(a, b) {
		m.t.Errorf("line %d: keys\n%v, want\n%v", m.line, b, a)
	}
}

// keysInOrder are the keys of all objects of a JSON text, one after the other.
func keysInOrder(data []byte) (out []string) {
	d := json.NewDecoder(bytes.NewReader(data))
	type level struct {
		object bool
		key    bool
	}
	var stack []level
	for {
		token, err := d.Token()
		if err != nil {
			return out
		}
		if delim, ok := token.(json.Delim); ok {
			if delim == '{' || delim == '[' {
				stack = append(stack, level{delim == '{', true})
				continue
			}
			stack = stack[:len(stack)-1]
		} else if n := len(stack); n > 0 && stack[n-1].object && stack[n-1].key {
			out = append(out, token.(string))
			stack[n-1].key = false
			continue
		}
		if n := len(stack); n > 0 {
			stack[n-1].key = true
		}
	}
}

// recordedFrame is what is known of a binary message.
type recordedFrame struct {
	Event     uint32
	First     string          `json:"first_16_bytes_hex"`
	ImageType uint32          `json:"image_type"`
	Length    uint32          `json:"metadata_length"`
	Metadata  json.RawMessage `json:"metadata"`
	Image     *Picture        `json:"image"`
}

func (m *meeting) binary(want json.RawMessage, got Frame) {
	var w recordedFrame
	if err := json.Unmarshal(want, &w); err != nil {
		m.t.Fatal(err)
	}
	if !got.Binary || len(got.Data) < 16 {
		m.t.Fatalf("line %d: want binary frame %s, got %s", m.line, want, got.Data)
	}
	head := 16
	if w.ImageType == 1 {
		head = 10 // the rest are the encoder's own markers
	}
	if first := hex.EncodeToString(got.Data[:16]); first[:2*head] != w.First[:2*head] {
		m.t.Errorf("line %d: begins with %s, want %s", m.line, first, w.First)
	}
	number, second, body := binary.BigEndian.Uint32(got.Data), binary.BigEndian.Uint32(got.Data[4:]), got.Data[8:]
	switch {
	case number != w.Event:
		m.t.Fatalf("line %d: frame %d, want %d", m.line, number, w.Event)
	case w.Metadata != nil && second == w.Length:
		m.report("frame", Compare("metadata", w.Metadata, body[:second]))
		body = body[second:]
	case w.Metadata != nil || second != w.ImageType:
		m.t.Fatalf("line %d: %d after the number of the frame, want %s", m.line, second, want)
	}
	m.report(fmt.Sprint("picture of frame ", number),
		m.Differences(Response{Status: http.StatusOK, Picture: w.Image}, Answer{Status: http.StatusOK, Body: body}))
}
