package ort_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// bound returns a session that runs through a binding: on the device, or on the
// CPU.
func bound(t testing.TB, g *graph, d ort.Device) *ort.Session {
	t.Helper()
	s := g.session(t, ort.Options{Device: d})
	if d == (ort.Device{}) {
		if err := s.UseBinding(); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// stepGraph is a network in small: it takes a latent that changes at each step
// and a context that stays, and has two outputs.
func stepGraph() *graph {
	g := newGraph("step")
	g.input("latent", 2)
	g.input("context", 2)
	g.node("MatMul", []string{"latent", "context"}, []string{"out"})
	g.node("Neg", []string{"latent"}, []string{"negated"})
	g.output("out", 2)
	g.output("negated", 2)
	return g
}

// wantStep checks the outputs of stepGraph.
func wantStep(t *testing.T, out map[string]*tensor.Tensor, latent, words *tensor.Tensor) {
	t.Helper()
	want := build(func(p []int) float64 {
		sum := 0.0
		for k := range latent.Dim(1) {
			sum += at(latent, p[0], k) * at(words, k, p[1])
		}
		return sum
	}, latent.Dim(0), words.Dim(1))
	if !out["out"].Shape.Equal(want.Shape) || difference(out["out"], want) > 1e-5 {
		t.Errorf("product %v of %v and %v is off", out["out"].Shape, latent.Shape, words.Shape)
	}
	if got := out["negated"]; len(out) != 2 || !slices.Equal(got.Data, mapped(latent, func(v float64) float64 { return -v }).Data) {
		t.Errorf("negated: %v", got.Shape)
	}
}

// testTransfers runs a sampler's pattern: latents change, contexts take turns.
func testTransfers(t *testing.T, d ort.Device) {
	s := bound(t, stepGraph(), d)
	positive, negative := random(2, 8, 300), random(3, 8, 300)
	const latentBytes, contextBytes, outBytes = 4 * 4 * 8, 4 * 8 * 300, 4*4*300 + 4*4*8
	var want ort.Transfers
	for step := range 5 {
		latent := random(uint64(10+step), 4, 8)
		for _, words := range []*tensor.Tensor{positive, negative} {
			wantStep(t, run(t, s, map[string]*tensor.Tensor{"latent": latent, "context": words}), latent, words)
			want.Runs++
			want.In += latentBytes
			want.Out += outBytes
			if step == 0 {
				want.In += contextBytes
			}
		}
	}
	if got := s.Transfers(); got != want {
		t.Errorf("%+v crossed, want %+v", got, want)
	}
}

func TestTransfers(t *testing.T) {
	testTransfers(t, ort.Device{})
	s := stepGraph().session(t, ort.Options{})
	run(t, s, map[string]*tensor.Tensor{"latent": random(1, 4, 8), "context": random(2, 8, 3)})
	if got := s.Transfers(); got != (ort.Transfers{}) {
		t.Errorf("on the CPU %+v crossed", got)
	}
}

// testChanges: an input that its owner changes in place is uploaded again, and
// so is one of another shape or of other bits.
func testChanges(t *testing.T, d ort.Device) {
	s := bound(t, stepGraph(), d)
	latent, words := random(1, 4, 8), random(2, 8, 20)
	in := map[string]*tensor.Tensor{"latent": latent, "context": words}
	check := func(bytes int64) {
		t.Helper()
		before := s.Transfers()
		wantStep(t, run(t, s, in), latent, words)
		if got := s.Transfers().In - before.In; got != bytes {
			t.Errorf("%d bytes crossed, want %d", got, bytes)
		}
	}
	check(4 * (32 + 160))
	check(0)
	words.Data[5] = 7
	check(4 * (32 + 160)) // a second set, as most is new
	words.Data[6] = 7
	check(4 * (32 + 160))
	latent.Data[31] = float32(math.Copysign(0, -1))
	check(4 * 32)
	latent.Data[31] = 0
	check(4 * 32)
	latent.Shape = tensor.Shape{2, 16}
	words = random(3, 16, 5)
	in["context"] = words
	check(4 * (32 + 80))
	latent = random(4, 0, 16) // nothing at all
	in["latent"] = latent
	check(0)
	if out := run(t, s, in)["out"]; !out.Shape.Equal(tensor.Shape{0, 5}) {
		t.Errorf("shape %v", out.Shape)
	}
}

func TestChangedInputs(t *testing.T) { testChanges(t, ort.Device{}) }

// Large inputs that take turns stay on the device, but for sessions that run
// seldom.
func TestLargeInputs(t *testing.T) {
	for release, want := range map[bool]int64{false: 2, true: 4} {
		s := stepGraph().session(t, ort.Options{Release: release})
		if err := s.UseBinding(); err != nil {
			t.Fatal(err)
		}
		latent := random(1, 1, 8)
		large := []*tensor.Tensor{tensor.Full(1, 8, 5<<17), tensor.Full(2, 8, 5<<17)} // 20 MiB each
		for i := range 4 {
			run(t, s, map[string]*tensor.Tensor{"latent": latent, "context": large[i%2]})
		}
		if got := s.Transfers().In / (20 << 20); got != want {
			t.Errorf("release %v: %d large inputs crossed, want %d", release, got, want)
		}
	}
}

// More kinds of input than a session keeps on its device.
func TestManyInputs(t *testing.T) {
	s := bound(t, stepGraph(), ort.Device{})
	for i := range 60 {
		latent, words := random(uint64(i), 1+i%7, 8), random(uint64(i%13), 8, 1+i%11)
		wantStep(t, run(t, s, map[string]*tensor.Tensor{"latent": latent, "context": words}), latent, words)
	}
}

func TestBoundRunsTakeTurns(t *testing.T) {
	s := bound(t, stepGraph(), ort.Device{})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			latent, words := random(uint64(i), 3, 8), random(uint64(i%3), 8, 4)
			for range 20 {
				out, err := s.Run(context.Background(), map[string]*tensor.Tensor{"latent": latent, "context": words})
				if err != nil {
					t.Error(err)
					return
				}
				wantStep(t, out, latent, words)
			}
		})
	}
	wg.Wait()
	if runs := s.Transfers().Runs; runs != 16*20 {
		t.Errorf("%d runs", runs)
	}
}

