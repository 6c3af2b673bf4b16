package ort_test

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// convGraph is a stack of 3x3 convolutions with SiLU, channels wide.
func convGraph(channels, layers int) *graph {
	g := newGraph("convs")
	last := g.input("x", 4)
	for i := range layers {
		n := strconv.Itoa(i)
		w := random(uint64(i), channels, channels, 3, 3)
		for j := range w.Data {
			w.Data[j] *= 0.1
		}
		h := g.node("Conv", []string{last, g.weight("w"+n, w)}, []string{"c" + n},
			onnx.Attr{Name: "pads", Value: []int64{1, 1, 1, 1}})
		s := g.node("Sigmoid", []string{h}, []string{"s" + n})
		last = g.node("Mul", []string{h, s}, []string{"m" + n})
	}
	g.node("Neg", []string{last}, []string{"out"})
	g.output("out", 4)
	return g
}

// anonymous returns the process's anonymous memory in MiB, after Go has
// returned what it can.
func anonymous(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

// runSizes makes count runs; sizes repeat after ten of them.
func runSizes(t *testing.T, s *ort.Session, count int) {
	t.Helper()
	for i := range count {
		x := tensor.New(1+i%2, 16, 32+24*(i%5), 128-20*(i%5))
		// A new thread each time, as under Go's scheduler over hours.
		done := make(chan error)
		go func() {
			_, err := s.Run(context.Background(), map[string]*tensor.Tensor{"x": x})
			done <- err
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func TestMemoryStaysFlat(t *testing.T) {
	for _, release := range []bool{false, true} {
		t.Run(fmt.Sprintf("release=%v", release), func(t *testing.T) {
			s := convGraph(16, 4).session(t, ort.Options{Release: release})
			runSizes(t, s, 40)
			before := anonymous(t)
			runSizes(t, s, 260)
			after := anonymous(t)
			t.Logf("%d MiB after 40 runs, %d MiB after 300", before, after)
			if after > before+6 {
				t.Errorf("memory grows: %d MiB after 40 runs, %d MiB after 300", before, after)
			}
		})
	}
}

func TestReleaseGivesMemoryBack(t *testing.T) {
	x := map[string]*tensor.Tensor{"x": tensor.New(1, 2, 2048, 2048)} // 32 MiB a tensor
	after := func(release bool) int {
		run(t, convGraph(2, 2).session(t, ort.Options{Release: release}), x)
		return anonymous(t)
	}
	before, kept, released := after(true), after(false), after(true)
	t.Logf("%d MiB, working memory kept %d MiB, released %d MiB", before, kept, released)
	if kept < before+24 || released > before+8 {
		t.Errorf("%d MiB at first, %d MiB without release, %d MiB with it", before, kept, released)
	}
}

func TestSessionsDoNotLeak(t *testing.T) {
	env := orttest.Env(t)
	open := func(n int) {
		for range n {
			s, err := env.NewSession(&convGraph(16, 2).Model, ort.Options{})
			if err != nil {
				t.Fatal(err)
			}
			run(t, s, map[string]*tensor.Tensor{"x": tensor.New(1, 16, 64, 64)})
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	open(20)
	before := anonymous(t)
	open(80)
	if after := anonymous(t); after > before+6 {
		t.Errorf("%d MiB after 20 sessions, %d MiB after 100", before, after)
	}
}
