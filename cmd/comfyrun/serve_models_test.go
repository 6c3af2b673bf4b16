package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/demo"
	"github.com/comfyrun/comfyrun/engine/queue/queuetest"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/workflows"
)

// modelSource gives versions of a model by path, and notes what is asked for.
type modelSource struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	asked []string
	gate  chan struct{} // nil: open
}

func newModelSource(t *testing.T) *modelSource {
	t.Helper()
	s := &modelSource{files: map[string][]byte{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *modelSource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.Path)
	data, known := s.files[r.URL.Path]
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	}
	if !known {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (s *modelSource) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// add offers a content and returns its entry under a name.
func (s *modelSource) add(t *testing.T, name string, data []byte) models.Entry {
	t.Helper()
	sum, err := models.HashPieces(t.Context(), bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	path := "/" + sum.SHA256
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = data
	return models.Entry{Name: name, Size: sum.Size, SHA256: sum.SHA256, Sources: []string{s.URL + path}}
}

func writeLock(t *testing.T, file string, entries ...models.Entry) {
	t.Helper()
	lock := &models.Lock{}
	for _, e := range entries {
		lock.Set(e)
	}
	if err := models.WriteLock(file, lock); err != nil {
		t.Fatal(err)
	}
}

// demoVersion is the demo model with a part of its weights at zero, so that it draws something else; 0 is the model as it is.
func demoVersion(t *testing.T, version int) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../engine/models/demo", demo.Name))
	if err != nil {
		t.Fatal(err)
	}
	for at := 1 << 18; version > 0 && at < len(data)-1<<16; at += 1 << 16 {
		clear(data[at : at+version<<12])
	}
	return data
}

// small is the demo workflow with another checkpoint, in little time.
func small(t *testing.T, checkpoint string, seed int) map[string]any {
	t.Helper()
	w := demoWorkflow(t)
	set := func(node, input string, value any) {
		w[node].(map[string]any)["inputs"].(map[string]any)[input] = value
	}
	set("3", "steps", 2)
	set("3", "seed", seed)
	set("4", "ckpt_name", checkpoint)
	set("5", "width", 64)
	set("5", "height", 64)
	return w
}

// refused posts a workflow that must be refused and returns the answer.
func (c *child) refused(workflow any) string {
	c.t.Helper()
	text, err := json.Marshal(map[string]any{"prompt": workflow})
	if err != nil {
		c.t.Fatal(err)
	}
	response, err := http.Post(c.url+"/prompt", "application/json", bytes.NewReader(text))
	if err != nil {
		c.t.Fatal(err)
	}
	return c.text(response, http.StatusBadRequest)
}

// page is the text of a GET.
func (c *child) page(path string, status int) string {
	c.t.Helper()
	response, err := http.Get(c.url + path)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.text(response, status)
}

func (c *child) text(response *http.Response, status int) string {
	c.t.Helper()
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		c.t.Fatalf("%s %s %v, want status %d\n%s", response.Status, data, err, status, c.logs)
	}
	return string(data)
}

// until waits for something to become true.
func (c *child) until(what string, is func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if is() {
			return
		}
	}
	c.t.Fatalf("%s: not within a minute\n%s", what, c.logs)
}

// ended is the history's record of a prompt as text.
func (c *child) ended(id string) string {
	c.t.Helper()
	c.wait(id)
	return c.page("/history/"+id, http.StatusOK)
}

// picture runs a workflow and returns its picture.
func (c *child) picture(workflow any) string {
	c.t.Helper()
	e := c.wait(c.submit(workflow))
	for _, output := range e.Outputs {
		for _, image := range output.Images {
			return pixels(c.t, c.page(fmt.Sprintf("/view?filename=%s&subfolder=%s&type=%s", image.Filename, image.Subfolder, image.Type), http.StatusOK))
		}
	}
	c.t.Fatalf("no picture: %+v\n%s", e, c.logs)
	return ""
}

// pixels are the chunks of a PNG file that hold its pixels.
func pixels(t testing.TB, data string) string {
	at := strings.Index(data, "IDAT")
	if at < 0 {
		t.Fatal("no PNG")
	}
	return data[at:]
}

