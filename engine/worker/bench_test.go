package worker

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
)

// BenchmarkPrompts is from submission to history, with two nodes that do
// nothing, one prompt after the other. "synced" waits for the disk.
func BenchmarkPrompts(b *testing.B) {
	for _, c := range []struct {
		name    string
		options queue.Options
	}{
		{"memory", queue.Options{Memory: true}},
		{"file", queue.Options{Dir: b.TempDir(), SyncInterval: time.Minute}},
		{"synced", queue.Options{Dir: b.TempDir()}},
	} {
		b.Run(c.name, func(b *testing.B) {
			x := newBenchOn(b, c.options)
			x.listen()
			x.start()
			for n := 0; b.Loop(); n++ {
				x.wait(x.submit(queue.Prompt{ClientID: "c"}, longChain(2, n)))
			}
		})
	}
}

// BenchmarkBacklog is prompts that all wait already.
func BenchmarkBacklog(b *testing.B) {
	x := newBenchOn(b, queue.Options{Memory: true, MaxQueued: 1 << 20})
	x.listen()
	var last string
	for n := range b.N {
		last = x.submit(queue.Prompt{ClientID: "c"}, longChain(2, n))
	}
	b.ResetTimer()
	x.start()
	x.wait(last)
}

// BenchmarkChain is a prompt of 200 nodes that do nothing, from submission to
// history: all executed, and all cached.
func BenchmarkChain(b *testing.B) {
	const nodes = 200
	for _, cached := range []bool{false, true} {
		b.Run(fmt.Sprintf("cached=%v", cached), func(b *testing.B) {
			x := newBenchOn(b, queue.Options{Memory: true})
			x.listen()
			x.start()
			for n := 0; b.Loop(); n++ {
				if cached {
					n = 0
				}
				x.wait(x.submit(queue.Prompt{ClientID: "c"}, longChain(nodes, n)))
			}
		})
	}
}

// listen takes the events as they come.
func (b *bench) listen() {
	go func() {
		for range b.events.C {
		}
	}()
}

func BenchmarkProgressState(b *testing.B) {
	p := newProgressState("p")
	for n := range 50 {
		p.begin(engine.Meta{Node: fmt.Sprint(n), Display: fmt.Sprint(n), Real: fmt.Sprint(n)})
	}
	at := engine.Meta{Node: "7", Display: "7", Real: "7"}
	for b.Loop() {
		p.step(at, 1, 20)
		if !json.Valid(p.text()) {
			b.Fatal("no JSON")
		}
	}
}
