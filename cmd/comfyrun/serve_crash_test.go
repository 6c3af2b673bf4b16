package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestServeCrash kills a server ten times while it accepts and runs 2,000 prompts. Whatever was answered with 200 must end
// in the history, once.
func TestServeCrash(t *testing.T) {
	const prompts, kills = 2000, 10
	home := t.TempDir()
	accepted := map[string]bool{}
	for crash := range kills {
		server := start(t, home, "serve", "--listen", "127.0.0.1:0", "--max-attempts", "20")
		submitted := make(chan []string, 1)
		go func() { submitted <- server.submitUntilGone(crash*prompts/kills, prompts/kills) }()
		time.Sleep(time.Duration(100+rand.IntN(900)) * time.Millisecond)
		server.kill()
		for _, id := range <-submitted {
			accepted[id] = true
		}
	}
	server := start(t, home, "serve", "--listen", "127.0.0.1:0", "--max-attempts", "20")
	for _, id := range server.submitUntilGone(0, prompts-len(accepted)) {
		accepted[id] = true
	}
	if len(accepted) < prompts {
		t.Fatalf("%d prompts were accepted, want %d", len(accepted), prompts)
	}
	server.drainQueue()
	var history map[string]entry
	server.get("/history?max_items=100000", &history)
	for _, id := range slices.Sorted(maps.Keys(accepted)) {
		if e, ok := history[id]; !ok {
			t.Errorf("prompt %s was accepted and is lost", id)
		} else if !e.Status.Completed || len(e.Outputs["2"].Images) != 1 {
			t.Errorf("prompt %s ended as %+v", id, e)
		}
	}
	t.Logf("%d prompts, %d kills", len(accepted), kills)
}

// submitUntilGone posts prompts, the ones from a number on, and returns the ids that were accepted: all, or as many as the
// server took before it was killed.
func (c *child) submitUntilGone(from, n int) []string {
	var ids []string
	for i := range n {
		body, err := json.Marshal(map[string]any{"prompt": grey(from + i)})
		if err != nil {
			panic(err)
		}
		id, err := tryPrompt(c.url, body)
		if err != nil {
			break
		}
		ids = append(ids, id)
	}
	return ids
}

// drainQueue waits until nothing is queued or running.
func (c *child) drainQueue() {
	c.t.Helper()
	var left struct {
		Info struct {
			Remaining int `json:"queue_remaining"`
		} `json:"exec_info"`
	}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if c.get("/prompt", &left); left.Info.Remaining == 0 {
			return
		}
	}
	c.t.Fatalf("%d prompts are left:\n%s", left.Info.Remaining, c.logs)
}

// TestServeDrain sends SIGTERM while a prompt runs: it is finished, those behind it wait for the next process.
func TestServeDrain(t *testing.T) {
	home := t.TempDir()
	server := start(t, home, "serve", "--listen", "127.0.0.1:0", "--drain-timeout", "20s")
	workflow := demoWorkflow(t)
	var ids []string
	for seed := range 3 {
		workflow["3"].(map[string]any)["inputs"].(map[string]any)["seed"] = seed
		ids = append(ids, server.submit(workflow))
	}
	server.running(ids[0])
	if code := server.stop(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, server.logs)
	}
	server = start(t, home, "serve", "--listen", "127.0.0.1:0")
	var history map[string]entry
	server.get("/history", &history)
	if !history[ids[0]].Status.Completed {
		t.Errorf("the prompt that ran at SIGTERM ended as %+v, want success", history[ids[0]])
	}
	for _, id := range ids {
		if e := server.wait(id); !e.Status.Completed {
			t.Errorf("prompt %s ended as %+v", id, e)
		}
	}
}

// running waits until a prompt runs.
func (c *child) running(id string) {
	c.t.Helper()
	var queue struct {
		Running []json.RawMessage `json:"queue_running"`
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		c.get("/queue", &queue)
		for _, item := range queue.Running {
			var fields []json.RawMessage
			if err := json.Unmarshal(item, &fields); err != nil {
				c.t.Fatal(err)
			}
			if string(fields[1]) == fmt.Sprintf("%q", id) {
				return
			}
		}
	}
	c.t.Fatalf("prompt %s does not run:\n%s", id, c.logs)
}