// A prompt that names a pinned model brings it; one whose source gives something else fails; nothing else is ever fetched.
func TestServeFetchesModels(t *testing.T) {
	source, home := newModelSource(t), t.TempDir()
	lock := filepath.Join(home, "models.lock")
	good := source.add(t, "checkpoints/good.safetensors", demoVersion(t, 1))
	wrong := source.add(t, "checkpoints/wrong.safetensors", demoVersion(t, 2))
	source.files["/"+wrong.SHA256] = demoVersion(t, 3)
	gone := good
	gone.Name, gone.SHA256, gone.Sources = "checkpoints/gone.safetensors", strings.Repeat("ab", 32), []string{source.URL + "/gone"}
	writeLock(t, lock, good, wrong, gone)

	never := start(t, filepath.Join(home, "never"), "serve", "--listen", "127.0.0.1:0", "--lock", lock)
	answer := never.refused(small(t, "good.safetensors", 1))
	if !strings.Contains(answer, "value_not_in_list") || !strings.Contains(answer, "models.lock pins checkpoints/good.safetensors, which is not here") {
		t.Errorf("without fetching: %s", answer)
	}
	if n := source.requests(); n > 0 {
		t.Fatalf("%d requests were made", n)
	}
	never.stop()

	server := start(t, filepath.Join(home, "home"), "serve", "--listen", "127.0.0.1:0", "--lock", lock, "--fetch", "missing")
	if answer := server.refused(small(t, source.URL+"/"+good.SHA256, 1)); !strings.Contains(answer, "value_not_in_list") || source.requests() > 0 {
		t.Errorf("a URL as the name: %s, %d requests", answer, source.requests())
	}
	unused := small(t, "good.safetensors", 1) // a node that no output needs
	unused["99"] = node("CheckpointLoaderSimple", "ckpt_name", "gone.safetensors")
	if e := server.ended(server.submit(unused)); !strings.Contains(e, `"status_str":"success"`) {
		t.Errorf("the good model: %s\n%s", e, server.logs)
	}
	for name, want := range map[string]string{"wrong": "model content differs", "gone": "model missing"} {
		e := server.ended(server.submit(small(t, name+".safetensors", 1)))
		if !strings.Contains(e, want) || !strings.Contains(e, `"node_id":"4"`) || !strings.Contains(e, "checkpoints/"+name) {
			t.Errorf("%s: %s, want %q", name, e, want)
		}
	}
	figures := server.page("/metrics", http.StatusOK)
	if strings.Contains(figures, "\ncomfyrun_model_fetch_bytes_total 0\n") || !strings.Contains(figures, `comfyrun_model_load_seconds_count{model="checkpoints/good.safetensors"} 3`) {
		t.Errorf("figures: %s", grep(figures, "comfyrun_model"))
	}
}

