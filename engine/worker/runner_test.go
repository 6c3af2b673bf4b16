package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/workflows"
)

// memory is what a runner's device holds, in bytes by file.
type memory struct {
	mu    sync.Mutex
	files map[string]int64
}

func (m *memory) held(files []string) (named, others int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for file, n := range m.files {
		if slices.Contains(files, file) {
			named += n
		} else {
			others += n
		}
	}
	return named, others
}

func (m *memory) forget(models, _ bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if models {
		clear(m.files)
	}
}

// newCrew is a bench whose worker has runners cuda:0, cuda:1, …, each of which holds some files. A workflow needs the files
// that its nodes of class Pass have as titles.
func newCrew(t testing.TB, holds ...map[string]int64) *bench {
	t.Helper()
	b := newBench(t)
	b.worker.Runners = nil
	for i, files := range holds {
		m := &memory{files: files}
		r := b.runner(fmt.Sprintf("cuda:%d", i))
		r.Held, r.Forget = m.held, m.forget
		b.worker.Runners = append(b.worker.Runners, r)
	}
	b.worker.Files = func(g *workflows.Graph) (files []string) {
		for _, n := range g.Nodes() {
			if title := n.Title; title != "" {
				files = append(files, title)
			}
		}
		return files
	}
	return b
}

// waits is a workflow that takes a while and needs files.
func waits(ms int, files ...string) string {
	g := map[string]any{"1": map[string]any{"class_type": "Wait", "inputs": map[string]any{"ms": ms}},
		"2": map[string]any{"class_type": "Show", "inputs": map[string]any{"v": []any{"1", 0}}}}
	for i, file := range files {
		g[fmt.Sprint(10+i)] = map[string]any{"class_type": "Pass", "inputs": map[string]any{"v": 1}, "_meta": map[string]any{"title": file}}
	}
	text, err := json.Marshal(g)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// on are the prompts that run, by runner.
func (b *bench) on() (prompts []string) {
	for _, r := range b.worker.State().Runners {
		prompts = append(prompts, r.Prompt)
	}
	return prompts
}

func (b *bench) begins(n int) {
	b.t.Helper()
	for range n {
		select {
		case <-b.begun:
		case <-time.After(patience):
			b.t.Fatalf("no prompt begins; running are %q", b.on())
		}
	}
}

func (b *bench) cancel(id string) {
	b.t.Helper()
	if _, err := b.queue.Cancel(b.t.Context(), id); err != nil {
		b.t.Fatal(err)
	}
}

// Prompts run at once, in the queue's order, and no more of them are taken than there are runners.
func TestRunnersAtOnce(t *testing.T) {
	b := newCrew(t, nil, nil)
	var ids []string
	for range 4 {
		ids = append(ids, b.submit(queue.Prompt{}, slow))
	}
	b.start()
	b.begins(2)
	if diff := cmp.Diff(ids[:2], b.on()); diff != "" {
		t.Errorf("running: %s", diff)
	}
	var states []queue.State
	for _, i := range b.queue.List() {
		states = append(states, i.State)
	}
	if want := []queue.State{queue.Running, queue.Running, queue.Queued, queue.Queued}; !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
	b.cancel(ids[1]) // that one only, and its runner goes on with the next one
	if e, _ := b.wait(ids[1]); e.State != queue.Cancelled {
		t.Errorf("cancelled: %+v", e.Info)
	}
	b.begins(1)
	if diff := cmp.Diff([]string{ids[0], ids[2]}, b.on()); diff != "" {
		t.Errorf("running: %s", diff)
	}
	for _, id := range ids {
		b.cancel(id)
	}
}

// A prompt goes to the idle runner that holds most of its models, else to the one with most room.
func TestRunnerThatHoldsModels(t *testing.T) {
	const none, base, lora, other = "", "base", "lora", "other"
	for _, c := range []struct {
		name  string
		holds []map[string]int64
		busy  []string // files of prompts that run already, one a runner in order
		needs []string
		want  int
	}{
		{"nothing is known", []map[string]int64{nil, nil}, nil, nil, 0},
		{"the one that holds it", []map[string]int64{{other: 9}, {base: 2, other: 9}, {}}, nil, []string{base}, 1},
		{"more of it", []map[string]int64{{lora: 1}, {base: 2}, {}}, nil, []string{base, lora}, 1},
		{"all of it", []map[string]int64{{base: 2}, {base: 2, lora: 1}}, nil, []string{base, lora}, 1},
		{"nobody has it: the empty one", []map[string]int64{{other: 9}, {other: 1}, {}}, nil, []string{base}, 2},
		{"nobody has it: the least to evict", []map[string]int64{{other: 9}, {other: 1}, {other: 3}}, nil, []string{base}, 1},
		{"a prompt without models: most room", []map[string]int64{{other: 9}, {other: 1}}, nil, nil, 1},
		{"busy: any idle one", []map[string]int64{{base: 2}, {other: 9}}, []string{base}, []string{base}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newCrew(t, c.holds...)
			for _, files := range c.busy {
				b.submit(queue.Prompt{}, waits(60000, files))
			}
			b.start()
			b.begins(len(c.busy))
			id := b.submit(queue.Prompt{}, waits(60000, c.needs...))
			b.begins(1)
			if got := slices.Index(b.on(), id); got != c.want {
				t.Errorf("it runs on %d, want %d", got, c.want)
			}
			for _, id := range b.on() {
				if id != none {
					b.cancel(id)
				}
			}
		})
	}
}

