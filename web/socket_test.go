package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
	"github.com/comfyrun/comfyrun/web/webtest"
)

// cluster is some servers and a worker on one queue.
type cluster struct {
	replicas []*replica
	queue    *queue.Queue
}

func newCluster(t testing.TB, servers int) *cluster {
	t.Helper()
	c := &cluster{queue: openQueue(t, queue.Options{Memory: true})}
	base := webtest.Base(t)
	catalog := webtest.Catalog(t, base)
	for range servers {
		c.replicas = append(c.replicas, startReplica(t, c.queue, base, catalog))
	}
	startWorker(t, &worker.Worker{Queue: c.queue, Runners: []*worker.Runner{{Catalog: func() *engine.Catalog { return catalog },
		Engine: &engine.Runner{Cache: &engine.Cache{MaxBytes: 1 << 24}, Parallel: 1}}}})
	return c
}

// post submits a workflow at a server.
func (r *replica) post(t testing.TB, client, graph string) {
	t.Helper()
	body := json.RawMessage(fmt.Sprintf(`{"client_id":%q,"prompt":%s}`, client, graph))
	a, err := (&webtest.Player{URL: r.url}).Do(webtest.Request{Method: http.MethodPost, Path: "/prompt", JSON: body})
	if err != nil || a.Status != http.StatusOK {
		t.Errorf("%d %s %v", a.Status, a.Body, err)
	}
}

func showing(n int) string {
	return fmt.Sprintf(`{"1":{"class_type":"FxShow","inputs":{"value":%d}}}`, n)
}

// until returns the types of messages up to one that holds a text.
func (l *listener) until(t testing.TB, text string) (kinds []string) {
	t.Helper()
	for {
		f := l.Next(t)
		var m struct{ Type string }
		if err := json.Unmarshal(f.Data, &m); err != nil {
			t.Fatalf("%s: %v", f.Data, err)
		}
		kinds = append(kinds, m.Type)
		if strings.Contains(string(f.Data), text) {
			return kinds
		}
	}
}

const finished = `"node":null`

var shortRun = []string{"status", "status", "execution_start", "execution_cached", "progress_state", "executing", "executed", "progress_state",
	"execution_success", "status", "executing"}

func TestAnyReplicaServesAnyClient(t *testing.T) {
	c := newCluster(t, 2)
	here, there := listen(t, c.replicas[0].url, "/ws?clientId=a"), listen(t, c.replicas[1].url, "/ws?clientId=b")
	here.Next(t)
	there.Next(t)
	for n := range 5 {
		c.replicas[0].post(t, "b", showing(n))
		if diff := cmp.Diff(shortRun, there.until(t, finished)); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff([]string{"status", "status", "status"}, here.until(t, `"queue_remaining":0`)); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestReconnectElsewhere(t *testing.T) {
	c := newCluster(t, 2)
	first, other := listen(t, c.replicas[0].url, "/ws?clientId=a"), listen(t, c.replicas[1].url, "/ws?clientId=a")
	c.replicas[0].post(t, "a", `{"1":{"class_type":"FxSleep","inputs":{"value":1,"ms":60000}},"2":{"class_type":"FxShow","inputs":{"value":["1",0]}}}`)
	first.until(t, `"executing"`)
	other.until(t, `"executing"`) // each replica hears of it in its own time
	second := listen(t, c.replicas[1].url, "/ws?clientId=a")
	if got := string(second.Next(t).Data); got != `{"type":"status","data":{"status":{"exec_info":{"queue_remaining":1}},"sid":"a"}}` {
		t.Error(got)
	}
	if got := string(second.Next(t).Data); got != `{"type":"executing","data":{"node":"1"}}` {
		t.Error(got)
	}
	for _, info := range c.queue.List() {
		if _, err := c.queue.Cancel(t.Context(), info.ID); err != nil {
			t.Fatal(err)
		}
	}
	second.until(t, finished)
	first.until(t, finished)
	third := listen(t, c.replicas[0].url, "/ws?clientId=a")
	third.Next(t)
	third.Silent(t, "third")
}

// TestReplacedSocketGoes: the end of an earlier socket does not take the later one's messages away.
func TestReplacedSocketGoes(t *testing.T) {
	c := newCluster(t, 1)
	r := c.replicas[0]
	first := listen(t, r.url, "/ws?clientId=a")
	first.Next(t)
	second := listen(t, r.url, "/ws?clientId=a")
	second.Next(t)
	first.Silent(t, "first")
	first.Close(t)
	for range first.Frames {
		t.Error("the first socket got a message")
	}
	r.post(t, "a", showing(1))
	second.until(t, finished)
}

func TestCloseSaysGoodbye(t *testing.T) {
	c := newCluster(t, 1)
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(c.replicas[0].url, "http")+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := c.replicas[0].Server.Close(); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, _, err = conn.ReadMessage()
	}
	if !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Error(err)
	}
	if _, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(c.replicas[0].url, "http")+"/ws", nil); err != nil {
		t.Errorf("a late socket is refused without a close frame: %v", err)
	}
}

