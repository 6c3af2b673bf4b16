package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
)

// The client of a prompt sees the node occupied for which something is brought, and then the run as ever.
func TestPrepareTellsProgress(t *testing.T) {
	b := newBench(t)
	b.worker.Prepare = func(_ context.Context, p *Preparation) error {
		if p.Graph.Node("1").Class != "Pass" {
			t.Error("that is another graph")
		}
		p.Progress("1", 0, 5_000_000_000)
		p.Progress("1", 5_000_000_000, 5_000_000_000)
		return nil
	}
	b.start()
	id := b.submit(queue.Prompt{ClientID: "c"}, chain)
	want := []string{"status begun 1", "c execution_start", "c progress_state", "c executing 1", "c progress_state", "c progress 1",
		"c progress_state", "c progress 1", "c execution_cached", "c progress_state", "c executing 1", "c progress_state",
		"c progress_state", "c executing 2", "c executed 2", "c progress_state", "c execution_success", "status other 0", "c executing <nil>"}
	if diff := cmp.Diff(want, b.heard(id)); diff != "" {
		t.Error(diff)
	}
}

func TestPrepareFails(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"of a node", &engine.NodeError{Node: "1", Kind: engine.ExecutionFailed, Err: errors.New("no such file")},
			`"node_id":"1","node_type":"Pass","executed":[],"exception_message":"no such file\n"`},
		{"of none", errors.New("no room"), `"node_id":"","node_type":"","executed":[],"exception_message":"no room\n"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.worker.Prepare = func(context.Context, *Preparation) error { return c.err }
			b.start()
			e, r := b.wait(b.submit(queue.Prompt{ClientID: "c"}, chain))
			last := string(r.Status.Messages[len(r.Status.Messages)-1])
			if e.State != queue.Failed || len(r.Status.Messages) != 2 || !strings.Contains(last, c.want) {
				t.Errorf("%v, %s, want %s", e.State, last, c.want)
			}
		})
	}
}

func TestPrepareIsStopped(t *testing.T) {
	b := newBench(t)
	brings := make(chan bool, 2)
	b.worker.Prepare = func(ctx context.Context, p *Preparation) error {
		p.Progress("1", 1, 2)
		brings <- true
		<-ctx.Done()
		return ctx.Err()
	}
	b.start()
	id := b.submit(queue.Prompt{ClientID: "c"}, chain)
	<-brings
	if _, err := b.queue.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	e, r := b.wait(id)
	last := string(r.Status.Messages[len(r.Status.Messages)-1])
	if e.State != queue.Cancelled || !strings.Contains(last, `execution_interrupted`) || !strings.Contains(last, `"node_id":"1","node_type":"Pass"`) {
		t.Errorf("%v, %s", e.State, last)
	}
}

func TestPrepareTimeLimit(t *testing.T) {
	b := newBench(t)
	b.worker.TimeLimit = 30 * time.Millisecond
	b.worker.Prepare = func(ctx context.Context, p *Preparation) error {
		<-ctx.Done()
		return &engine.NodeError{Node: "1", Err: ctx.Err()}
	}
	b.start()
	e, r := b.wait(b.submit(queue.Prompt{}, chain))
	last := string(r.Status.Messages[len(r.Status.Messages)-1])
	if e.State != queue.Failed || !strings.Contains(last, "TimeoutError") || !strings.Contains(last, "time limit of 30ms") {
		t.Errorf("%v, %s", e.State, last)
	}
}

// What wants the worker idle waits for the running prompt, and the next prompt for it.
func TestWhenIdle(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	first := b.submit(queue.Prompt{}, gated(1))
	<-b.begun
	second := b.submit(queue.Prompt{}, chain)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.worker.WhenIdle(ctx, func() { t.Error("called although a prompt runs") }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want DeadlineExceeded", err)
	}
	b.openWhen(b.idleIsWanted)
	err := b.worker.WhenIdle(t.Context(), func() {
		if info, err := b.queue.Find(t.Context(), first); err != nil || info.State != queue.Done {
			t.Errorf("the first prompt is %v, %v", info.State, err)
		}
		time.Sleep(20 * time.Millisecond)
		if info, err := b.queue.Find(t.Context(), second); err != nil || info.State == queue.Done {
			t.Errorf("the second prompt is %v, %v", info.State, err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	if e, _ := b.wait(second); e.State != queue.Done {
		t.Errorf("the second prompt is %v", e.State)
	}
	stop()
}