// A run ends when its context does: the one under way, and one that waits for
// its turn.
func TestBoundRunIsCancelled(t *testing.T) {
	const steps = 1000
	dir := t.TempDir()
	s := slowGraph(steps).session(t, ort.Options{Profile: filepath.Join(dir, "slow")})
	if err := s.UseBinding(); err != nil {
		t.Fatal(err)
	}
	in := map[string]*tensor.Tensor{"x": tensor.New(512, 512)}
	cause := errors.New("the user went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := s.Run(ctx, in); !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
	}
	wg.Wait()
	run(t, s, map[string]*tensor.Tensor{"x": tensor.New(8, 8)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(profileOf(t, dir), []byte(`_kernel_time"`)); n < steps || n >= 2*steps {
		t.Errorf("%d operators ran, want the %d of the whole run and fewer of the cancelled ones", n, steps)
	}
}

func TestBoundRunErrors(t *testing.T) {
	s := bound(t, addGraph(), ort.Device{})
	x := random(1, 2, 3)
	for name, c := range map[string]struct {
		y    *tensor.Tensor
		code ort.Code
	}{
		"shapes": {random(1, 5, 4), ort.CodeRun},
		"rank":   {random(1, 2), ort.CodeRun},
	} {
		_, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": x, "y": c.y})
		var e *ort.Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out := run(t, s, map[string]*tensor.Tensor{"x": x, "y": x})["out"]; out.Data[0] != 2*x.Data[0] {
		t.Error("unusable after errors")
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if got := s.Transfers(); got != (ort.Transfers{}) {
		t.Errorf("closed: %+v", got)
	}
}

// Bindings give their memory back.
func TestBindingsDoNotLeak(t *testing.T) {
	open := func(n int) {
		for i := range n {
			s := stepGraph().session(t, ort.Options{})
			if err := s.UseBinding(); err != nil {
				t.Fatal(err)
			}
			for j := range 8 {
				run(t, s, map[string]*tensor.Tensor{"latent": random(uint64(i), 4+j, 1<<12), "context": random(uint64(j), 1<<12, 32)})
			}
			s.Close()
		}
	}
	open(4)
	before := anonymous(t)
	open(40)
	if after := anonymous(t); after > before+6 {
		t.Errorf("%d MiB after 4 sessions, %d MiB after 44", before, after)
	}
}

// A run that gives memory back does so on the host alone where the device has
// nothing to give.
func TestReleaseWithoutDeviceArena(t *testing.T) {
	s := stepGraph().session(t, ort.Options{Release: true})
	if err := s.UseBinding(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		latent, words := random(uint64(i), 4, 8), random(2, 8, 300)
		wantStep(t, run(t, s, map[string]*tensor.Tensor{"latent": latent, "context": words}), latent, words)
	}
}

func TestPlacement(t *testing.T) {
	s := stepGraph().session(t, ort.Options{Placement: true})
	placed, err := s.Placement()
	if want := "[{negated Neg  CPU} {out MatMul  CPU}]"; err != nil || fmt.Sprint(placed) != want {
		t.Errorf("%v, %v, want %s", placed, err, want)
	}
	var e *ort.Error
	if _, err := stepGraph().session(t, ort.Options{}).Placement(); !errors.As(err, &e) || e.Code != ort.CodeInput {
		t.Errorf("not recorded: %v", err)
	}
	s.Close()
	if _, err := s.Placement(); !errors.As(err, &e) || e.Code != ort.CodeInput {
		t.Errorf("closed: %v", err)
	}
}
