package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/models/demo"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/gpu"
	"github.com/comfyrun/comfyrun/engine/queue/queuetest"
	"github.com/comfyrun/comfyrun/web"
)

func TestSeveralDevices(t *testing.T) {
	for _, c := range []struct {
		flag string
		gpus int
		want []string
	}{
		{"cpu", 2, []string{"cpu"}},
		{"cuda", 2, []string{"cuda:0", "cuda:1"}},
		{"cuda", -1, []string{"cuda"}}, // whoever opens it says what is wrong
		{"cuda:1", 2, []string{"cuda:1"}},
		{"cuda:0,cuda:2", 4, []string{"cuda:0", "cuda:2"}},
		{"cuda:1, cuda", 2, []string{"cuda:1", "cuda:0", "cuda:1"}},
		{"cpu,cpu", 0, []string{"cpu", "cpu"}},
		{"cpu,cuda", 1, nil},
		{"cuda,webgpu", 1, nil},
		{"cuda,", 1, nil},
		{"webgpu", 2, []string{"webgpu"}},
	} {
		got, err := severalDevices(c.flag, func() (list []ort.Device, err error) {
			if c.gpus < 0 {
				return nil, errors.New("no driver")
			}
			for i := range c.gpus {
				list = append(list, ort.Device{Provider: "cuda", Index: i})
			}
			return list, nil
		})
		if diff := cmp.Diff(c.want, got); diff != "" || (err != nil) != (c.want == nil) {
			t.Errorf("%q with %d GPUs: %s %v", c.flag, c.gpus, diff, err)
		}
	}
}

// GET /system_stats lists each device once, the first one first, with what the drivers say now.
func TestDeviceList(t *testing.T) {
	runtime, err := diffusion.Open(diffusion.Options{})
	if err != nil {
		t.Fatal(err)
	}
	asked, index := 0, []int{0, 1}
	h := &hardware{asked: map[string]time.Time{},
		nvidia: func() (*gpu.Nvidia, error) {
			asked++
			return &gpu.Nvidia{GPUs: []gpu.GPU{{Index: 0, Name: "NVIDIA H200", Total: 9, Free: 7}, {Index: 1, Name: "NVIDIA L4", Total: 5, Free: 4}}}, nil
		},
		adapters: func() ([]gpu.Adapter, error) { return []gpu.Adapter{{Name: "Radeon", Memory: 3}}, nil },
	}
	list := func(h *hardware, names ...string) []web.Device {
		m := &machine{}
		for _, name := range names {
			m.seats = append(m.seats, &seat{device: name, diffusion: runtime})
		}
		return m.devices(h)
	}
	want := []web.Device{{Name: "cuda:1 NVIDIA L4", Type: "cuda", Index: &index[1], Total: 5, Free: 4},
		{Name: "cuda:0 NVIDIA H200", Type: "cuda", Index: &index[0], Total: 9, Free: 7}, {Name: "cpu", Type: "cpu"}}
	if diff := cmp.Diff(want, list(h, "cuda:1", "cuda:0", "cpu", "cuda:1")); diff != "" {
		t.Error(diff)
	}
	if asked != 1 {
		t.Errorf("the driver was asked %d times", asked)
	}
	silent := &hardware{nvidia: func() (*gpu.Nvidia, error) { return nil, errors.New("gone") }, adapters: h.adapters, asked: map[string]time.Time{}}
	if diff := cmp.Diff([]web.Device{{Name: "cuda:0", Type: "cuda", Index: &index[0]}}, list(silent, "cuda:0")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]web.Device{{Name: "webgpu Radeon", Type: "webgpu", Index: &index[0], Total: 3, Free: 3}}, list(silent, "webgpu")); diff != "" {
		t.Error(diff)
	}
}

// twoModels is a home with two checkpoints of the same content: files of their own, so that each is loaded by itself.
func twoModels(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	data, err := os.ReadFile(filepath.Join("../../engine/models/demo", demo.Name))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(home, "models", "checkpoints")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.safetensors", "b.safetensors"} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return home
}

// serveTwo starts a server that runs two prompts at a time, on the processor.
func serveTwo(t *testing.T, home string, args ...string) *child {
	t.Helper()
	return start(t, home, append([]string{"serve", "--listen", "127.0.0.1:0", "--device", "cpu,cpu", "--threads", "1"}, args...)...)
}

// lengthy is a workflow that runs for as long as nobody ends it, nearly.
func lengthy(t *testing.T, checkpoint string, seed int) map[string]any {
	t.Helper()
	w := small(t, checkpoint, seed)
	w["3"].(map[string]any)["inputs"].(map[string]any)["steps"] = 10000
	return w
}

// atOnce waits until prompts run, all of them, and lists the queue.
func (c *child) atOnce(ids ...string) (running, pending []string) {
	c.t.Helper()
	c.until(fmt.Sprintf("prompts %q run at once", ids), func() bool {
		running, pending = c.queue()
		return !slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(running, id) })
	})
	return running, pending
}

