package ort_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// hold runs a session and returns what it left on the device.
func hold(t *testing.T, s *ort.Session, in ort.Inputs) map[string]*ort.Held {
	t.Helper()
	outs, err := s.Hold(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return outs
}

// copied returns a value's copy on the host.
func copied(t *testing.T, h *ort.Held) *tensor.Tensor {
	t.Helper()
	out, err := h.Tensor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !out.Shape.Equal(h.Shape()) {
		t.Errorf("shape %v of a value of shape %v", out.Shape, h.Shape())
	}
	return out
}

// isClosed checks that a value is refused for being closed.
func isClosed(t *testing.T, s *ort.Session, h *ort.Held) {
	t.Helper()
	_, run := s.RunHeld(t.Context(), ort.Inputs{Tensors: map[string]*tensor.Tensor{"context": random(2, 300, 2)}, Held: map[string]*ort.Held{"latent": h}})
	_, read := h.Tensor(t.Context())
	for _, err := range []error{run, read} {
		var e *ort.Error
		if !errors.As(err, &e) || e.Code != ort.CodeInput || !strings.Contains(e.Message, "the value is closed") {
			t.Errorf("error %v of a closed value", err)
		}
	}
	h.Close()
}

// testHeld has one session's outputs as another one's inputs: nothing of them
// crosses.
func testHeld(t *testing.T, d ort.Device) {
	first, second := bound(t, stepGraph(), d), bound(t, stepGraph(), d)
	words, more := random(2, 8, 300), random(3, 300, 5)
	for step := range 4 {
		latent := random(uint64(10+step%3), 4, 8) // twice the same
		outs := hold(t, first, ort.Inputs{Tensors: map[string]*tensor.Tensor{"latent": latent, "context": words}})
		wantStep(t, map[string]*tensor.Tensor{"out": copied(t, outs["out"]), "negated": copied(t, outs["negated"])}, latent, words)
		mid := run(t, first, map[string]*tensor.Tensor{"latent": latent, "context": words})["out"]
		before := second.Transfers()
		got, err := second.RunHeld(t.Context(), ort.Inputs{Tensors: map[string]*tensor.Tensor{"context": more}, Held: map[string]*ort.Held{"latent": outs["out"]}})
		if err != nil {
			t.Fatal(err)
		}
		wantStep(t, got, mid, more)
		want := ort.Transfers{Out: 4 * (4*5 + 4*300), Runs: 1}
		if step == 0 {
			want.In = bytesOf(more)
		}
		after := second.Transfers()
		if got := (ort.Transfers{In: after.In - before.In, Out: after.Out - before.Out, Runs: after.Runs - before.Runs}); got != want {
			t.Errorf("step %d: %+v crossed, want %+v", step, got, want)
		}
		for _, h := range outs {
			h.Close()
			isClosed(t, second, h)
		}
	}
	count, read := int64(8), int64(4*(4*300+4*8))
	if got, want := first.Transfers(), (ort.Transfers{In: bytesOf(words) + 4*4*4*8, Out: count * read, Runs: count}); got != want {
		t.Errorf("%+v crossed, want %+v", got, want)
	}
}

func bytesOf(t *tensor.Tensor) int64 { return 4 * int64(len(t.Data)) }

// testMixed has an input that takes turns between the host and the device.
func testMixed(t *testing.T, d ort.Device) {
	s := bound(t, stepGraph(), d)
	latent, words, small := random(1, 4, 8), random(2, 8, 8), random(3, 4, 8)
	outs := hold(t, s, ort.Inputs{Tensors: map[string]*tensor.Tensor{"latent": latent, "context": words}})
	there := run(t, s, map[string]*tensor.Tensor{"latent": latent, "context": words})["out"]
	for range 3 {
		for _, x := range []*tensor.Tensor{small, nil} {
			in, want := ort.Inputs{Tensors: map[string]*tensor.Tensor{"context": words}}, x
			if x == nil {
				in.Held, want = map[string]*ort.Held{"latent": outs["out"]}, there
			} else {
				in.Tensors["latent"] = x
			}
			got, err := s.RunHeld(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			wantStep(t, got, want, words)
		}
	}
	// A run that fails before the value is bound leaves no doubt of what is.
	for i := range uint64(5) { // the last ones lie where new ones come next
		small, words = random(10+i, 4, 8), random(20+i, 8, 8)
		wantStep(t, run(t, s, map[string]*tensor.Tensor{"latent": small, "context": words}), small, words)
	}
	bad := &tensor.Tensor{Shape: tensor.Shape{-4, -8}, Data: small.Data}
	if _, err := s.RunHeld(t.Context(), ort.Inputs{Tensors: map[string]*tensor.Tensor{"latent": bad}, Held: map[string]*ort.Held{"context": outs["out"]}}); err == nil {
		t.Error("a tensor of negative sizes was accepted")
	}
	wantStep(t, run(t, s, map[string]*tensor.Tensor{"latent": small, "context": words}), small, words)
	// Both inputs the same value.
	both := hold(t, s, ort.Inputs{Held: map[string]*ort.Held{"latent": square(t, s, outs["out"]), "context": square(t, s, outs["out"])}})
	if got := both["out"].Shape(); !got.Equal(tensor.Shape{4, 4}) {
		t.Errorf("shape %v", got)
	}
}

// square returns a held value of shape [4, 4] made of one of shape [4, 8].
func square(t *testing.T, s *ort.Session, h *ort.Held) *ort.Held {
	t.Helper()
	return hold(t, s, ort.Inputs{Tensors: map[string]*tensor.Tensor{"context": random(4, 8, 4)}, Held: map[string]*ort.Held{"latent": h}})["out"]
}

// testClosing closes sessions and values in other orders than they were made in.
func testClosing(t *testing.T, d ort.Device) {
	first, second, third := bound(t, stepGraph(), d), bound(t, stepGraph(), d), bound(t, stepGraph(), d)
	in := ort.Inputs{Tensors: map[string]*tensor.Tensor{"latent": random(1, 4, 8), "context": random(2, 8, 300)}}
	outs := hold(t, first, in)
	next := ort.Inputs{Tensors: map[string]*tensor.Tensor{"context": random(3, 300, 2)}, Held: map[string]*ort.Held{"latent": outs["out"]}}
	kept := hold(t, second, next)
	want := copied(t, kept["out"])
	outs["negated"].Close()
	outs["negated"].Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	isClosed(t, second, outs["out"])
	// What was made of it is there still.
	if got := copied(t, kept["out"]); !slices.Equal(got.Data, want.Data) {
		t.Errorf("%v after the other session is closed, want %v", got.Data, want.Data)
	}
	wantStep(t, run(t, second, in.Tensors), in.Tensors["latent"], in.Tensors["context"])
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	isClosed(t, third, kept["out"])
	wantStep(t, run(t, third, in.Tensors), in.Tensors["latent"], in.Tensors["context"])
}

// testHeldErrors has runs that fail: values and sessions stay usable.
func testHeldErrors(t *testing.T, d ort.Device) {
	s := bound(t, stepGraph(), d)
	latent, words := random(1, 4, 8), random(2, 8, 3)
	good := ort.Inputs{Tensors: map[string]*tensor.Tensor{"latent": latent, "context": words}}
	outs := hold(t, s, good)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Hold(cancelled, good); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := outs["out"].Tensor(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	held := map[string]*ort.Held{"latent": outs["out"]}
	tests := map[string]struct {
		in   ort.Inputs
		want string
	}{
		"shapes":  {ort.Inputs{Tensors: map[string]*tensor.Tensor{"context": words}, Held: held}, ""},
		"missing": {ort.Inputs{Held: held}, `input "context" is missing`},
		"twice":   {ort.Inputs{Tensors: good.Tensors, Held: held}, `input "latent" is given twice`},
		"unknown": {ort.Inputs{Tensors: good.Tensors, Held: map[string]*ort.Held{"y": outs["out"]}}, `no input "y"`},
	}
	for name, test := range tests {
		for _, err := range []error{second(s.RunHeld(t.Context(), test.in)), second(s.Hold(t.Context(), test.in))} {
			var e *ort.Error
			if !errors.As(err, &e) || !strings.Contains(e.Message, test.want) {
				t.Errorf("%s: error %v, want %s", name, err, test.want)
			}
		}
	}
	wantStep(t, map[string]*tensor.Tensor{"out": copied(t, outs["out"]), "negated": copied(t, outs["negated"])}, latent, words)
	wantStep(t, run(t, s, good.Tensors), latent, words)
}

func second[T any](_ T, err error) error { return err }

// testHeldTogether uses, closes and evicts values from several goroutines.
func testHeldTogether(t *testing.T, d ort.Device) {
	consumer := bound(t, stepGraph(), d)
	words, more := random(2, 8, 30), random(3, 30, 5)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			maker := bound(t, stepGraph(), d)
			for j := range 4 {
				latent := random(uint64(i), 4, 8)
				outs, err := maker.Hold(t.Context(), ort.Inputs{Tensors: map[string]*tensor.Tensor{"latent": latent, "context": words}})
				if err != nil {
					t.Error(err)
					return
				}
				closed := make(chan struct{})
				go func() {
					defer close(closed)
					if j == 3 {
						maker.Close()
					} else {
						outs["out"].Close()
					}
				}()
				_, err = consumer.RunHeld(t.Context(), ort.Inputs{Tensors: map[string]*tensor.Tensor{"context": more}, Held: map[string]*ort.Held{"latent": outs["out"]}})
				var e *ort.Error
				if err != nil && (!errors.As(err, &e) || !strings.Contains(e.Message, "the value is closed")) {
					t.Error(err)
				}
				<-closed
				outs["negated"].Close()
			}
		})
	}
	wg.Wait()
}

