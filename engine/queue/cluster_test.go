package queue_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/queue/queuetest"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const leaseVariable = "COMFYRUN_QUEUE_TEST_LEASE"

// work takes prompts of an external NATS, one at a time. The graph says how many milliseconds one takes; a negative
// number: until there is a line to read, at the first attempt.
func work(ctx context.Context, url string) error {
	lease, err := time.ParseDuration(os.Getenv(leaseVariable))
	if err != nil {
		return err
	}
	q, err := queue.Open(ctx, queue.Options{URL: url, Lease: lease})
	if err != nil {
		return err
	}
	fmt.Println("open")
	line := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n') // the end of the input will do
		close(line)
	}()
	for {
		l, err := q.Take(ctx)
		if err != nil {
			return err
		}
		fmt.Println("took", l.Prompt.ID, l.Attempt)
		err = l.Run(ctx, func(ctx context.Context) (json.RawMessage, error) {
			var ms int
			if err := json.Unmarshal(l.Prompt.Graph, &ms); err != nil {
				return nil, err
			}
			var over <-chan time.Time
			ended := line
			if ms >= 0 || l.Attempt > 1 {
				over, ended = time.After(time.Duration(ms)*time.Millisecond), nil
			}
			select {
			case <-over:
				return json.RawMessage(fmt.Sprint(rand.Uint64())), nil
			case <-ended:
				return json.RawMessage(fmt.Sprint(rand.Uint64())), nil
			case <-ctx.Done():
				fmt.Println("stopped", l.Prompt.ID, context.Cause(ctx))
				return nil, context.Cause(ctx)
			}
		})
		if err != nil {
			return err
		}
	}
}

func startWorkers(t *testing.T, url string, n int) []*process {
	t.Helper()
	var list []*process
	for range n {
		p := start(t, "work", url)
		if line := <-p.lines; line != "open" {
			t.Fatalf("the worker began with %q", line)
		}
		list = append(list, p)
	}
	return list
}