func TestLongMessageEndsSocket(t *testing.T) {
	c := newCluster(t, 1)
	l := listen(t, c.replicas[0].url, "/ws")
	l.Next(t)
	long := []byte(`{"type":"` + strings.Repeat("x", 2*socketRead) + `"}`)
	if err := l.Conn.WriteMessage(websocket.TextMessage, long); err != nil {
		t.Logf("the server did not wait for the end: %v", err)
	}
	select {
	case _, open := <-l.Frames:
		if open {
			t.Error("a message")
		}
	case <-time.After(time.Minute):
		t.Error("the socket stays open")
	}
}

func TestNoUpgrade(t *testing.T) {
	c := newCluster(t, 1)
	for path, want := range map[string]int{"/ws": 400, "/api/ws?clientId=x": 400} {
		a, err := (&webtest.Player{URL: c.replicas[0].url}).Do(webtest.Request{Method: http.MethodGet, Path: path})
		if err != nil || a.Status != want {
			t.Errorf("%s: %d %v", path, a.Status, err)
		}
	}
	_, answer, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(c.replicas[0].url, "http")+"/ws?clientId="+strings.Repeat("x", 2000), nil)
	if err == nil || answer.StatusCode != 400 {
		t.Errorf("a long id: %v", err)
	}
}

func TestLogsReachSockets(t *testing.T) {
	c := newCluster(t, 1)
	r := c.replicas[0]
	l := listen(t, r.url, "/ws?clientId=reader")
	l.Next(t)
	a, err := (&webtest.Player{URL: r.url}).Do(webtest.Request{Method: http.MethodPatch, Path: "/internal/logs/subscribe",
		JSON: json.RawMessage(`{"clientId":"reader","enabled":true}`)})
	if err != nil || a.Status != http.StatusOK {
		t.Fatalf("%d %v", a.Status, err)
	}
	r.Log.Info("hello")
	if got := l.until(t, "hello"); got[len(got)-1] != "logs" {
		t.Error(got)
	}
}

// tellerOf is a statusTeller and what it sent.
func tellerOf() (*statusTeller, *[]int) {
	var sent []int
	t := &statusTeller{lock: new(sync.Mutex)}
	t.send = func(n int) { sent = append(sent, n) }
	return t, &sent
}

func TestStatusInAnyOrder(t *testing.T) {
	accepted, begun, ended := worker.Status{Remaining: 1, Change: worker.Accepted}, worker.Status{Remaining: 1, Change: worker.Begun}, worker.Status{Change: worker.Other}
	for name, order := range map[string][]worker.Status{
		"as it should be":      {accepted, begun, ended},
		"the worker is faster": {begun, accepted, ended},
		"much faster":          {begun, ended, accepted},
	} {
		teller, sent := tellerOf()
		for range 3 { // the same id again
			for _, s := range order {
				teller.tell("p", s)
			}
		}
		if want := []int{1, 1, 0, 1, 1, 0, 1, 1, 0}; !slices.Equal(*sent, want) {
			t.Errorf("%s: %v", name, *sent)
		}
	}
}

func TestStatusUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teller, sent := tellerOf()
		for n := range 10_000 {
			teller.lock.Lock()
			teller.tell(fmt.Sprint(n), worker.Status{Remaining: n, Change: worker.Accepted})
			teller.lock.Unlock()
		}
		time.Sleep(2 * statusPause)
		teller.lock.Lock()
		defer teller.lock.Unlock()
		if n := len(*sent); n != statusBurst+1 || (*sent)[n-1] != 9999 {
			t.Errorf("%d messages, the last %d", n, (*sent)[n-1])
		}
		if len(teller.told) > maxTold {
			t.Errorf("%d prompts are remembered", len(teller.told))
		}
	})
}

// pair is a socket of the server's kind that nobody writes from.
func pair(t *testing.T) *socket {
	conns := make(chan *websocket.Conn, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
		}
		conns <- conn
	})
	server := newTestServer(t, mux)
	client, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return newSocket("x", <-conns, features{})
}

func TestSlowSocket(t *testing.T) {
	s := pair(t)
	passing := func(n int) { s.push(outgoing{[]byte(fmt.Sprint("p", n)), false, true}) }
	for n := range 2 * passingRoom {
		passing(n)
	}
	if len(s.waiting) != passingRoom || string(s.waiting[0].data) != fmt.Sprint("p", passingRoom) {
		t.Errorf("%d wait, the first %s", len(s.waiting), s.waiting[0].data)
	}
	for n := range socketRoom {
		s.push(outgoing{data: []byte(fmt.Sprint(n))})
	}
	if len(s.waiting) != socketRoom || s.passing != 0 || s.ended != nil {
		t.Errorf("%d wait, of these %d passing, ended %v", len(s.waiting), s.passing, s.ended)
	}
	passing(0)
	if s.ended == nil || *s.ended != tooSlow {
		t.Error("the row grows without a bound")
	}
	s.conn.Close()
}

func TestHugeMessages(t *testing.T) {
	s := pair(t)
	big := make([]byte, socketBytes*2/3)
	s.push(outgoing{big, true, true})
	s.push(outgoing{big, true, true})
	if len(s.waiting) != 1 || s.bytes != len(big) || s.ended != nil {
		t.Errorf("%d wait, %d bytes", len(s.waiting), s.bytes)
	}
	s.push(outgoing{make([]byte, 2*socketBytes), true, false})
	if len(s.waiting) != 1 || s.ended != nil {
		t.Error("a message beyond the bound is not sent at all")
	}
	s.conn.Close()
}

// TestManyClients: each client receives all messages of its own prompts that are not passing, and no others.
func TestManyClients(t *testing.T) {
	const clients, prompts = 200, 2
	c := newCluster(t, 2)
	listeners := make([]*listener, clients)
	for i := range listeners {
		listeners[i] = listen(t, c.replicas[i%2].url, fmt.Sprintf("/ws?clientId=c%d", i))
	}
	var posting sync.WaitGroup
	for from := range 4 {
		posting.Go(func() {
			for i := from; i < clients*prompts; i += 4 {
				c.replicas[i%2].post(t, fmt.Sprintf("c%d", i%clients), showing(i))
			}
		})
	}
	for i, l := range listeners {
		counts := map[string]int{}
		for range prompts {
			for _, kind := range l.until(t, finished) {
				counts[kind]++
			}
		}
		for _, kind := range shortRun {
			want := prompts
			if kind == "progress_state" {
				want = 2 * prompts
			}
			if kind == "executing" {
				want = 2 * prompts
			}
			if kind != "status" && counts[kind] != want {
				t.Fatalf("client %d: %d times %s: %v", i, counts[kind], kind, counts)
			}
		}
	}
	posting.Wait()
}

// TestManyPicturesArrive: what a node sends as its result is all there, in order.
func TestManyPicturesArrive(t *testing.T) {
	c := newCluster(t, 1)
	r := c.replicas[0]
	l := listen(t, r.url, "/ws?clientId=a")
	const pictures = 40
	r.post(t, "a", fmt.Sprintf(`{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":%d,"color":1}},`+
		`"2":{"class_type":"SaveImageWebsocket","inputs":{"images":["1",0]}}}`, pictures))
	got := 0
	for {
		f := l.Next(t)
		if f.Binary {
			got++
		} else if strings.Contains(string(f.Data), finished) {
			break
		}
	}
	if got != pictures {
		t.Errorf("%d pictures of %d", got, pictures)
	}
}
