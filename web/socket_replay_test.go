package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

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

// listener is a client's socket.
type listener struct{ *webtest.Socket }

func listen(t testing.TB, url, path string) *listener {
	t.Helper()
	return &listener{webtest.Listen(t, url, path)}
}

const ownMember = "a member of our own: worker, attempts, times"

// knownOfSockets are differences from recorded socket conversations that stand, by the path in the message.
var knownOfSockets = []webtest.Known{
	{Transcript: "error_in_node", Step: webtest.AnyStep, Path: "*/current_inputs/prompt", Reason: "hidden inputs are not told: they repeat the workflow"},
	{Transcript: "error_in_node", Step: webtest.AnyStep, Path: "*/current_inputs/extra_pnginfo", Reason: "hidden inputs are not told: they repeat the workflow"},
	{Transcript: "error_in_node", Step: webtest.AnyStep, Path: "*/comfyrun", Reason: ownMember},
}

// The real sampler of ksampler.jsonl is not at hand here: cmd/comfyrun plays that.
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
			r, pace := startReplica(t, q, base, catalog), &webtest.Pace{}
			startWorker(t, &worker.Worker{Queue: q, Observe: paceKeeper{pace}, Runners: []*worker.Runner{{Catalog: r.Catalog,
				Engine: &engine.Runner{Cache: &engine.Cache{Classic: true}, Parallel: 1}}}})
			(&webtest.Player{URL: r.url, Pace: pace}).Converse(t, webtest.LoadConversation(t, file), knownOfSockets)
		})
	}
}

// paceKeeper puts the pace of a conversation into the context of each prompt.
type paceKeeper struct{ *webtest.Pace }

func (k paceKeeper) Taken(ctx context.Context, t worker.Taken) context.Context {
	return k.Of(ctx, t.Prompt.ID)
}

func (paceKeeper) NodeDone(context.Context, worker.NodeDone) {}

func (paceKeeper) Finished(context.Context, worker.Finished) {}

func newTestServer(t testing.TB, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}
