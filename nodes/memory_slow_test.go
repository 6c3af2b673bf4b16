//go:build slow

package nodes

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/demo"
	"github.com/comfyrun/comfyrun/workflows"
)

// TestMemoryStaysFlat runs the demo model 300 times in one process, with other
// prompts, seeds and sizes each time. Once every size was seen, the peak of the
// process must not grow by more than 2 %.
func TestMemoryStaysFlat(t *testing.T) {
	const runs, seen = 300, 60
	dir := t.TempDir()
	putDemo(t, dir)
	catalog, err := Catalog(testRuntime(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../workflows/default.json")
	if err != nil {
		t.Fatal(err)
	}
	g, err := workflows.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	// A small budget, so that results of earlier runs leave the cache.
	runner := &engine.Runner{Cache: &engine.Cache{MaxBytes: 4 << 20}}
	var early int
	for i := range runs {
		runVariant(t, runner, catalog, g, i)
		if i+1 == seen {
			early = peakKiB(t)
		}
	}
	late := peakKiB(t)
	t.Logf("peak after %d runs %d KiB, after %d runs %d KiB", seen, early, runs, late)
	if float64(late) > 1.02*float64(early) {
		t.Errorf("peak memory grew from %d to %d KiB, more than 2 %%", early, late)
	}
}

// runVariant runs the default workflow with the i-th prompt, seed and size.
func runVariant(t *testing.T, r *engine.Runner, c *engine.Catalog, g *workflows.Graph, i int) {
	t.Helper()
	colours := []string{"red", "blue", "yellow", "green", "white", "purple"}
	sizes := []int{96, 128, 160, 192}
	v := g.Clone()
	for _, set := range [][3]string{
		{"KSampler", "seed", strconv.Itoa(i)},
		{"KSampler", "steps", strconv.Itoa(2 + i%3)},
		{"EmptyLatentImage", "width", strconv.Itoa(sizes[i%len(sizes)])},
		{"EmptyLatentImage", "height", strconv.Itoa(sizes[i/len(sizes)%len(sizes)])},
		{"Prompt", "text", fmt.Sprintf("a %s house by day %d", colours[i%len(colours)], i)},
	} {
		if err := v.Set(set[0], set[1], set[2]); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := engine.NewPlan(v, c, engine.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Run(context.Background(), plan, engine.RunOptions{}); err != nil {
		t.Fatal(err)
	}
}

// peakKiB returns the largest resident set that the process had.
func peakKiB(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmHWM in /proc/self/status")
	return 0
}

// putDemo puts the demo model into dir/models.
func putDemo(t *testing.T, dir string) {
	t.Helper()
	store := models.Store{Dir: dir, Fetchers: map[string]models.Fetcher{"embed": demo.Source{}}}
	if _, err := store.Ensure(t.Context(), demo.Entry()); err != nil {
		t.Fatal(err)
	}
}