// The device is told to observers and the history.
func TestDeviceIsTold(t *testing.T) {
	b := newCrew(t, map[string]int64{"other": 1}, nil)
	o := observer{make(chan Taken, 1), nil, make(chan Finished, 1)}
	b.worker.Observe = o
	b.start()
	_, r := b.wait(b.submit(queue.Prompt{}, chain))
	taken, finished := <-o.taken, <-o.finished
	if taken.Device != "cuda:1" || finished.Device != "cuda:1" || r.Run.Device != "cuda:1" {
		t.Errorf("devices %q, %q, %q", taken.Device, finished.Device, r.Run.Device)
	}
}

// Draining waits for all that run, and gives back what does not end in time.
func TestDrainOfSeveral(t *testing.T) {
	for _, c := range []struct {
		name  string
		drain time.Duration
		want  queue.State
	}{{"in time", patience, queue.Done}, {"too late", 20 * time.Millisecond, queue.Queued}} {
		t.Run(c.name, func(t *testing.T) {
			b := newCrew(t, nil, nil)
			b.worker.Drain = c.drain
			stop := b.start()
			ids := []string{b.submit(queue.Prompt{}, gated(1)), b.submit(queue.Prompt{}, gated(2))}
			b.begins(2)
			next := b.submit(queue.Prompt{}, chain)
			if c.want == queue.Done {
				b.openWhen(func() bool { return b.worker.State().Draining })
			}
			stop()
			for _, id := range ids {
				if i, err := b.queue.Find(t.Context(), id); err != nil || i.State != c.want || c.want == queue.Queued && i.Attempts != 0 {
					t.Errorf("%+v, %v", i, err)
				}
			}
			if i, err := b.queue.Find(t.Context(), next); err != nil || i.State != queue.Queued || i.Attempts != 0 {
				t.Errorf("next: %+v, %v", i, err)
			}
		})
	}
}

// The time limit is each prompt's own.
func TestTimeLimitOfSeveral(t *testing.T) {
	withLimit(t, func(limit time.Duration) bool {
		b := newCrew(t, nil, nil)
		b.worker.TimeLimit = limit
		b.start()
		late, good := b.submit(queue.Prompt{}, slow), b.submit(queue.Prompt{}, chain)
		if e, r := b.wait(late); e.State != queue.Failed || !strings.Contains(string(r.Status.Messages[len(r.Status.Messages)-1]), fmt.Sprint("time limit of ", limit)) {
			t.Errorf("%+v", e.Info)
		}
		e, _ := b.wait(good)
		return e.State == queue.Done
	})
}

// What wants all idle keeps prompts in the queue, untaken, until it has been called; then they run.
func TestWhenAllAreIdle(t *testing.T) {
	b := newCrew(t, nil, nil)
	b.start()
	b.submit(queue.Prompt{}, gated(1))
	b.begins(1)
	called := make(chan error, 1)
	proceed := make(chan struct{})
	go func() {
		called <- b.worker.WhenIdle(t.Context(), func() {
			if on := b.on(); !slices.Equal(on, []string{"", ""}) {
				t.Errorf("running are %q", on)
			}
			<-proceed
		})
	}()
	for !b.idleIsWanted() {
		time.Sleep(time.Millisecond)
	}
	next := b.submit(queue.Prompt{}, waits(1))
	close(b.gate)
	time.Sleep(20 * time.Millisecond) // in which it would be taken
	if i, err := b.queue.Find(t.Context(), next); err != nil || i.State != queue.Queued {
		t.Errorf("the next prompt is %v, %v, while a runner is idle that must stay so", i.State, err)
	}
	close(proceed)
	if err := <-called; err != nil {
		t.Fatal(err)
	}
	if e, _ := b.wait(next); e.State != queue.Done {
		t.Errorf("%+v", e.Info)
	}
}

