package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
)

// bench is a queue with toy nodes and somebody who listens.
type bench struct {
	t       testing.TB
	queue   *queue.Queue
	events  *queue.Subscription
	worker  *Worker
	catalog *engine.Catalog
	begun   chan string   // ids of Wait and Gate nodes that began
	gate    chan struct{} // closed: Gate nodes end
}

// patience is how long something may take that is sure to happen.
const patience = time.Minute

func newBench(t testing.TB) *bench {
	t.Helper()
	return newBenchOn(t, queue.Options{Memory: true})
}

func newBenchOn(t testing.TB, o queue.Options) *bench {
	t.Helper()
	o.Worker = "here"
	q, err := queue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	b := &bench{t: t, queue: q, begun: make(chan string, 16), gate: make(chan struct{})}
	if b.events, err = q.Subscribe(queue.Filter{}); err != nil {
		t.Fatal(err)
	}
	b.catalog = b.toys()
	b.worker = &Worker{Queue: q, Runners: []*Runner{b.runner("cpu")}}
	return b
}

func (b *bench) runner(device string) *Runner {
	return &Runner{Device: device, Catalog: func() *engine.Catalog { return b.catalog },
		Engine: &engine.Runner{Cache: &engine.Cache{}, Parallel: 1}}
}

type (
	value struct {
		V int64 `in:"v"`
	}
	waiting struct {
		MS int64 `in:"ms"`
	}
	stepping struct {
		N     int64 `in:"n"`
		Slow  bool  `in:"slow,optional"`
		Lasts bool  `in:"lasts,optional"`
	}
	secret struct{ s string }
	useOf  struct {
		S secret `in:"s"`
		N int64  `in:"n"`
	}
)

// toys are node types that add, wait and fail.
func (b *bench) toys() *engine.Catalog {
	c := engine.NewCatalog(engine.Socket[secret]("SECRET"))
	same := func(_ context.Context, in value) (int64, error) { return in.V, nil }
	engine.Add(c, "Pass", "toys", value{}, same)
	engine.Add(c, "Show", "toys", value{}, func(_ context.Context, in value) (engine.UI, error) {
		return engine.UI{"text": {fmt.Sprint(in.V)}}, nil
	}).Output()
	engine.Add(c, "Odd", "toys", value{}, func(context.Context, value) (engine.UI, error) {
		return engine.UI{"odd": {math.NaN(), 1.0, map[string]any{"x": float32(2)}}}, nil
	}).Output()
	engine.Add(c, "Warn", "toys", value{}, func(ctx context.Context, in value) (engine.UI, error) {
		engine.Warn(ctx, "mind the gap")
		return nil, nil
	}).Output().Volatile()
	engine.Add(c, "Panic", "toys", value{}, func(context.Context, value) (engine.UI, error) { panic("boom") }).Output()
	engine.Add(c, "Fail", "toys", useOf{}, func(context.Context, useOf) (engine.UI, error) { return nil, errors.New("no luck") }).Output()
	engine.Add(c, "Secret", "toys", value{}, func(context.Context, value) (secret, error) { return secret{"hush"}, nil })
	engine.Add(c, "Exit", "toys", value{}, func(_ context.Context, in value) (int64, error) {
		if os.Getenv(crashVariable) != "" {
			os.Exit(crashCode)
		}
		return in.V, nil
	})
	engine.Add(c, "Wait", "toys", waiting{}, func(ctx context.Context, in waiting) (int64, error) {
		b.begun <- engine.NodeID(ctx)
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Duration(in.MS) * time.Millisecond):
			return in.MS, nil
		}
	})
	engine.Add(c, "Gate", "toys", value{}, func(ctx context.Context, in value) (int64, error) {
		b.begun <- engine.NodeID(ctx)
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-b.gate:
			return in.V, nil
		}
	})
	engine.Add(c, "Steps", "toys", stepping{}, func(ctx context.Context, in stepping) (engine.UI, error) {
		over := make(chan struct{})
		defer close(over)
		for i := range in.N {
			p := Preview(toyPreview{int(i), nil})
			if in.Slow {
				p = toyPreview{int(i), over}
			}
			if in.Lasts {
				p = lastingPreview{p}
			}
			engine.Preview(ctx, int(i)+1, int(in.N), p)
		}
		return nil, nil
	}).Output().Volatile()
	if err := c.Err(); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// toyPreview says by which method and size it was made.
