//go:build nullcuda

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort/gpu/gputest"
)

// BenchmarkNullCUDA measures what a step of SD 1.5 at 512 by 512 pixels, both
// sides of guidance in one evaluation, costs beside computing: the program runs
// with CUDA's provider on a GPU that computes nothing. ms/step is the time of
// the fastest picture less that of a shorter one; calls/step are the kernels,
// products and copies asked for. COMFYRUN_BENCH_DIR keeps the checkpoint and its
// converted weights, 4 GB, for the next time.
func BenchmarkNullCUDA(b *testing.B) {
	program := filepath.Join(b.TempDir(), "gpubench")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	h := nullHost{b, program, os.Getenv("COMFYRUN_BENCH_DIR"), gputest.OneNull().Build(b)}
	if h.dir == "" {
		h.dir = b.TempDir()
	}
	const short, long = 10, 50
	for b.Loop() {
		few, fewCalls := h.run(short)
		many, manyCalls := h.run(long)
		b.ReportMetric(1000*(many.Best-few.Best)/(long-short), "ms/step")
		b.ReportMetric(float64(manyCalls-fewCalls)/((long-short)*(rounds+1)), "calls/step")
	}
}

// rounds is how often each case is measured, after the first picture.
const rounds = 10

// nullHost runs the program on a machine whose GPU computes nothing.
type nullHost struct {
	b            *testing.B
	program, dir string
	gpu          string // folder of its libraries
}

// run measures a picture of so many steps, and counts what was asked of the GPU.
func (h nullHost) run(steps int) (r result, calls int) {
	h.b.Helper()
	before := gputest.Counts(h.b, h.gpu)
	cmd := exec.CommandContext(h.b.Context(), h.program, "--library", h.gpu, "--dir", h.dir, "--python", "", "--rounds", strconv.Itoa(rounds), fmt.Sprintf("sd15:512:%d:1", steps))
	cmd.Env = gputest.Environment(h.gpu)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.b.Fatalf("%v\n%s", err, out)
	}
	for _, count := range gputest.Since(before, gputest.Counts(h.b, h.gpu)) {
		calls += count.Times
	}
	data, err := os.ReadFile(filepath.Join(h.dir, "results.jsonl"))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		h.b.Fatal(err)
	}
	return r, calls
}