// queue lists the ids of what runs and of what waits.
func (c *child) queue() (running, pending []string) {
	c.t.Helper()
	var q struct {
		Running [][]any `json:"queue_running"`
		Pending [][]any `json:"queue_pending"`
	}
	c.get("/queue", &q)
	ids := func(items [][]any) (list []string) {
		for _, item := range items {
			list = append(list, item[1].(string))
		}
		return list
	}
	return ids(q.Running), ids(q.Pending)
}

// cancelled ends a prompt and waits until that is recorded.
func (c *child) cancelled(id string) entry {
	c.t.Helper()
	c.post("/api/jobs/"+id+"/cancel", struct{}{}, nil)
	return c.wait(id)
}

// Two prompts run at once, each to its own picture; a third one waits; an interrupt hits the one that it names.
func TestServeSeveral(t *testing.T) {
	server := serveTwo(t, twoModels(t))
	alone := start(t, twoModels(t), "serve", "--listen", "127.0.0.1:0", "--threads", "1")
	pictures, want := make([]string, 4), make([]string, 4)
	var group sync.WaitGroup
	for i := range pictures {
		group.Go(func() { pictures[i] = server.picture(small(t, "a.safetensors", i)) })
	}
	group.Wait()
	for i := range want {
		if want[i] = alone.picture(small(t, "a.safetensors", i)); pictures[i] != want[i] {
			t.Errorf("picture %d is not that of a server with one device", i)
		}
	}
	alone.stop()

	first, second := server.submit(lengthy(t, "a.safetensors", 1)), server.submit(lengthy(t, "a.safetensors", 2))
	third := server.submit(small(t, "a.safetensors", 3))
	running, pending := server.atOnce(first, second)
	if diff := cmp.Diff([][]string{{first, second}, {third}}, [][]string{running, pending}); diff != "" {
		t.Errorf("queue: %s", diff)
	}
	if figures := server.page("/metrics", http.StatusOK); !strings.Contains(figures, "\ncomfyrun_prompts_running{device=\"cpu\"} 2\n") {
		t.Errorf("figures: %s", grep(figures, "comfyrun_prompts"))
	}
	server.post("/interrupt", map[string]any{"prompt_id": second}, nil)
	if e := server.wait(second); e.Status.Completed {
		t.Errorf("the interrupted prompt ended as %+v", e)
	}
	if e := server.wait(third); !e.Status.Completed {
		t.Errorf("the third prompt ended as %+v", e)
	}
	if running, _ := server.queue(); !slices.Equal(running, []string{first}) {
		t.Errorf("running are %q, want %q only", running, first)
	}
	server.post("/interrupt", struct{}{}, nil)
	if e := server.wait(first); e.Status.Completed {
		t.Errorf("the interrupted prompt ended as %+v", e)
	}
}

// loads counts the networks that were loaded of a model.
func (c *child) loads(name string) (n int) {
	c.t.Helper()
	line := grep(c.page("/metrics", http.StatusOK), fmt.Sprintf(`comfyrun_model_load_seconds_count{model="checkpoints/%s"}`, name))
	if line != "" {
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n); err != nil {
			c.t.Fatal(err)
		}
	}
	return n
}

// Prompts go where their models are: each of two models is loaded once, however they alternate.
func TestServeAffinity(t *testing.T) {
	server := serveTwo(t, twoModels(t))
	long := server.submit(lengthy(t, "a.safetensors", 0)) // the first runner has a
	server.running(long)
	server.picture(small(t, "b.safetensors", 0)) // the second one b
	server.cancelled(long)
	server.picture(small(t, "a.safetensors", 0)) // with its decoder
	loads := [2]int{server.loads("a.safetensors"), server.loads("b.safetensors")}
	if loads != [2]int{3, 3} {
		t.Errorf("%v networks were loaded, want 3 of each model", loads)
	}
	for i := 1; i < 4; i++ {
		server.picture(small(t, "b.safetensors", i))
		server.picture(small(t, "a.safetensors", i))
	}
	if got := [2]int{server.loads("a.safetensors"), server.loads("b.safetensors")}; got != loads {
		t.Errorf("%v networks were loaded after 6 prompts more, want %v as before", got, loads)
	}
	server.post("/free", map[string]any{"unload_models": true}, nil)
	figure := func() string { return grep(server.page("/metrics", http.StatusOK), "comfyrun_models_loaded_bytes") }
	server.until("both forget their models", func() bool { return figure() == "comfyrun_models_loaded_bytes{device=\"cpu\"} 0\n" })
}

// SIGTERM waits for both that run; what waits stays for the next process.
func TestServeSeveralDrain(t *testing.T) {
	home := twoModels(t)
	server := serveTwo(t, home, "--drain-timeout", "60s")
	var ids []string
	for seed := range 3 {
		w := small(t, "a.safetensors", seed)
		w["3"].(map[string]any)["inputs"].(map[string]any)["steps"] = 150
		ids = append(ids, server.submit(w))
	}
	server.atOnce(ids[:2]...)
	if code := server.stop(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, server.logs)
	}
	server = serveTwo(t, home)
	var history map[string]entry
	server.get("/history", &history)
	for _, id := range ids[:2] {
		if !history[id].Status.Completed {
			t.Errorf("a prompt that ran at SIGTERM ended as %+v, want success", history[id])
		}
	}
	if e := server.wait(ids[2]); !e.Status.Completed {
		t.Errorf("the prompt that waited ended as %+v", e)
	}
}