// heldTests are those that the CPU and every device pass.
var heldTests = map[string]func(*testing.T, ort.Device){
	"runs": testHeld, "mixed": testMixed, "closing": testClosing, "errors": testHeldErrors, "together": testHeldTogether,
}

func TestHeld(t *testing.T) {
	for name, test := range heldTests {
		t.Run(name, func(t *testing.T) { test(t, ort.Device{}) })
	}
}

// ONNX Runtime takes no names for memory but those that it knows.
func TestDeviceMemory(t *testing.T) {
	for _, d := range []ort.Device{{}, {Provider: "cuda"}, {Provider: "cuda", Index: 3}, {Provider: "webgpu"}} {
		if err := orttest.Env(t).CheckMemory(d); err != nil {
			t.Errorf("%s: %v", d, err)
		}
	}
}

// On the CPU outputs are not kept, and what lies elsewhere is refused.
func TestHeldOnCPU(t *testing.T) {
	in := ort.Inputs{Tensors: map[string]*tensor.Tensor{"latent": random(1, 4, 8), "context": random(2, 8, 3)}}
	plain := stepGraph().session(t, ort.Options{})
	if _, err := plain.Hold(t.Context(), in); err == nil || !strings.Contains(err.Error(), "outputs stay on devices other than the CPU only") {
		t.Errorf("error %v", err)
	}
	outs := hold(t, bound(t, stepGraph(), ort.Device{}), in)
	_, err := plain.RunHeld(t.Context(), ort.Inputs{Tensors: map[string]*tensor.Tensor{"context": random(2, 3, 3)}, Held: map[string]*ort.Held{"latent": outs["out"]}})
	if err == nil || !strings.Contains(err.Error(), `input "latent" lies on`) {
		t.Errorf("error %v", err)
	}
}

// Values give their memory back.
func TestHeldDoesNotLeak(t *testing.T) {
	open := func(n int) {
		for i := range n {
			first, last := bound(t, stepGraph(), ort.Device{}), bound(t, stepGraph(), ort.Device{})
			for j := range 4 {
				outs := hold(t, first, ort.Inputs{Tensors: map[string]*tensor.Tensor{"latent": random(uint64(i), 64, 1<<12), "context": random(uint64(j), 1<<12, 64)}})
				if _, err := last.RunHeld(t.Context(), ort.Inputs{Held: map[string]*ort.Held{"latent": outs["negated"]}, Tensors: map[string]*tensor.Tensor{"context": random(9, 1<<12, 2)}}); err != nil {
					t.Fatal(err)
				}
				if j%2 == 0 {
					outs["out"].Close()
					outs["negated"].Close()
				}
			}
			first.Close()
			last.Close()
		}
	}
	open(3)
	before := anonymous(t)
	open(20)
	if after := anonymous(t); after > before+6 {
		t.Errorf("%d MiB after 3 rounds, %d MiB after 23", before, after)
	}
}