// moves runs three workers, ends the one that has the long prompt, and returns it and how long it takes until another
// has the prompt. All prompts are done then.
func moves(t *testing.T, lease time.Duration, end func(*process)) (*queue.Queue, *process, time.Duration) {
	t.Setenv(leaseVariable, lease.String())
	url := queuetest.Listen(t, t.TempDir(), -1).ClientURL()
	q := open(t, queue.Options{URL: url, Lease: lease})
	workers := startWorkers(t, url, 3)
	submit(t, q, queue.Prompt{ID: "long", Graph: json.RawMessage(`-1`)})
	var holder *process
	select {
	case <-workers[0].lines:
		holder = workers[0]
	case <-workers[1].lines:
		holder = workers[1]
	case <-workers[2].lines:
		holder = workers[2]
	}
	for i := range 20 {
		submit(t, q, queue.Prompt{ID: fmt.Sprint(i), Graph: json.RawMessage(`20`)})
	}
	began := time.Now()
	end(holder)
	if is := state(t, q, "long"); is != queue.Running && time.Since(began) < lease/2 {
		t.Errorf("the prompt is %s, although nobody can know yet", is)
	}
	ctx, cancel := context.WithTimeout(t.Context(), lease+patience)
	defer cancel()
	for attempts := 0; attempts < 2; {
		i, err := q.Find(ctx, "long")
		if err != nil || ctx.Err() != nil {
			t.Fatalf("the prompt does not move: %+v %v", i, err)
		}
		attempts = i.Attempts
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	for i := range 20 {
		if e, err := q.Wait(ctx, fmt.Sprint(i)); err != nil || e.State != queue.Done {
			t.Errorf("prompt %d: %s %v", i, e.State, err)
		}
	}
	if e, err := q.Wait(ctx, "long"); err != nil || e.State != queue.Done || e.Attempts != 2 {
		t.Errorf("%+v %v", e, err)
	}
	return q, holder, took
}

func TestWorkerKilled(t *testing.T) {
	const lease = 2 * time.Second
	if _, _, took := moves(t, lease, (*process).kill); took < lease/2 {
		t.Errorf("the prompt moved after %v, the lease is %v", took, lease)
	}
}

// A worker that stands still for longer than its lease, and goes on: its result comes too late and does not count.
func TestWorkerStandsStill(t *testing.T) {
	signal := func(p *process, s os.Signal) {
		t.Helper()
		if err := p.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	q, still, _ := moves(t, time.Second, func(p *process) { signal(p, syscall.SIGSTOP) })
	before, _, err := q.Entry(t.Context(), "long")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(still.in) // the end of its prompt
	signal(still, syscall.SIGCONT)
	deadline := time.After(patience)
	for i := 0; ; i++ { // until the worker has come so far as to take another
		submit(t, q, queue.Prompt{ID: fmt.Sprint("more", i), Graph: json.RawMessage(`100`)})
		select {
		case line := <-still.lines:
			t.Log("the worker that stood still:", line)
			if strings.HasPrefix(line, "took more") {
				after, _, err := q.Entry(t.Context(), "long")
				if d := cmp.Diff(before.Result, after.Result); d != "" || err != nil {
					t.Error("a late result replaced the first:", d, err)
				}
				return
			}
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			t.Fatal("the worker that stood still does not go on")
		}
	}
}

// Two processes' views of one queue, for what goes from one to the other.
func two(t *testing.T) (a, b *queue.Queue, url string) {
	url = queuetest.Listen(t, t.TempDir(), -1).ClientURL()
	return open(t, queue.Options{URL: url}), open(t, queue.Options{URL: url}), url
}

func TestReplicas(t *testing.T) {
	a, b, _ := two(t)
	first := submit(t, a, queue.Prompt{ID: "x", IdempotencyKey: "k"})
	first.Duplicate = true
	if d := cmp.Diff(first, submit(t, b, queue.Prompt{ID: "y", IdempotencyKey: "k"})); d != "" {
		t.Error("the other replica's receipt:", d)
	}
	if d := cmp.Diff(first, submit(t, b, queue.Prompt{ID: "x"})); d != "" {
		t.Error("the other replica's receipt:", d)
	}
	wantState(t, b, "x", queue.Queued)
	l := take(t, b)
	if was, err := a.Cancel(t.Context(), "x"); was != queue.Running && was != queue.Queued || err != nil {
		t.Error(was, err)
	}
	select {
	case <-l.Stopped():
	case <-time.After(patience):
		t.Fatal("the lease is not stopped from afar")
	}
	if err := l.Fail(t.Context(), context.Canceled, nil); !errors.Is(l.Err(), queue.ErrRecorded) && err != nil {
		t.Error(err)
	}
	if e, ok, err := a.Entry(t.Context(), "x"); !ok || err != nil || e.State != queue.Cancelled {
		t.Error(e.State, ok, err)
	}
	for i := range 20 { // a result is there for everybody when Done returns
		id := fmt.Sprint(i)
		submit(t, a, queue.Prompt{ID: id})
		if err := take(t, b).Done(t.Context(), json.RawMessage(id)); err != nil {
			t.Fatal(err)
		}
		if e, err := a.Wait(t.Context(), id); err != nil || string(e.Result) != id {
			t.Error(id, string(e.Result), err)
		}
	}
	if err := b.ClearHistory(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other replica's history is cleared", func() bool { return len(historyIDs(t, a)) == 0 })
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not so:", what)
		}
	}
}

func TestEventsBetweenReplicas(t *testing.T) {
	a, b, _ := two(t)
	s, err := a.Subscribe(queue.Filter{Client: "me"})
	if err != nil {
		t.Fatal(err)
	}
	want := queue.Event{Client: "me", Prompt: "p", Kind: "progress", Data: []byte(`{"value":1}`), Passing: true}
	if err := b.Publish(want); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-s.C:
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	case <-time.After(patience):
		t.Fatal("nothing arrives")
	}
}

// The order holds over replicas, whoever accepts and whoever takes.
func TestOrderBetweenReplicas(t *testing.T) {
	a, b, _ := two(t)
	for i, n := range []float64{3, 1, 2, -1} {
		q := []*queue.Queue{a, b}[i%2]
		submit(t, q, queue.Prompt{ID: fmt.Sprint(n), Number: number(n)})
	}
	for _, q := range []*queue.Queue{a, b} {
		eventually(t, "all are known", func() bool { return q.Depth() == 4 })
	}
	var got []string
	for i := range 4 {
		got = append(got, take(t, []*queue.Queue{b, a}[i%2]).Prompt.ID)
	}
	if d := cmp.Diff([]string{"-1", "1", "2", "3"}, got); d != "" {
		t.Error(d)
	}
}