type toyPreview struct {
	step int
	over chan struct{} // nil, or what it takes as long as
}

func (p toyPreview) Encode(method string, fit int) (string, []byte, error) {
	switch {
	case method == "none":
		return "", nil, nil
	case method == "taesd":
		panic("no such model")
	case p.over != nil:
		<-p.over
	}
	return "image/png", fmt.Appendf(nil, "%s %d step %d", method, fit, p.step), nil
}

type lastingPreview struct{ Preview }

func (lastingPreview) Lasting() {}

// start runs the worker until the returned function is called.
func (b *bench) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.worker.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				b.t.Errorf("run: %v", err)
			}
		})
	}
	b.t.Cleanup(stop)
	return stop
}

func (b *bench) submit(p queue.Prompt, graph string) string {
	b.t.Helper()
	p.Graph = json.RawMessage(graph)
	r, err := b.queue.Submit(b.t.Context(), p)
	if err != nil {
		b.t.Fatal(err)
	}
	return r.ID
}

func (b *bench) wait(id string) (queue.Entry, Result) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	e, err := b.queue.Wait(ctx, id)
	if err != nil {
		b.t.Fatal(err)
	}
	var r Result
	if err := json.Unmarshal(e.Result, &r); err != nil {
		b.t.Fatalf("result %s: %v", e.Result, err)
	}
	return e, r
}

// heard are the events of a prompt up to the one that tells it is over: kinds of
// messages, with the client that they are for.
func (b *bench) heard(id string) (out []string) {
	b.t.Helper()
	for _, e := range b.all(id) {
		out = append(out, strings.TrimSpace(e.Client+" "+kindOf(e)))
	}
	return out
}

func kindOf(e queue.Event) string {
	var m struct {
		Type string
		Data struct{ Node any }
	}
	switch e.Kind {
	case KindMessage:
		json.Unmarshal(e.Data, &m)
		if m.Type == "executing" || m.Type == "progress" || m.Type == "executed" {
			return fmt.Sprintf("%s %v", m.Type, m.Data.Node)
		}
		return m.Type
	case KindStatus:
		var s Status
		json.Unmarshal(e.Data, &s)
		return fmt.Sprintf("status %s %d", s.Change, s.Remaining)
	}
	return e.Kind
}

// all are the events of a prompt up to its last status, and what its owner gets after it.
func (b *bench) all(id string) (out []queue.Event) {
	b.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e := <-b.events.C:
			if e.Prompt != id {
				continue
			}
			out = append(out, e)
			last := kindOf(e)
			if strings.HasPrefix(last, "status other") && (len(out) == 2 || out[1].Client == "") || last == "executing <nil>" {
				return out
			}
		case <-deadline:
			b.t.Fatalf("the prompt does not end: %d events", len(out))
		}
	}
}

const chain = `{"1":{"class_type":"Pass","inputs":{"v":3}},"2":{"class_type":"Show","inputs":{"v":["1",0]}}}`

func TestMessagesOfAClient(t *testing.T) {
	b := newBench(t)
	b.start()
	id := b.submit(queue.Prompt{ClientID: "c"}, chain)
	want := []string{"status begun 1", "c execution_start", "c execution_cached", "c progress_state", "c executing 1", "c progress_state",
		"c progress_state", "c executing 2", "c executed 2", "c progress_state", "c execution_success", "status other 0", "c executing <nil>"}
	if diff := cmp.Diff(want, b.heard(id)); diff != "" {
		t.Error(diff)
	}
	again := b.submit(queue.Prompt{ClientID: "c"}, chain)
	want = []string{"status begun 1", "c execution_start", "c execution_cached", "c executed 2", "c progress_state", "c execution_success",
		"status other 0", "c executing <nil>"}
	if diff := cmp.Diff(want, b.heard(again)); diff != "" {
		t.Error(diff)
	}
}