// A process that is killed while two prompts run loses neither.
func TestServeSeveralCrash(t *testing.T) {
	home := twoModels(t)
	server := serveTwo(t, home)
	var ids []string
	for seed := range 4 {
		w := small(t, "a.safetensors", seed)
		w["3"].(map[string]any)["inputs"].(map[string]any)["steps"] = 60
		ids = append(ids, server.submit(w))
	}
	server.atOnce(ids[:2]...)
	server.kill()
	server = serveTwo(t, home)
	for i, id := range ids {
		if e := server.wait(id); !e.Status.Completed {
			t.Errorf("prompt %d ended as %+v", i, e)
		}
	}
	attempts := func(id string) int {
		var found map[string]struct {
			Run struct{ Attempts int } `json:"comfyrun"`
		}
		server.get("/history/"+id, &found)
		return found[id].Run.Attempts
	}
	for i, id := range ids {
		if got, want := attempts(id), map[bool]int{true: 2, false: 1}[i < 2]; got != want {
			t.Errorf("prompt %d was executed %d times, want %d", i, got, want)
		}
	}
}

// A worker with two runners that is killed loses its prompts to one with two of its own.
func TestWorkersSeveral(t *testing.T) {
	nats, home := queuetest.URL(t), twoModels(t)
	shared := []string{"--listen", "127.0.0.1:0", "--nats", nats, "--lease", "2s"}
	server := start(t, home, append([]string{"serve", "--no-worker"}, shared...)...)
	work := func(name string) *child {
		return start(t, home, append([]string{"worker", "--device", "cpu,cpu", "--threads", "1", "--worker-name", name}, shared...)...)
	}
	first := work("first")
	var ids []string
	for seed := range 3 {
		w := small(t, "a.safetensors", seed)
		w["3"].(map[string]any)["inputs"].(map[string]any)["steps"] = 60
		ids = append(ids, server.submit(w))
	}
	server.atOnce(ids[:2]...)
	first.kill()
	second := work("second")
	for i, id := range ids {
		if e := server.wait(id); !e.Status.Completed {
			t.Errorf("prompt %d ended as %+v\n%s", i, e, second.logs)
		}
	}
}

// Models are warmed up for all runners, and replaced for all when models.lock changes.
func TestServeSeveralSwaps(t *testing.T) {
	source, home := newModelSource(t), t.TempDir()
	lock, warm := filepath.Join(home, "models.lock"), filepath.Join(home, "warm.json")
	const name = "checkpoints/live.safetensors"
	old := source.add(t, name, demoVersion(t, 0))
	writeLock(t, lock, old)
	text, err := json.Marshal(small(t, "live.safetensors", 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(warm, text, 0o644); err != nil {
		t.Fatal(err)
	}
	server := serveTwo(t, home, "--lock", lock, "--fetch", "missing", "--warmup", warm)
	server.until("it is warm", func() bool { return strings.Count(server.logs.String(), "warmed up") == 2 })
	if n := server.loads("live.safetensors"); n != 6 {
		t.Errorf("%d networks are loaded, want 3 for each runner", n)
	}
	// both draws on both runners at once
	draw := func(seed int) (pictures [2]string) {
		var group sync.WaitGroup
		for i := range pictures {
			group.Go(func() { pictures[i] = server.picture(small(t, "live.safetensors", seed+i)) })
		}
		group.Wait()
		return pictures
	}
	before := draw(1)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() { // load: prompts keep coming while models are replaced
		defer close(ended)
		for seed := 100; ; seed += 2 {
			select {
			case <-stop:
				return
			default:
				draw(seed)
			}
		}
	}()
	writeLock(t, lock, source.add(t, name, demoVersion(t, 1)))
	server.until("the new model is served", func() bool {
		return strings.Contains(server.page("/metrics", http.StatusOK), "\ncomfyrun_model_swaps_total{outcome=\"done\"} 1\n")
	})
	close(stop)
	<-ended
	for i, picture := range draw(1) {
		if picture == before[i] {
			t.Errorf("picture %d is that of the old model", i)
		}
	}
	// What was loaded of the old version is gone from both.
	held := grep(server.page("/metrics", http.StatusOK), "comfyrun_models_loaded_bytes")
	var bytesHeld float64
	if _, err := fmt.Sscanf(held, "comfyrun_models_loaded_bytes{device=\"cpu\"} %g\n", &bytesHeld); err != nil || bytesHeld < 1e6 {
		t.Errorf("held is %q, %v", held, err)
	}
	if data, err := os.ReadFile(filepath.Join(home, "models", name)); err != nil || !bytes.Equal(data, demoVersion(t, 1)) {
		t.Errorf("the name in the store leads to %d bytes, %v", len(data), err)
	}
}
