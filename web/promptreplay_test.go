package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
	"github.com/comfyrun/comfyrun/web/webtest"
)

// stage is a server with a worker on a copy of the recorded folders.
type stage struct {
	*Server
	url, base string
	queue     *queue.Queue
	cache     engine.Cache // of the worker
}

// newStage starts a server; nobody executes its prompts before work.
func newStage(t testing.TB, o queue.Options) *stage {
	t.Helper()
	q, err := queue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	base := webtest.Base(t)
	catalog := webtest.Catalog(t, base)
	st := &stage{queue: q, base: base, cache: engine.Cache{Classic: true}}
	st.Server, err = New(Options{
		Free: func(_, results bool) {
			if results {
				st.cache.Clear()
			}
		},
		Queue: q, Catalog: func() *engine.Catalog { return catalog }, Models: models.NewFolders([]string{filepath.Join(base, "models")}),
		Dirs: Dirs{
			Input: filepath.Join(base, "input"), Output: filepath.Join(base, "output"),
			Temp: filepath.Join(base, "temp"), User: filepath.Join(base, "user"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(st.Handler())
	t.Cleanup(func() { h.Close(); st.Close() })
	st.url = h.URL
	return st
}

// work starts a worker.
func (s *stage) work(t testing.TB) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := &worker.Worker{Queue: s.queue, Runners: []*worker.Runner{{Catalog: s.Catalog, Engine: &engine.Runner{Cache: &s.cache, Parallel: 1}}}}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
}

func TestRecordedPrompts(t *testing.T) {
	for _, name := range []string{"prompt_lifecycle", "prompt_errors", "coercion", "queue_control", "run_errors"} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, queue.Options{Memory: true})
			s.work(t)
			player := webtest.Player{URL: s.url, Folders: map[string]string{s.base: "/base"}, Idle: true}
			if name == "queue_control" {
				player.Idle, player.Patience = false, time.Minute
				player.After = s.waitRunning
			}
			player.Play(t, webtest.Load(t, filepath.Join("testdata", "http", name+".json")), knownOfPrompts)
		})
	}
}

// waitRunning waits after the first step of queue_control until its prompt has been taken, before another one can be.
func (s *stage) waitRunning(t testing.TB, step int) {
	for end := time.Now().Add(time.Minute); step == 0 && s.queue.Stats().Running == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody takes the first prompt")
		}
	}
}

// post sends a body and returns status and answer.
func (s *stage) post(t testing.TB, path, body string, header ...string) (int, string) {
	t.Helper()
	r := webtest.Request{Method: http.MethodPost, Path: path, Text: &body, Headers: map[string]string{}}
	for i := 0; i+1 < len(header); i += 2 {
		r.Headers[header[i]] = header[i+1]
	}
	return s.do(t, r)
}

func (s *stage) get(t testing.TB, path string) (int, string) {
	t.Helper()
	return s.do(t, webtest.Request{Method: http.MethodGet, Path: path})
}

func (s *stage) do(t testing.TB, r webtest.Request) (int, string) {
	t.Helper()
	a, err := (&webtest.Player{URL: s.url}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return a.Status, strings.TrimSpace(string(a.Body))
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
