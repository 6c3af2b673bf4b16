package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
	"github.com/comfyrun/comfyrun/engine/worker"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/web"
	"github.com/comfyrun/comfyrun/web/webtest"
)

// knownOfKSampler are differences from the recorded conversation about a real sampler that stand.
var knownOfKSampler = []webtest.Known{
	{Transcript: "ksampler", Step: webtest.AnyStep, Path: "*/comfyrun", Reason: "a member of our own: worker, attempts, times"},
}

// TestRecordedKSampler plays what clients and a ComfyUI 0.3.64 server said to each other about a real model: samplings with
// previews for clients of both kinds, results that are there already, an interruption within a sampling, and refusals. As in
// the recorded server, nodes run one after the other and only the last prompt's results are kept.
func TestRecordedKSampler(t *testing.T) {
	base := webtest.Base(t)
	weightstest.Write(t, filepath.Join(base, "models", "checkpoints"), "sd15-tiny-fp16")
	dirs := web.Dirs{
		Input: filepath.Join(base, "input"), Output: filepath.Join(base, "output"),
		Temp: filepath.Join(base, "temp"), User: filepath.Join(base, "user"),
	}
	folders := models.NewFolders([]string{filepath.Join(base, "models")})
	catalog := realCatalog(t, folders, nodes.Dirs{Input: dirs.Input, Output: dirs.Output, Temp: dirs.Temp})
	q, err := queue.Open(t.Context(), queue.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	server, err := web.New(web.Options{Queue: q, Catalog: catalog, Models: folders, Dirs: dirs})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(server.Handler())
	t.Cleanup(func() {
		h.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	work(t, &worker.Worker{
		Queue: q, Previews: worker.PreviewOptions{Method: "latent2rgb"},
		Runners: []*worker.Runner{{Catalog: server.Catalog, Engine: &engine.Runner{Cache: &engine.Cache{Classic: true}, Parallel: 1}}},
	})
	(&webtest.Player{URL: h.URL}).Converse(t, webtest.LoadConversation(t, "testdata/ksampler.jsonl"), knownOfKSampler)
}

// realCatalog is the catalogue of all nodes, on ONNX Runtime.
func realCatalog(t *testing.T, folders *models.Folders, dirs nodes.Dirs) func() *engine.Catalog {
	t.Helper()
	library := orttest.Library(t)
	d, err := diffusion.Open(diffusion.Options{
		Library:   func() (string, error) { return library, nil },
		Cache:     &weights.Cache{Dir: t.TempDir()},
		Embedding: nodes.EmbeddingFinder(folders),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	c, err := nodes.Catalog(&nodes.Runtime{Diffusion: d, Models: folders, Dirs: dirs})
	if err != nil {
		t.Fatal(err)
	}
	return func() *engine.Catalog { return c }
}

// work runs a worker until the test ends.
func work(t *testing.T, w *worker.Worker) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("worker: %v", err)
		}
	})
}