// idleIsWanted reports that somebody waits for the worker to be idle, and that it takes nothing any more.
func (b *bench) idleIsWanted() bool {
	b.worker.mu.Lock()
	defer b.worker.mu.Unlock()
	return b.worker.wanted == 1 && b.worker.taking == nil
}

// Who wanted all idle and gave up leaves no trace.
func TestWhenIdleGivesUp(t *testing.T) {
	b := newCrew(t, nil, nil)
	b.start()
	long := b.submit(queue.Prompt{}, slow)
	b.begins(1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.worker.WhenIdle(ctx, func() { t.Error("called although a prompt runs") }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if e, _ := b.wait(b.submit(queue.Prompt{}, chain)); e.State != queue.Done {
		t.Errorf("%+v", e.Info)
	}
	b.cancel(long)
}

// Idle runners forget at once, the others when their prompt has ended.
func TestFreeOfSeveral(t *testing.T) {
	b := newCrew(t, map[string]int64{"base": 1}, map[string]int64{"base": 1})
	b.start()
	id := b.submit(queue.Prompt{}, waits(60000, "base"))
	b.begins(1)
	b.worker.Free(true, false)
	held := func(i int) int64 { n, _ := b.worker.Runners[i].Held([]string{"base"}); return n }
	if held(0) != 1 || held(1) != 0 {
		t.Errorf("held are %d and %d bytes, want 1 and 0", held(0), held(1))
	}
	b.cancel(id)
	b.wait(id)
	if e, _ := b.wait(b.submit(queue.Prompt{}, chain)); e.State != queue.Done {
		t.Errorf("%+v", e.Info)
	}
	for deadline := time.Now().Add(patience); held(0) != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the runner that was busy does not forget")
		}
	}
}

// Many prompts, cancellations, freeing and idling at once: every prompt ends once.
func TestRunnersUnderLoad(t *testing.T) {
	b := newCrew(t, nil, nil, nil)
	b.begun = make(chan string, 1000)
	b.start()
	stop := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
				b.worker.Free(true, true)
				if err := b.worker.WhenIdle(t.Context(), func() {
					if on := b.on(); strings.Join(on, "") != "" {
						t.Errorf("not idle: %q", on)
					}
				}); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var ids []string
	for i := range 100 {
		ids = append(ids, b.submit(queue.Prompt{}, waits(i%7)))
		if i%5 == 0 {
			b.cancel(ids[i/2])
		}
	}
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, err := b.queue.Wait(ctx, id); err != nil {
			t.Errorf("prompt %s: %v", id, err)
		}
		cancel()
	}
	close(stop)
	beside.Wait()
}

// What two prompts tell at once reaches their own clients, each in order.
func TestEventsOfSeveral(t *testing.T) {
	b := newCrew(t, nil, nil)
	b.worker.Previews.Method = "auto"
	b.start()
	graph := `{"0":{"class_type":"Gate","inputs":{"v":1}},"1":{"class_type":"Steps","inputs":{"n":20,"slow":true,"lasts":true}},` +
		`"2":{"class_type":"Show","inputs":{"v":["0",0]}}}`
	clients := map[string]string{b.submit(queue.Prompt{ClientID: "a"}, graph): "a", b.submit(queue.Prompt{ClientID: "b"}, graph): "b"}
	b.begins(2) // they run at once
	close(b.gate)
	events := map[string][]queue.Event{}
	for over, deadline := 0, time.After(patience); over < len(clients); {
		select {
		case e := <-b.events.C:
			events[e.Prompt] = append(events[e.Prompt], e)
			if kindOf(e) == "executing <nil>" {
				over++
			}
		case <-deadline:
			t.Fatal("the prompts do not end")
		}
	}
	var steps []string
	for i := range 20 {
		steps = append(steps, fmt.Sprintf("auto 512 step %d", i))
	}
	for id, client := range clients {
		for _, e := range events[id] {
			if e.Kind != KindStatus && e.Client != client {
				t.Errorf("%s of %s's prompt is for %q", kindOf(e), client, e.Client)
			}
		}
		if diff := cmp.Diff(steps, pictures(t, events[id])); diff != "" {
			t.Errorf("%s: %s", client, diff)
		}
	}
}