func TestMessagesOfNobody(t *testing.T) {
	b := newBench(t)
	b.start()
	id := b.submit(queue.Prompt{}, chain)
	want := []string{"status begun 1", "progress_state", "progress_state", "progress_state", "progress_state", "status other 0"}
	var got []string
	for deadline := time.After(patience); len(got) < len(want); {
		select {
		case e := <-b.events.C:
			got = append(got, kindOf(e))
		case <-deadline:
			t.Fatal(got)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if e, _ := b.wait(id); e.State != queue.Done {
		t.Errorf("%+v", e.Info)
	}
}

func TestResult(t *testing.T) {
	b := newBench(t)
	b.start()
	id := b.submit(queue.Prompt{ClientID: "c", Secret: json.RawMessage(`{"key":"hush"}`)}, chain)
	e, r := b.wait(id)
	if got := string(r.Outputs); got != `{"2":{"text":["3"]}}` {
		t.Errorf("outputs %s", got)
	}
	if got := string(r.Meta); got != `{"2":{"node_id":"2","display_node":"2","parent_node":null,"real_node_id":"2"}}` {
		t.Errorf("meta %s", got)
	}
	if r.Status.Status != "success" || !r.Status.Completed || len(r.Status.Messages) != 3 {
		t.Errorf("status %+v", r.Status)
	}
	if r.Run.Worker != "here" || r.Run.Attempts != 1 || len(r.Run.Nodes) != 2 || r.Run.Nodes[0].Class != "Pass" {
		t.Errorf("run %+v", r.Run)
	}
	if bytes.Contains(e.Result, []byte("hush")) {
		t.Error("the result tells a secret")
	}
}

// TestWarnings tells the owner of a prompt on the node, and who comes later in the history. Nobody else hears of it.
func TestWarnings(t *testing.T) {
	b := newBench(t)
	b.start()
	const graph = `{"7": {"class_type": "Warn", "inputs": {"v": 1}}}`
	for _, client := range []string{"c", ""} {
		id := b.submit(queue.Prompt{ClientID: client}, graph)
		_, r := b.wait(id)
		if want := []Warning{{"7", "Warn", "mind the gap"}}; !slices.Equal(r.Run.Warnings, want) {
			t.Errorf("client %q: warnings %v, want %v", client, r.Run.Warnings, want)
		}
		var told []string
		for _, e := range b.all(id) {
			if e.Kind == KindText {
				told = append(told, e.Client+": "+string(e.Data))
			}
		}
		want := []string{"c: \x00\x00\x00\x017mind the gap"}
		if client == "" {
			want = nil
		}
		if !slices.Equal(told, want) {
			t.Errorf("client %q: told %q, want %q", client, told, want)
		}
	}
}

func TestFloatsAndNaN(t *testing.T) {
	b := newBench(t)
	b.start()
	e, _ := b.wait(b.submit(queue.Prompt{}, `{"1":{"class_type":"Odd","inputs":{"v":1}}}`))
	if !bytes.Contains(e.Result, []byte(`{"odd":[null,1.0,{"x":2.0}]}`)) {
		t.Errorf("%s", e.Result)
	}
}

func TestFailures(t *testing.T) {
	for _, c := range []struct{ name, graph, want string }{
		{"error", `{"0":{"class_type":"Secret","inputs":{"v":1}},"1":{"class_type":"Fail","inputs":{"s":["0",0],"n":7}}}`,
			`"node_id":"1","node_type":"Fail","executed":["0"],"exception_message":"no luck\n","exception_type":"RuntimeError",` +
				`"traceback":["node 1 (Fail): no luck"],"current_inputs":{"s":["\u003cworker.secret\u003e"],"n":[7]},"current_outputs":["0","1"]`},
		{"panic", `{"1":{"class_type":"Panic","inputs":{"v":1}}}`, `"exception_message":"panic: boom\n"`},
		{"no JSON", `{"1":{}}`, `"node_id":"1","node_type":""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.start()
			e, r := b.wait(b.submit(queue.Prompt{ClientID: "c"}, c.graph))
			if e.State != queue.Failed || r.Status.Status != "error" || r.Status.Completed {
				t.Errorf("%v, %+v", e.State, r.Status)
			}
			last := r.Status.Messages[len(r.Status.Messages)-1]
			if !bytes.HasPrefix(last, []byte(`["execution_error",`)) || !bytes.Contains(last, []byte(c.want)) {
				t.Errorf("%s\nwant %s", last, c.want)
			}
			if e, _ := b.wait(b.submit(queue.Prompt{}, chain)); e.State != queue.Done {
				t.Errorf("the next prompt is %v", e.State)
			}
		})
	}
}

func TestPlanIsMadeAnew(t *testing.T) {
	b := newBench(t)
	id := b.submit(queue.Prompt{ClientID: "c"}, `{"1":{"class_type":"Show","inputs":{"v":1}},"2":{"class_type":"Gone","inputs":{}}}`)
	b.start()
	e, r := b.wait(id)
	if e.State != queue.Failed || !bytes.Contains(e.Result, []byte(`"node_errors":{"2":{"errors":[{"type":"missing_node_type"`)) {
		t.Errorf("%v %s", e.State, e.Result)
	}
	if got := len(r.Status.Messages); got != 2 {
		t.Errorf("%d messages", got)
	}
}

const (
	crashVariable = "COMFYRUN_TEST_CRASH" // the folder of the queue of a process that is to crash
	crashCode     = 7
)

// TestCrash: a prompt that takes its process with it runs again in the next one, up to a bound.
func TestCrash(t *testing.T) {
	if dir := os.Getenv(crashVariable); dir != "" {
		b := newBenchOn(t, queue.Options{Dir: dir, MaxAttempts: 2})
		b.start()
		time.Sleep(patience)
		t.Fatal("nothing crashed")
	}
	for crashes, want := range []queue.State{queue.Done, queue.Done, queue.Failed} {
		dir := t.TempDir()
		q, err := queue.Open(t.Context(), queue.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		graph := `{"1":{"class_type":"Exit","inputs":{"v":1}},"2":{"class_type":"Show","inputs":{"v":["1",0]}}}`
		r, err := q.Submit(t.Context(), queue.Prompt{Graph: json.RawMessage(graph)})
		if err := errors.Join(err, q.Close()); err != nil {
			t.Fatal(err)
		}
		for range crashes {
			crash(t, dir)
		}
		b := newBenchOn(t, queue.Options{Dir: dir, MaxAttempts: 2})
		b.start()
		e, err := b.queue.Wait(t.Context(), r.ID)
		if err != nil || e.State != want || e.Attempts != min(crashes+1, 2) {
			t.Errorf("after %d crashes: %v, %d attempts, %v", crashes, e.State, e.Attempts, err)
		}
		if want == queue.Done && !bytes.Contains(e.Result, fmt.Appendf(nil, `"attempts":%d`, crashes+1)) {
			t.Errorf("%s", e.Result)
		}
	}
}

// crash runs a worker that does not survive the prompt of a queue.
func crash(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$")
	cmd.Env = append(os.Environ(), crashVariable+"="+dir)
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != crashCode {
		t.Fatalf("%v: %s", err, out)
	}
}

// gated is a workflow that runs until the gate opens, with a value of its own.
func gated(v int) string {
	return fmt.Sprintf(`{"1":{"class_type":"Gate","inputs":{"v":%d}},"2":{"class_type":"Show","inputs":{"v":["1",0]}}}`, v)
}

// openWhen opens the gate as soon as something holds.
func (b *bench) openWhen(holds func() bool) {
	go func() {
		for !holds() {
			time.Sleep(time.Millisecond)
		}
		close(b.gate)
	}()
}

const slow = `{"1":{"class_type":"Wait","inputs":{"ms":60000}},"2":{"class_type":"Show","inputs":{"v":["1",0]}}}`

func TestCancel(t *testing.T) {
	b := newBench(t)
	b.start()
	id := b.submit(queue.Prompt{ClientID: "c"}, slow)
	<-b.begun
	if s := b.worker.State(); s.Runners[0].Prompt != id || s.Draining || s.Runners[0].Since.IsZero() {
		t.Errorf("state %+v", s)
	}
	if _, err := b.queue.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	e, r := b.wait(id)
	last := string(r.Status.Messages[len(r.Status.Messages)-1])
	if e.State != queue.Cancelled || r.Status.Status != "error" || !strings.HasPrefix(last, `["execution_interrupted",{"prompt_id":"`+id+`","node_id":"1","node_type":"Wait","executed":[],`) {
		t.Errorf("%v %s", e.State, last)
	}
	heard := b.heard(id)
	if tail := heard[len(heard)-3:]; !slices.Equal(tail, []string{"c execution_interrupted", "status other 0", "c executing <nil>"}) {
		t.Errorf("%v", tail)
	}
}

// withLimit tries something with a time limit, and with a longer one where the machine was too slow for it.
func withLimit(t *testing.T, try func(limit time.Duration) (inTime bool)) {
	t.Helper()
	for limit := 30 * time.Millisecond; !try(limit); limit *= 4 {
		if limit > patience {
			t.Fatalf("it takes more than %v", limit)
		}
	}
}

func TestTimeLimit(t *testing.T) {
	withLimit(t, func(limit time.Duration) bool {
		b := newBench(t)
		b.worker.TimeLimit = limit
		b.start()
		e, r := b.wait(b.submit(queue.Prompt{}, slow))
		last := string(r.Status.Messages[len(r.Status.Messages)-1])
		want := fmt.Sprintf(`"exception_message":"the prompt has not ended within its time limit of %v\n","exception_type":"TimeoutError"`, limit)
		if e.State != queue.Failed || !strings.Contains(last, want) {
			t.Errorf("%v %s", e.State, last)
		}
		return strings.Contains(last, `"node_id":"1"`)
	})
}

func TestDrainLetsEnd(t *testing.T) {
	b := newBench(t)
	b.worker.Drain = patience
	stop := b.start()
	id := b.submit(queue.Prompt{}, gated(1))
	next := b.submit(queue.Prompt{}, chain)
	<-b.begun
	b.openWhen(func() bool { return b.worker.State().Draining })
	stop()
	if e, _ := b.wait(id); e.State != queue.Done {
		t.Errorf("%v", e.State)
	}
	if i, err := b.queue.Find(t.Context(), next); err != nil || i.State != queue.Queued {
		t.Errorf("the next prompt is %v, %v", i.State, err)
	}
}

func TestDrainGivesBack(t *testing.T) {
	b := newBench(t)
	b.worker.Drain = 20 * time.Millisecond
	finished := make(chan Finished, 4)
	b.worker.Observe = observer{finished: finished}
	stop := b.start()
	id := b.submit(queue.Prompt{ClientID: "c"}, slow)
	<-b.begun
	stop()
	i, err := b.queue.Find(t.Context(), id)
	if err != nil || i.State != queue.Queued || i.Attempts != 0 {
		t.Errorf("%+v, %v", i, err)
	}
	if f := <-finished; f.State != queue.Queued || f.Attempt != 1 {
		t.Errorf("%v", f.State)
	}
	if _, err := b.queue.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for len(b.events.C) > 0 {
		if e := <-b.events.C; strings.Contains(string(e.Data), "interrupted") {
			t.Error("a prompt that was given back is told to be interrupted")
		}
	}
}

// observer writes down what it is told.
type observer struct {
	taken    chan Taken
	nodes    chan NodeDone
	finished chan Finished
}

type markKey struct{}

func (o observer) Taken(ctx context.Context, t Taken) context.Context {
	if o.taken != nil {
		o.taken <- t
	}
	return context.WithValue(ctx, markKey{}, "seen")
}

func (o observer) NodeDone(ctx context.Context, n NodeDone) {
	if o.nodes != nil && ctx.Value(markKey{}) == "seen" {
		o.nodes <- n
	}
}

func (o observer) Finished(_ context.Context, f Finished) { o.finished <- f }

func TestObserver(t *testing.T) {
	b := newBench(t)
	o := observer{make(chan Taken, 1), make(chan NodeDone, 8), make(chan Finished, 1)}
	second := observer{finished: make(chan Finished, 1)}
	b.worker.Observe = Observers{second, o}
	b.start()
	id := b.submit(queue.Prompt{ClientID: "c"}, chain)
	if got := <-o.taken; got.Prompt.ID != id || got.Attempt != 1 || got.Wait < 0 {
		t.Errorf("%+v", got)
	}
	f := <-o.finished
	if f.State != queue.Done || f.Err != nil || len(f.Nodes) != 2 || len(f.UI) != 1 || f.Took <= 0 {
		t.Errorf("%+v", f)
	}
	first, next := <-o.nodes, <-o.nodes
	if first.Class != "Pass" || next.Class != "Show" || first.Prompt != id || first.Cached || first.Ended.IsZero() {
		t.Errorf("%+v %+v", first, next)
	}
	if other := <-second.finished; other.State != f.State {
		t.Errorf("the second observer is told of %v", other.State)
	}
}

func TestAfter(t *testing.T) {
	b := newBench(t)
	var fail error
	b.worker.After = func(_ context.Context, f *Finished) error {
		if f.State == queue.Done {
			f.UI[0].UI = engine.UI{"text": {"uploaded"}}
		}
		return fail
	}
	stop := b.start()
	e, _ := b.wait(b.submit(queue.Prompt{}, chain))
	if e.State != queue.Done || !bytes.Contains(e.Result, []byte(`{"text":["uploaded"]}`)) {
		t.Errorf("%v %s", e.State, e.Result)
	}
	stop()
	fail = errors.New("no bucket")
	b.start()
	e, r := b.wait(b.submit(queue.Prompt{}, chain))
	last := string(r.Status.Messages[len(r.Status.Messages)-1])
	if e.State != queue.Failed || !strings.Contains(last, "finish prompt: no bucket") {
		t.Errorf("%v %s", e.State, last)
	}
}

func TestAfterPanics(t *testing.T) {
	b := newBench(t)
	b.worker.After = func(context.Context, *Finished) error { panic("oh") }
	b.start()
	if e, _ := b.wait(b.submit(queue.Prompt{}, chain)); e.State != queue.Failed || !strings.Contains(e.Error, "panic: oh") {
		t.Errorf("%+v", e.Info)
	}
}

func TestFree(t *testing.T) {
	b := newBench(t)
	calls := make(chan [2]bool, 4)
	b.worker.Runners[0].Forget = func(models, results bool) { calls <- [2]bool{models, results} }
	b.start()
	b.worker.Free(true, false)
	if got := <-calls; got != [2]bool{true, false} {
		t.Errorf("idle: %v", got)
	}
	id := b.submit(queue.Prompt{}, gated(1))
	<-b.begun
	b.worker.Free(true, false)
	b.worker.Free(false, true)
	if len(calls) > 0 {
		t.Error("forgotten while a prompt runs")
	}
	close(b.gate)
	b.wait(id)
	if got := <-calls; got != [2]bool{true, true} || len(calls) > 0 {
		t.Errorf("busy: %v", got)
	}
}

// pictures are the previews among events.
func pictures(t *testing.T, events []queue.Event) (out []string) {
	for _, e := range events {
		if e.Kind != KindPreview {
			continue
		}
		n := binary.BigEndian.Uint32(e.Data)
		var m struct {
			Node string `json:"node_id"`
			Type string `json:"image_type"`
		}
		if err := json.Unmarshal(e.Data[4:4+n], &m); err != nil || m.Node != "1" || m.Type != "image/png" {
			t.Errorf("%s: %v", e.Data, err)
		}
		out = append(out, string(e.Data[4+n:]))
	}
	return out
}

func TestPreviews(t *testing.T) {
	for _, c := range []struct {
		name, method, extra string
		want                []string
	}{
		{"every step", "auto", "", []string{"auto 64 step 0", "auto 64 step 1", "auto 64 step 2"}},
		{"the prompt's own method", "", `{"preview_method":"latent2rgb"}`, []string{"latent2rgb 64 step 0", "latent2rgb 64 step 1", "latent2rgb 64 step 2"}},
		{"none", "none", `{"preview_method":"default"}`, nil},
		{"a panic", "taesd", "", nil},
		{"an extra of another kind", "auto", `{"preview_method":7,"extra_pnginfo":[1]}`, []string{"auto 64 step 0", "auto 64 step 1", "auto 64 step 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.worker.Previews = PreviewOptions{c.method, 64}
			b.start()
			id := b.submit(queue.Prompt{ClientID: "c", Extra: json.RawMessage(c.extra)}, `{"1":{"class_type":"Steps","inputs":{"n":3}}}`)
			if diff := cmp.Diff(c.want, pictures(t, b.all(id))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPreviewsThatTakeTime: of pictures that take as long as the node, those are made that its first steps wait for, and its last ones.
func TestPreviewsThatTakeTime(t *testing.T) {
	b := newBench(t)
	b.worker.Previews.Method = "auto"
	b.start()
	id := b.submit(queue.Prompt{ClientID: "c"}, `{"1":{"class_type":"Steps","inputs":{"n":40,"slow":true}}}`)
	got := pictures(t, b.all(id))
	if len(got) < waitingPreviews || len(got) > 2*waitingPreviews {
		t.Fatalf("%d previews of 40 steps, want %d to %d", len(got), waitingPreviews, 2*waitingPreviews)
	}
	if last := got[len(got)-1]; last != "auto 512 step 39" {
		t.Errorf("the last preview is %q", last)
	}
}

func TestResultsThatAreSentStay(t *testing.T) {
	b := newBench(t)
	b.worker.Previews.Method = "auto"
	b.start()
	id := b.submit(queue.Prompt{ClientID: "c"}, `{"1":{"class_type":"Steps","inputs":{"n":60,"slow":true,"lasts":true}}}`)
	if got := pictures(t, b.all(id)); len(got) != 60 {
		t.Errorf("%d pictures of 60", len(got))
	}
}

// TestProgressOfManyNodes: what is told does not grow with the square of the nodes, and the last message has all.
func TestProgressOfManyNodes(t *testing.T) {
	b := newBench(t)
	b.start()
	const n = 300
	began := time.Now()
	id := b.submit(queue.Prompt{ClientID: "c"}, longChain(n, 1))
	var total int
	var last []byte
	for _, e := range b.all(id) {
		if kindOf(e) == "progress_state" {
			total, last = total+len(e.Data), e.Data
		}
	}
	var m struct {
		Data struct {
			Nodes map[string]struct{ State string }
		}
	}
	if err := json.Unmarshal(last, &m); err != nil || len(m.Data.Nodes) != n || m.Data.Nodes[fmt.Sprint(n-1)].State != "finished" {
		t.Errorf("%d nodes in the last message, %v", len(m.Data.Nodes), err)
	}
	if most := progressBurst + progressRate*time.Since(began).Seconds() + float64(len(last)); float64(total) > most {
		t.Errorf("%d bytes of progress, want at most %.0f", total, most)
	}
}

// longChain is a chain of n nodes that begins with a value.
func longChain(n, value int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"0":{"class_type":"Pass","inputs":{"v":%d}}`, value)
	for i := 1; i < n-1; i++ {
		fmt.Fprintf(&b, `,"%d":{"class_type":"Pass","inputs":{"v":["%d",0]}}`, i, i-1)
	}
	fmt.Fprintf(&b, `,"%d":{"class_type":"Show","inputs":{"v":["%d",0]}}}`, n-1, n-2)
	return b.String()
}