// A model that is named inside of a defined node occupies the node that is seen.
func TestNodeOf(t *testing.T) {
	g, err := workflows.Parse([]byte(`{"4":{"class_type":"A","inputs":{}},"5:1":{"class_type":"A","inputs":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"4": "4", "4:1": "4", "4:1:2": "4", "5:1": "5:1", "5:1:7": "5:1", "6": "6", "6:1": "6:1", "": ""} {
		if got := nodeOf(g, id); got != want {
			t.Errorf("%q is in %q, want %q", id, got, want)
		}
	}
}

// Only models that outputs need count.
func TestNeeded(t *testing.T) {
	g, err := workflows.Parse([]byte(`{"1":{"class_type":"EmptyImage","inputs":{"width":8}},"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}},
		"3":{"class_type":"EmptyImage","inputs":{}},"4":{"class_type":"ImageInvert","inputs":{"image":["3",0]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := nodes.Catalog(&nodes.Runtime{Models: models.NewFolders(nil)})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, n := range needed(g, catalog).Nodes() {
		ids = append(ids, n.ID)
	}
	if diff := cmp.Diff([]string{"1", "2"}, ids); diff != "" || g.Len() != 4 {
		t.Errorf("%s, and %d nodes are left of the original", diff, g.Len())
	}
}

func grep(text, part string) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) && !strings.HasPrefix(line, "#") && !strings.Contains(line, "_bucket") {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// A prompt that waits for its model is interrupted like any other, and the next one runs.
func TestServeInterruptsFetch(t *testing.T) {
	source, home := newModelSource(t), t.TempDir()
	lock := filepath.Join(home, "models.lock")
	writeLock(t, lock, source.add(t, "checkpoints/good.safetensors", demoVersion(t, 0)))
	source.gate = make(chan struct{})
	server := start(t, home, "serve", "--listen", "127.0.0.1:0", "--lock", lock, "--fetch", "missing")
	id := server.submit(small(t, "good.safetensors", 1))
	server.until("the source is asked", func() bool { return source.requests() > 0 })
	server.post("/api/jobs/"+id+"/cancel", map[string]any{}, nil)
	if e := server.ended(id); !strings.Contains(e, "execution_interrupted") {
		t.Errorf("the prompt ended as %s", e)
	}
	close(source.gate)
	if e := server.wait(server.submit(small(t, "good.safetensors", 1))); !e.Status.Completed {
		t.Errorf("the next one ended as %+v\n%s", e, server.logs)
	}
}

// What the warm-up needs is there before the process is ready, and a process whose warm-up cannot have it ends.
func TestServeFetchesForWarmup(t *testing.T) {
	source, home := newModelSource(t), t.TempDir()
	lock, warm := filepath.Join(home, "models.lock"), filepath.Join(home, "warm.json")
	writeLock(t, lock, source.add(t, "checkpoints/good.safetensors", demoVersion(t, 0)))
	text, err := json.Marshal(small(t, "good.safetensors", 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(warm, text, 0o644); err != nil {
		t.Fatal(err)
	}
	source.gate = make(chan struct{})
	args := []string{"serve", "--listen", "127.0.0.1:0", "--lock", lock, "--fetch", "missing", "--warmup", warm}
	server := start(t, home, args...)
	server.until("the source is asked", func() bool { return source.requests() > 0 })
	if state := server.page("/readyz", http.StatusServiceUnavailable); !strings.Contains(state, "waiting for: models fetched") {
		t.Errorf("state %s", state)
	}
	close(source.gate)
	server.until("ready", func() bool { return strings.Contains(server.logs.String(), "ready: models warmed") })
	state := server.page("/readyz", http.StatusOK)
	fetched, warmed := strings.Index(state, "[+] models fetched"), strings.Index(state, "[+] models warmed")
	if fetched < 0 || warmed < fetched {
		t.Errorf("state %s", state)
	}
	server.stop()

	writeLock(t, lock, models.Entry{Name: "checkpoints/good.safetensors", Size: 5, SHA256: strings.Repeat("ab", 32), Sources: []string{source.URL + "/gone"}})
	server = start(t, filepath.Join(home, "other"), args...)
	server.cmd.Wait()
	if code := server.cmd.ProcessState.ExitCode(); code != exitModel {
		t.Errorf("exit code %d, want %d\n%s", code, exitModel, server.logs)
	}
}

// A models.lock that changes under load: first to a file that is no model, which leaves all as it was and says so, then to
// a good one, which is served without a prompt that fails. The worker is a process of its own, the server knows the names.
func TestModelsAreSwappedUnderLoad(t *testing.T) {
	source, home, nats := newModelSource(t), t.TempDir(), queuetest.URL(t)
	lock, warm := filepath.Join(home, "models.lock"), filepath.Join(home, "warm.json")
	const name = "checkpoints/live.safetensors"
	writeLock(t, lock, source.add(t, name, demoVersion(t, 0)))
	text, err := json.Marshal(small(t, "live.safetensors", 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(warm, text, 0o644); err != nil {
		t.Fatal(err)
	}
	shared := []string{"--listen", "127.0.0.1:0", "--nats", nats, "--lock", lock, "--fetch", "missing"}
	server := start(t, home, append([]string{"serve", "--no-worker"}, shared...)...)
	worker := start(t, home, append([]string{"worker", "--warmup", warm}, shared...)...)
	before := server.picture(small(t, "live.safetensors", 1))

	stop, load := make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		for seed := 100; ; seed++ {
			select {
			case <-stop:
				load <- n
				return
			default:
			}
			if e := server.wait(server.submit(small(t, "live.safetensors", seed))); !e.Status.Completed {
				t.Errorf("a prompt ended as %+v\n%s", e, worker.logs)
			}
			n++
		}
	}()
	writeLock(t, lock, source.add(t, name, []byte("this is no model")))
	worker.until("the reason is told", func() bool {
		return strings.Contains(worker.page("/readyz", http.StatusOK), "the one before is: try new models")
	})
	if figures := worker.page("/metrics", http.StatusOK); !strings.Contains(figures, "\ncomfyrun_models_stale 1\n") {
		t.Errorf("figures: %s", grep(figures, "comfyrun_model"))
	}
	if server.picture(small(t, "live.safetensors", 1)) != before {
		t.Error("the old model does not draw what it drew")
	}
	writeLock(t, lock, source.add(t, name, demoVersion(t, 1)))
	worker.until("the new model is served", func() bool {
		return strings.Contains(worker.page("/metrics", http.StatusOK), "\ncomfyrun_models_stale 0\n")
	})
	if state := worker.page("/readyz", http.StatusOK); !strings.Contains(state, "[+] models.lock served\n") {
		t.Errorf("state %s", state)
	}
	if server.picture(small(t, "live.safetensors", 1)) == before {
		t.Error("the new model draws what the old one drew")
	}
	close(stop)
	n := <-load
	t.Logf("%d prompts ran meanwhile", n)
	if n < 3 {
		t.Errorf("%d prompts ran meanwhile: too few to tell anything", n)
	}
	if data, err := os.ReadFile(filepath.Join(home, "models", name)); err != nil || !bytes.Equal(data, demoVersion(t, 1)) {
		t.Errorf("the name in the store leads to %d bytes, %v", len(data), err)
	}
}
