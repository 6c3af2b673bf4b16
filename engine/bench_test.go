package engine

import (
	"context"
	"fmt"
	"testing"

	"github.com/comfyrun/comfyrun/workflows"
)

func benchGraph(b *testing.B, n int) *workflows.Graph {
	lines := []string{"0 Src v=1"}
	for i := 1; i < n-1; i++ {
		lines = append(lines, fmt.Sprintf("%d Count n=@%d.0 step=1", i, i-1))
	}
	return brief(b, append(lines, fmt.Sprintf("end Show value=@%d.0", n-2))...)
}

func benchCatalog(b *testing.B) *Catalog {
	c := NewCatalog()
	type src struct {
		V int `in:"v" range:"0,10"`
	}
	type count struct {
		N    int `in:"n"`
		Step int `in:"step" range:"0,10"`
	}
	Add(c, "Src", "bench", src{}, func(_ context.Context, in src) (int, error) { return in.V, nil })
	Add(c, "Count", "bench", count{}, func(_ context.Context, in count) (int, error) { return in.N + in.Step, nil })
	type show struct {
		Value int `in:"value"`
	}
	Add(c, "Show", "bench", show{}, func(_ context.Context, in show) (UI, error) { return UI{"n": {in.Value}}, nil }).Output()
	if err := c.Err(); err != nil {
		b.Fatal(err)
	}
	return c
}

// benchRun plans and runs a chain of 1,000 nodes that do next to nothing.
func benchRun(b *testing.B, r *Runner, events func(Event)) {
	const n = 1000
	c, g := benchCatalog(b), benchGraph(b, n)
	b.ReportAllocs()
	for b.Loop() {
		p, err := NewPlan(g, c, PlanOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Run(context.Background(), p, RunOptions{Events: events}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/node")
}

func BenchmarkRunner1000(b *testing.B) { benchRun(b, &Runner{}, nil) }

func BenchmarkRunner1000Events(b *testing.B) { benchRun(b, &Runner{}, func(Event) {}) }

func BenchmarkRunner1000Cached(b *testing.B) { benchRun(b, &Runner{Cache: &Cache{}}, nil) }

func BenchmarkPlan1000(b *testing.B) {
	const n = 1000
	c, g := benchCatalog(b), benchGraph(b, n)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewPlan(g, c, PlanOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/node")
}