// KEDA's scaler adds the consumer's pending messages and those in flight. Asking as often as this test does makes the
// server miscount now and then, which the audit sets right.
func TestScalerCount(t *testing.T) {
	url := queuetest.Listen(t, t.TempDir(), -1).ClientURL()
	a := open(t, queue.Options{URL: url, Lease: time.Second})
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	count := func() int {
		c, err := js.Consumer(t.Context(), "COMFYRUN_PROMPTS", "workers")
		if err != nil { // it is being made anew
			return -1
		}
		info := c.CachedInfo()
		return int(info.NumPending) + info.NumAckPending
	}
	for i := range 5 {
		submit(t, a, queue.Prompt{ID: fmt.Sprint(i)})
	}
	l := take(t, a)
	if err := take(t, a).Done(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Cancel(t.Context(), "3"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "2 queued and 1 running are counted", func() bool { return count() == 3 })
	if err := l.Done(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "2 queued are counted", func() bool { return count() == 2 })
}

// Work goes on when the NATS server was away.
func TestServerRestarts(t *testing.T) {
	dir := t.TempDir()
	s := queuetest.Listen(t, dir, -1)
	url := s.ClientURL()
	q, other := open(t, queue.Options{URL: url}), open(t, queue.Options{URL: url})
	submit(t, q, queue.Prompt{ID: "before"})
	l := take(t, q)
	s.Shutdown()
	s.WaitForShutdown()
	done := make(chan error, 2)
	go func() {
		_, err := q.Submit(t.Context(), queue.Prompt{ID: "meanwhile", Graph: json.RawMessage(graph)})
		done <- err
	}()
	go func() { done <- l.Done(t.Context(), nil) }()
	time.Sleep(300 * time.Millisecond)
	var port int
	if _, err := fmt.Sscanf(url[strings.LastIndex(url, ":")+1:], "%d", &port); err != nil {
		t.Fatal(err)
	}
	queuetest.Listen(t, dir, port)
	for range 2 {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("it does not go on")
		}
	}
	if l := take(t, q); l.Prompt.ID != "meanwhile" {
		t.Error(l.Prompt.ID)
	}
	wantState(t, q, "before", queue.Done)
	began := time.Now()
	knows := func() bool {
		list := other.List()
		return len(list) == 1 && list[0].ID == "meanwhile"
	}
	for !knows() {
		if time.Since(began) > patience {
			t.Fatalf("the other replica knows of %+v", other.List())
		}
		time.Sleep(time.Millisecond)
	}
	t.Log("the other replica is up to date after", time.Since(began))
	for _, q := range []*queue.Queue{q, other} { // while the server is there
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A server's limit on messages is the limit of a prompt.
func TestTooLarge(t *testing.T) {
	q := open(t, queue.Options{URL: queuetest.Listen(t, t.TempDir(), -1).ClientURL()}) // takes 1 MiB
	if _, err := q.Submit(t.Context(), queue.Prompt{Graph: json.RawMessage(`"` + noise(2<<20) + `"`)}); !errors.Is(err, queue.ErrTooLarge) {
		t.Error(err)
	}
	submit(t, q, queue.Prompt{ID: "a", Graph: json.RawMessage(`"` + strings.Repeat("x", 2<<20) + `"`)}) // small when deflated
	err := take(t, q).Run(t.Context(), func(context.Context) (json.RawMessage, error) {
		return json.RawMessage(`"` + noise(2<<20) + `"`), nil
	})
	if err != nil {
		t.Error(err)
	}
	if e, err := q.Wait(t.Context(), "a"); err != nil || e.State != queue.Failed || !strings.Contains(e.Error, "too large") {
		t.Errorf("%s %s %v", e.State, e.Error, err)
	}
}

func TestNoServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := queue.Open(ctx, queue.Options{URL: "nats://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Error(err)
	}
}
