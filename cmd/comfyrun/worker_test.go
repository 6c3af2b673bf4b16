package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue/queuetest"
)

// TestWorkers lets three worker processes share a queue with a server that runs nothing itself, and kills the one that has
// a prompt: another one must end it.
func TestWorkers(t *testing.T) {
	nats := queuetest.URL(t)
	home := t.TempDir() // outputs are read by whoever answers the client
	server := start(t, home, "serve", "--listen", "127.0.0.1:0", "--no-worker", "--nats", nats, "--lease", "3s")
	workers := map[string]*child{}
	for _, name := range []string{"one", "two", "three"} {
		workers[name] = start(t, home, "worker", "--listen", "127.0.0.1:0", "--nats", nats, "--lease", "3s", "--worker-name", name)
	}
	var ids []string
	for level := range 30 {
		ids = append(ids, server.submit(grey(level)))
	}
	for _, id := range ids {
		if e := server.wait(id); !e.Status.Completed {
			t.Errorf("prompt %s ended as %+v", id, e)
		}
	}

	if figures := grep(server.page("/metrics", http.StatusOK), `device="`); figures != "" {
		t.Errorf("a server that runs nothing tells of devices: %s", figures)
	}

	workflow := demoWorkflow(t)
	workflow["5"].(map[string]any)["inputs"].(map[string]any)["width"] = 512 // long enough to be killed in
	long := server.submit(workflow)
	victim := workerOf(t, workers, long)
	workers[victim].kill()
	killed := time.Now()
	if e := server.wait(long); !e.Status.Completed {
		t.Errorf("the prompt of the killed worker ended as %+v", e)
	}
	t.Logf("worker %s was killed, its prompt ended %.1f s later", victim, time.Since(killed).Seconds())
}

// workerOf waits until a prompt runs and says on which worker: the one whose log speaks of it.
func workerOf(t *testing.T, workers map[string]*child, id string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for name, w := range workers {
			if strings.Contains(w.logs.String(), id) {
				return name
			}
		}
	}
	t.Fatalf("prompt %s runs on no worker", id)
	return ""
}
