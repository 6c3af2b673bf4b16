package web

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
	"github.com/comfyrun/comfyrun/web/webtest"
)

// replica is a server, perhaps one of several on a queue.
type replica struct {
	*Server
	url string
}

// startReplica starts a server on a base folder.
func startReplica(t testing.TB, q *queue.Queue, base string, catalog *engine.Catalog) *replica {
	t.Helper()
	s, err := New(Options{
		Queue: q, Catalog: func() *engine.Catalog { return catalog }, Models: models.NewFolders([]string{filepath.Join(base, "models")}),
		Dirs: Dirs{
			Input: filepath.Join(base, "input"), Output: filepath.Join(base, "output"),
			Temp: filepath.Join(base, "temp"), User: filepath.Join(base, "user"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &replica{s, h.URL}
}

func openQueue(t testing.TB, o queue.Options) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

// startWorker runs a worker until the test ends.
func startWorker(t testing.TB, w *worker.Worker) *worker.Worker {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
	return w
}

// frame is a message as a client receives it.
type frame struct {
	binary bool
	data   []byte
}

// listener is a client's socket.
type listener struct {
	conn   *websocket.Conn
	frames chan frame // closed when the connection has ended
}

func listen(t testing.TB, url, path string) *listener {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(url, "http")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{conn, make(chan frame, 1024)}
	go func() {
		defer close(l.frames)
		for {
			kind, data, err := conn.ReadMessage()
			if err != nil {
				return
			}
			l.frames <- frame{kind == websocket.BinaryMessage, data}
		}
	}()
	t.Cleanup(func() { conn.Close() })
	return l
}

const listenPatience = 20 * time.Second

// next waits for a message.
func (l *listener) next(t testing.TB) frame {
	t.Helper()
	select {
	case f, ok := <-l.frames:
		if !ok {
			t.Fatal("the connection has ended")
		}
		return f
	case <-time.After(listenPatience):
		t.Fatalf("no message within %v", listenPatience)
	}
	return frame{}
}

// silent checks that no message comes.
func (l *listener) silent(t testing.TB, name string) {
	t.Helper()
	select {
	case f, ok := <-l.frames:
		if ok {
			t.Errorf("socket %s: not recorded: %s", name, f.data)
		}
	case <-time.After(50 * time.Millisecond):
	}
}

// close says goodbye.
func (l *listener) close(t testing.TB) {
	t.Helper()
	if err := l.conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")); err != nil {
		t.Error(err)
	}
}

// knownOfSockets are differences from recorded socket conversations that stand, by the path in the message.
var knownOfSockets = []struct{ conversation, path, reason string }{
	{"error_in_node", "/current_inputs/prompt", "hidden inputs are not told: they repeat the workflow"},
	{"error_in_node", "/current_inputs/extra_pnginfo", "hidden inputs are not told: they repeat the workflow"},
	{"error_in_node", "/comfyrun", "a member of our own: worker, attempts, times"},
	{"error_in_node", "/comfyrun", "a member of our own: worker, attempts, times"},
	{"error_in_node", "/comfyrun", "a member of our own: worker, attempts, times"},
}

// The real sampler of ksampler.jsonl is not at hand here.
func TestRecordedSockets(t *testing.T) {
	files, err := filepath.Glob("testdata/ws/*.jsonl")
	if err != nil || len(files) != 11 {
		t.Fatalf("%d conversations, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".jsonl"), func(t *testing.T) {
			t.Parallel()
			q, base := openQueue(t, queue.Options{Memory: true}), webtest.Base(t)
			catalog := webtest.Catalog(t, base)
			r := startReplica(t, q, base, catalog)
			startWorker(t, &worker.Worker{Queue: q, Catalog: r.Catalog,
				Runner: &engine.Runner{Cache: &engine.Cache{Classic: true}, Parallel: 1}})
			c := &conversation{Conversation: webtest.LoadConversation(t, file), url: r.url, player: webtest.Player{URL: r.url},
				sockets: map[string]*listener{}, met: map[string]bool{}}
			c.play(t)
		})
	}
}

// conversation plays a recorded one.
type conversation struct {
	*webtest.Conversation
	url     string
	player  webtest.Player
	sockets map[string]*listener
	met     map[string]bool // known differences that occurred
}

// order puts requests before the status messages that they cause: recorded was when their answers came.
func (c *conversation) order() {
	remaining := map[string]int{}
	for i, e := range c.Events {
		n, ok := statusOf(e)
		caused := ok && n > remaining[e.Socket]
		if ok {
			remaining[e.Socket] = n
		}
		if caused && i+1 < len(c.Events) && c.Events[i+1].Request != nil {
			c.Events[i], c.Events[i+1] = c.Events[i+1], c.Events[i]
		}
	}
}

func statusOf(e webtest.Event) (remaining int, ok bool) {
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

func (c *conversation) play(t *testing.T) {
	c.order()
	for i, e := range c.Events {
		at := fmt.Sprintf("line %d", i+2)
		l := c.sockets[e.Socket]
		switch {
		case e.Connect != "":
			c.sockets[e.Socket] = listen(t, c.url, e.Connect)
		case e.Send != nil:
			l.send(t, string(e.Send))
		case e.SendText != "":
			l.send(t, e.SendText)
		case e.Close:
			l.close(t)
		case e.Closed:
			c.closed(t, e.Socket)
		case e.Recv != nil:
			c.text(t, at, e.Recv, l.next(t))
		case e.RecvBinary != nil:
			c.binary(t, at, e.RecvBinary, l.next(t))
		case e.Request != nil:
			c.request(t, at, e)
		}
		if t.Failed() {
			t.Fatalf("%s: stopped", at)
		}
	}
	for name, l := range c.sockets {
		l.silent(t, name)
	}
	for _, k := range knownOfSockets {
		if k.conversation == c.Name && !c.met[k.path] {
			t.Errorf("%s does not differ, although that is known: %s", k.path, k.reason)
		}
	}
}

func (l *listener) send(t testing.TB, text string) {
	t.Helper()
	if err := l.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// closed waits for the end of a connection, before which nothing more comes.
func (c *conversation) closed(t *testing.T, name string) {
	for f := range c.sockets[name].frames {
		if !bytes.Contains(f.data, []byte(`"progress`)) { // which is under way while the client says goodbye
			t.Errorf("socket %s: not recorded: %s", name, f.data)
		}
	}
	delete(c.sockets, name)
}

// slower gives the player time between two steps of a node: the recorded machine had nothing else to do.
var slower = strings.NewReplacer(`"delay_ms": 100`, `"delay_ms": 200`, `"delay_ms": 60`, `"delay_ms": 200`)

func (c *conversation) request(t *testing.T, at string, e webtest.Event) {
	r := *e.Request
	if r.JSON != nil {
		r.JSON = json.RawMessage(slower.Replace(string(r.JSON)))
	}
	a, err := c.player.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	c.report(t, at+" "+e.Request.Path, c.player.Differences(*e.Response, a))
}

func (c *conversation) report(t *testing.T, at string, differences []webtest.Difference) {
	for _, d := range differences {
		known := slices.IndexFunc(knownOfSockets, func(k struct{ conversation, path, reason string }) bool {
			return k.conversation == c.Name && strings.HasSuffix(d.Path, k.path)
		})
		if known < 0 {
			t.Errorf("%s: %v", at, d)
			continue
		}
		c.met[knownOfSockets[known].path] = true
	}
}

func (c *conversation) text(t *testing.T, at string, want json.RawMessage, got frame) {
	if got.binary {
		t.Errorf("%s: want %s, got a binary frame", at, want)
		return
	}
	differences := webtest.Compare("recv", want, got.data)
	c.report(t, at, differences)
	if a, b := keysInOrder(t, want), keysInOrder(t, got.data); len(differences) == 0 && !slices.Equal(a, b) {
		t.Errorf("%s: keys\n%v, want\n%v", at, b, a)
	}
}

// keysInOrder are the keys of all objects of a JSON text, one after the other.
func keysInOrder(t *testing.T, data []byte) (out []string) {
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

func (c *conversation) binary(t *testing.T, at string, want json.RawMessage, got frame) {
	var w struct {
		Event     uint32
		First     string           `json:"first_16_bytes_hex"`
		ImageType uint32           `json:"image_type"`
		Length    uint32           `json:"metadata_length"`
		Metadata  json.RawMessage  `json:"metadata"`
		Image     *webtest.Picture `json:"image"`
	}
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	if !got.binary || len(got.data) < 16 {
		t.Fatalf("%s: want binary frame %s, got %s", at, want, got.data)
	}
	head := 16
	if w.ImageType == 1 {
		head = 10 // the rest are the encoder's own markers
	}
	if first := hex.EncodeToString(got.data[:16]); first[:2*head] != w.First[:2*head] {
		t.Errorf("%s: begins with %s, want %s", at, first, w.First)
	}
	number, second, body := binary.BigEndian.Uint32(got.data), binary.BigEndian.Uint32(got.data[4:]), got.data[8:]
	switch {
	case number != w.Event:
		t.Fatalf("%s: frame %d, want %d", at, number, w.Event)
	case w.Metadata != nil && second == w.Length:
		c.report(t, at, webtest.Compare("metadata", w.Metadata, body[:second]))
		body = body[second:]
	case w.Metadata != nil || second != w.ImageType:
		t.Fatalf("%s: %d after the number of the frame, want %s", at, second, want)
	}
	c.report(t, at, c.player.Differences(webtest.Response{Status: http.StatusOK, Picture: w.Image}, webtest.Answer{Status: http.StatusOK, Body: body}))
}

func newTestServer(t testing.TB, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}
