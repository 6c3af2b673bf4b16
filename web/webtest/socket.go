package webtest

import (
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// Frame is a message as a client receives it.
type Frame struct {
	Binary bool
	Data   []byte
}

// Socket is a client's connection.
type Socket struct {
	Conn   *websocket.Conn
	Frames chan Frame // closed when the connection has ended
}

// Listen connects to a path of the server at url and gathers what comes until
// the test ends.
func Listen(t testing.TB, url, path string) *Socket {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(url, "http")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &Socket{conn, make(chan Frame, 1024)}
	go func() {
		defer close(s.Frames)
		for {
			kind, data, err := conn.ReadMessage()
			if err != nil {
				return
			}
			s.Frames <- Frame{kind == websocket.BinaryMessage, data}
		}
	}()
	t.Cleanup(func() { conn.Close() })
	return s
}

const listenPatience = time.Minute

// Next waits for a message.
func (s *Socket) Next(t testing.TB) Frame {
	t.Helper()
	select {
	case f, ok := <-s.Frames:
		if !ok {
			t.Fatal("the connection has ended")
		}
		return f
	case <-time.After(listenPatience):
		t.Fatalf("no message within %v", listenPatience)
	}
	return Frame{}
}

// Silent checks that no message comes.
func (s *Socket) Silent(t testing.TB, name string) {
	t.Helper()
	select {
	case f, ok := <-s.Frames:
		if ok {
			t.Errorf("socket %s: not recorded: %s", name, f.Data)
		}
	case <-time.After(50 * time.Millisecond):
	}
}

// Send sends a text.
func (s *Socket) Send(t testing.TB, text string) {
	t.Helper()
	if err := s.Conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// Close says goodbye.
func (s *Socket) Close(t testing.TB) {
	t.Helper()
	if err := s.Conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")); err != nil {
		t.Error(err)
	}
}
