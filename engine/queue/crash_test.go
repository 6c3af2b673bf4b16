package queue_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// The test binary starts itself as the process that is to die: what it does is in this variable, where in the next.
const (
	roleVariable  = "COMFYRUN_QUEUE_TEST_ROLE"
	placeVariable = "COMFYRUN_QUEUE_TEST_PLACE" // a folder or URL
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "serve":
		child(serve)
	case "doomed":
		child(doomed)
	case "work":
		child(work)
	default:
		fmt.Fprintln(os.Stderr, "unknown role", role)
		os.Exit(2)
	}
}

func child(f func(ctx context.Context, place string) error) {
	if err := f(context.Background(), os.Getenv(placeVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// process is a child and what it prints.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string // closed at its end
}

func start(t *testing.T, role, place string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0]), lines: make(chan string, 1<<16)}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role, placeVariable+"="+place)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return p
}

// kill ends the child at once, as kill -9 does. It may be dead already.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// serve accepts and executes prompts of a folder at the same time. It reads ids, prints "accepted ID" and, after the
// result is recorded, "done ID RESULT". The result is different every time that a prompt is executed.
func serve(ctx context.Context, dir string) error {
	q, err := queue.Open(ctx, queue.Options{Dir: dir, MaxAttempts: 1000})
	if err != nil {
		return err
	}
	fmt.Println("open")
	var output sync.Mutex
	say := func(words ...any) {
		output.Lock()
		defer output.Unlock()
		fmt.Println(words...)
	}
	failed := make(chan error, 8)
	for range 2 {
		go func() {
			for {
				l, err := q.Take(ctx)
				if err != nil {
					failed <- err
					return
				}
				result := fmt.Sprint(rand.Uint64())
				err = l.Run(ctx, func(context.Context) (json.RawMessage, error) { return json.RawMessage(result), nil })
				if err != nil {
					failed <- err
					return
				}
				say("done", l.Prompt.ID, result)
			}
		}()
	}
	ids := make(chan string)
	for range 4 {
		go func() {
			for id := range ids {
				if _, err := q.Submit(ctx, queue.Prompt{ID: id, IdempotencyKey: id, Graph: json.RawMessage(graph)}); err != nil {
					failed <- err
					return
				}
				say("accepted", id)
			}
		}()
	}
	go func() {
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			ids <- s.Text()
		}
	}()
	return <-failed
}

// crashes submits n prompts to a child that is killed so many times, and checks that every accepted prompt has the
// one result that was first told. As a client would, it repeats what was not accepted.
func crashes(t *testing.T, n, kills int) {
	dir := t.TempDir()
	told := map[string]string{} // id: result
	accepted := map[string]bool{}
	hear := func(line string) {
		switch words := strings.Fields(line); {
		case len(words) == 2 && words[0] == "accepted":
			accepted[words[1]] = true
		case len(words) == 3 && words[0] == "done":
			if before, ok := told[words[1]]; ok && before != words[2] {
				t.Errorf("prompt %s has the results %s and %s", words[1], before, words[2])
			}
			told[words[1]] = words[2]
		}
	}
	for round := range kills + 1 {
		p := start(t, "serve", dir)
		if line := <-p.lines; line != "open" {
			t.Fatalf("the child began with %q", line)
		}
		var ids []string
		for i := range n * (round + 1) / (kills + 1) {
			if id := fmt.Sprint("p", i); !accepted[id] {
				ids = append(ids, id)
			}
		}
		go func() {
			for _, id := range ids {
				fmt.Fprintln(p.in, id)
			}
		}()
		lines := rand.IntN(2*len(ids)) + 1
		silence := 2 * time.Second
		if round == kills {
			silence = patience
		}
		for heard := 0; round < kills && heard < lines && len(told) < len(accepted)+len(ids) || round == kills && len(accepted) < n; heard++ {
			select {
			case line, ok := <-p.lines:
				if !ok {
					t.Fatal("the child ended by itself")
				}
				hear(line)
			case <-time.After(silence):
				if round == kills {
					t.Fatalf("%d accepted, %d done, and nothing happens", len(accepted), len(told))
				}
				heard = lines // everything was told before
			}
		}
		time.Sleep(rand.N(3 * time.Millisecond))
		p.kill()
		for line := range p.lines {
			hear(line)
		}
	}
	verify(t, dir, accepted, told)
}

// verify opens the folder and looks for every prompt.
func verify(t *testing.T, dir string, accepted map[string]bool, told map[string]string) {
	t.Helper()
	q := open(t, queue.Options{Dir: dir})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for {
			l, err := q.Take(ctx)
			if err != nil {
				return
			}
			if err := l.Done(ctx, json.RawMessage(`"late"`)); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	}()
	for id := range accepted {
		e, err := q.Wait(t.Context(), id)
		if err != nil || e.State != queue.Done {
			t.Errorf("accepted prompt %s: %s %s %v", id, e.State, e.Error, err)
		}
		if result, ok := told[id]; ok && result != string(e.Result) {
			t.Errorf("prompt %s was told to have the result %s, the history has %s", id, result, e.Result)
		}
	}
	t.Logf("%d prompts accepted, %d told to be done, all in the history", len(accepted), len(told))
}

// Killed three times amid 200 prompts; the test of the tag slow has more of everything.
func TestKill(t *testing.T) { crashes(t, 200, 3) }

// doomed takes a prompt and kills itself, unless the queue is empty.
func doomed(ctx context.Context, dir string) error {
	q, err := queue.Open(ctx, queue.Options{Dir: dir})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for q.Depth() > 0 {
			time.Sleep(time.Millisecond)
		}
		cancel() // there is nothing to take any more
	}()
	l, err := q.Take(ctx)
	if err != nil {
		fmt.Println("nothing")
		return q.Close()
	}
	fmt.Println("took", l.Prompt.ID, l.Attempt)
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	return self.Kill()
}

// A prompt that takes its process with it three times ends failed, and the next one runs.
func TestDoomed(t *testing.T) {
	dir := t.TempDir()
	q := open(t, queue.Options{Dir: dir})
	submit(t, q, queue.Prompt{ID: "deadly"})
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"took deadly 1", "took deadly 2", "took deadly 3", "nothing"} {
		p := start(t, "doomed", dir)
		if got := <-p.lines; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		for range p.lines {
		}
		_ = p.cmd.Wait() // it killed itself
	}
	q = open(t, queue.Options{Dir: dir})
	e, err := q.Wait(t.Context(), "deadly")
	if err != nil || e.State != queue.Failed || e.Attempts != 3 || !strings.Contains(e.Error, "3 times") || string(e.Prompt.Graph) != escaped(graph) {
		t.Errorf("%+v %v", e, err)
	}
}

// What a dead process had is lost until it is taken again, and can be cancelled.
func TestLostIsDistinct(t *testing.T) {
	dir := t.TempDir()
	q := open(t, queue.Options{Dir: dir})
	submit(t, q, queue.Prompt{ID: "a"})
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	p := start(t, "doomed", dir)
	for range p.lines {
	}
	_ = p.cmd.Wait()
	q = open(t, queue.Options{Dir: dir})
	wantState(t, q, "a", queue.Lost)
	if s := q.Stats(); s.Lost != 1 || s.Queued != 0 {
		t.Errorf("%+v", s)
	}
	if was, err := q.Cancel(t.Context(), "a"); was != queue.Lost || err != nil {
		t.Error(was, err)
	}
	wantState(t, q, "a", queue.Cancelled)
	if ids := historyIDs(t, q); len(ids) != 1 {
		t.Error("it ran, and is not in the history:", ids)
	}
}
