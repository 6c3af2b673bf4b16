package queue_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// body4k is a prompt of about the usual size.
var body4k = json.RawMessage(`{"6":{"class_type":"CLIPTextEncode","inputs":{"text":"` + strings.Repeat("a castle on a hill, ", 200) + `","clip":["4",1]}}}`)

// stores are the ways in which a prompt can be kept.
func stores(b *testing.B, f func(b *testing.B, o queue.Options)) {
	b.Run("synced", func(b *testing.B) { f(b, queue.Options{Dir: b.TempDir()}) })
	b.Run("interval", func(b *testing.B) { f(b, queue.Options{Dir: b.TempDir(), SyncInterval: time.Minute}) })
	b.Run("memory", func(b *testing.B) { f(b, queue.Options{Memory: true}) })
}

// report adds prompts per second and the slow end of how long each took.
func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "prompts/s")
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
}

func BenchmarkSubmit(b *testing.B) {
	for _, clients := range []int{1, 10} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			stores(b, func(b *testing.B, o queue.Options) {
				o.MaxQueued = 1_000_000
				q := open(b, o)
				took := make([]time.Duration, b.N)
				b.ResetTimer()
				var wait sync.WaitGroup
				for c := range clients {
					wait.Go(func() {
						for i := c; i < b.N; i += clients {
							began := time.Now()
							if _, err := q.Submit(b.Context(), queue.Prompt{Graph: body4k}); err != nil {
								b.Error(err)
								return
							}
							took[i] = time.Since(began)
						}
					})
				}
				wait.Wait()
				b.StopTimer()
				report(b, took)
			})
		})
	}
}

// One worker, prompts that take no time: from the submission to the history, everything in turn or with
// a second goroutine that submits.
func BenchmarkThrough(b *testing.B) {
	stores(b, func(b *testing.B, o queue.Options) {
		o.MaxQueued = 1_000_000
		q := open(b, o)
		took := make([]time.Duration, b.N)
		b.ResetTimer()
		go func() {
			for range b.N {
				if _, err := q.Submit(b.Context(), queue.Prompt{Graph: body4k}); err != nil {
					b.Error(err)
					return
				}
			}
		}()
		for i := range b.N {
			began := time.Now()
			l, err := q.Take(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if err := l.Done(b.Context(), json.RawMessage(`{"9":{"images":[{"filename":"ComfyUI_00001_.png","subfolder":"","type":"output"}]}}`)); err != nil {
				b.Fatal(err)
			}
			took[i] = time.Since(began)
		}
		b.StopTimer()
		report(b, took)
	})
}

// An event from a worker to a client of the same process.
func BenchmarkEvent(b *testing.B) {
	q := open(b, queue.Options{})
	s, err := q.Subscribe(queue.Filter{Client: "me"})
	if err != nil {
		b.Fatal(err)
	}
	data := []byte(strings.Repeat("x", 120))
	b.ResetTimer()
	go func() {
		for range b.N {
			if err := q.Publish(queue.Event{Client: "me", Prompt: "p", Kind: "progress", Data: data}); err != nil {
				b.Error(err)
				return
			}
		}
	}()
	for range b.N {
		<-s.C
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// A start on a folder with full queue and history.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	q := open(b, queue.Options{Dir: dir, SyncInterval: time.Minute, MaxQueued: 20_000})
	for range 10_000 {
		submit(b, q, queue.Prompt{Graph: body4k})
	}
	for range 5_000 {
		if err := take(b, q).Done(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		q, err := queue.Open(b.Context(), queue.Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if s := q.Stats(); s.Queued != 5000 || s.History != 5000 {
			b.Fatalf("%+v", s)
		}
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
