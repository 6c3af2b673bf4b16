package diffusion

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// keeping is a model on a GPU, and two controls for it, one after the other.
type keeping struct {
	gpu     *fakeGPU
	model   *Model
	control *Control
}

func newKeeping(t *testing.T, o Options) keeping {
	t.Helper()
	k := keeping{gpu: &fakeGPU{}}
	k.model, _ = k.gpu.load(t, o)
	net, err := k.model.runtime.LoadControlNet(t.Context(), weightstest.Write(t, t.TempDir(), "controlnet-sd15-tiny-fp16"))
	if err != nil {
		t.Fatal(err)
	}
	picture := Image{tensor.Full(0.5, 1, 64, 64, 3)}
	first := &Control{Net: net, Hint: picture, Strength: 0.5, End: 1}
	k.control = &Control{Net: net, Hint: picture, Strength: 1, End: 1, Previous: first}
	return k
}

func (k keeping) sample(t *testing.T) error {
	t.Helper()
	text := NewCond(noisy(1, 77, k.model.textWidth), nil)
	text.Control = k.control
	_, err := Sample(t.Context(), Job{
		Guider: CFGGuider(k.model, Conditioning{text}, Conditioning{text}, 7), Sampler: Sampler{Name: "euler"}, Sigmas: Sigmas{8, 4, 0},
		Latent: Latent{Samples: tensor.New(1, 4, 8, 8)},
	})
	for key, e := range k.model.runtime.pool.entries {
		if len(e.kept) > 0 {
			t.Errorf("%s keeps %d values after the run", key, len(e.kept))
		}
	}
	for _, v := range k.gpu.values {
		if v.tensor != nil {
			t.Errorf("a value of %s is open after the run", v.session.name)
		}
	}
	return err
}

// TestResidualsStay samples with controls on a GPU: their outputs go from one
// network into the next, and are given back.
func TestResidualsStay(t *testing.T) {
	k := newKeeping(t, Options{})
	if err := k.sample(t); err != nil {
		t.Fatal(err)
	}
	step := []string{"run controlnet", "run residuals", "run controlnet", "run residuals", "run unet"}
	want := append([]string{"open controlnet_hint", "run controlnet_hint", "open controlnet", "run controlnet", "open residuals", "run residuals",
		"run controlnet_hint", "run controlnet", "run residuals", "open unet", "run unet"}, step...)
	if !slices.Equal(k.gpu.log, want) {
		t.Errorf("done %q, want %q", k.gpu.log, want)
	}
	if n := len(k.gpu.values); n != 2*2*2*13 {
		t.Errorf("%d values stayed on the GPU", n)
	}
}

// TestResidualsMove has memory for one network at a time: residuals move to the
// host before the networks that hold them go.
func TestResidualsMove(t *testing.T) {
	k := newKeeping(t, Options{})
	open := map[*fakeSession]bool{}
	k.gpu.open = func(s *fakeSession) error {
		for other := range open {
			if !other.closed {
				return outOfMemory(1 << 30)
			}
		}
		open[s] = true
		return nil
	}
	runs := 0
	k.gpu.run = func(s *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
		if s.name == "unet" {
			runs++
			for name, v := range in {
				if strings.HasPrefix(name, "skip.") && (len(v.Data) != 1 || v.Data[0] != 3) {
					t.Errorf("%s is %v", name, v.Data)
				}
			}
			return nil, nil
		}
		if s.gives("out") || s.gives("hint") {
			return nil, nil
		}
		return s.outputs(in, 3), nil
	}
	if err := k.sample(t); err != nil {
		t.Fatal(err)
	}
	if runs != 2 {
		t.Errorf("%d runs of the UNet, done %q", runs, k.gpu.log)
	}
}

// TestResidualsWithoutMemory runs out of memory in each network, again and again:
// what was kept is given back.
func TestResidualsWithoutMemory(t *testing.T) {
	for _, name := range []string{"controlnet", "residuals", "unet"} {
		k := newKeeping(t, Options{})
		k.gpu.run = func(s *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
			if s.name == name {
				return nil, outOfMemory(1)
			}
			return nil, nil
		}
		var m *MemoryError
		if err := k.sample(t); !errors.As(err, &m) || m.Network != name {
			t.Errorf("error %v, want that of %s", err, name)
		}
	}
}

// TestSplitResiduals evaluates both sides of guidance one by one, with residuals
// for each.
func TestSplitResiduals(t *testing.T) {
	k := newKeeping(t, Options{})
	k.gpu.run = func(s *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
		if x := in["x"]; x != nil && x.Dim(0) > 1 && s.name == "unet" {
			return nil, outOfMemory(1)
		}
		return nil, nil
	}
	if err := k.sample(t); err != nil {
		t.Fatal(err)
	}
}

// TestLostResiduals cannot bring values to the host.
func TestLostResiduals(t *testing.T) {
	k := newKeeping(t, Options{})
	broken := errors.New("the cable was pulled")
	k.gpu.read = func(*fakeValue) error { return broken }
	k.gpu.run = func(s *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
		if s.name == "unet" {
			return nil, outOfMemory(1)
		}
		return nil, nil
	}
	if err := k.sample(t); !errors.Is(err, broken) || !strings.Contains(err.Error(), "move output ") {
		t.Errorf("error %v", err)
	}
}

// TestOverflowOfControl has a ControlNet that gives NaN: it is named, though its
// outputs are not looked at when they are made.
func TestOverflowOfControl(t *testing.T) {
	for _, strength := range []float64{1, 0.5} {
		k := newKeeping(t, Options{})
		k.control.Previous, k.control.Strength = nil, strength
		nan := float32(math.NaN())
		k.gpu.run = func(s *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
			switch s.name {
			case "controlnet":
				out := s.outputs(in, 0)
				out["skip.1"].Data[0] = nan
				return out, nil
			case "residuals":
				out := s.outputs(in, 0)
				for name, v := range out {
					v.Data[0] = in["own."+name].Data[0]
				}
				return out, nil
			case "unet":
				return s.outputs(in, in["skip.1"].Data[0]), nil
			}
			return nil, nil
		}
		err := k.sample(t)
		var o *OverflowError
		if !errors.As(err, &o) || *o != (OverflowError{Network: "controlnet", Output: "skip.1", Count: 1, Elements: 1}) {
			t.Errorf("strength %v: error %v", strength, err)
		}
		if want := "step 1 of 2, at noise level 8: controlnet overflowed in fp16: "; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
		k.gpu.run = func(s *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
			if s.name == "unet" {
				return s.outputs(in, nan), nil
			}
			return nil, nil
		}
		if err := k.sample(t); !errors.As(err, &o) || o.Network != "unet" {
			t.Errorf("strength %v: error %v, want the UNet's", strength, err)
		}
	}
}

// TestKeptMoves drops the session of a value while others wait to use it.
func TestKeptMoves(t *testing.T) {
	k := newKeeping(t, Options{})
	net, p := k.control.Net.net, k.model.runtime.pool
	in := feed{tensors: map[string]*tensor.Tensor{"x": tensor.New(1, 4, 8, 8)}}
	out, err := p.hold(t.Context(), net, in)
	if err != nil {
		t.Fatal(err)
	}
	f := feed{tensors: in.tensors, kept: out}
	got := func() (there, here int) {
		g, done, err := f.open()
		defer done()
		if err != nil {
			t.Fatal(err)
		}
		return len(g.there), len(g.tensors)
	}
	if there, here := got(); there != 13 || here != 1 {
		t.Errorf("%d values there, %d here", there, here)
	}
	_, done, _ := f.open()
	freed := make(chan struct{})
	go func() {
		defer close(freed)
		k.model.runtime.Free()
	}()
	select {
	case <-freed:
		t.Error("values moved during a run")
	default:
	}
	done()
	<-freed
	if there, here := got(); there != 0 || here != 14 {
		t.Errorf("%d values there, %d here", there, here)
	}
	if v, err := out["middle"].copied(t.Context()); err != nil || !v.Shape.Equal(tensor.Shape{1, 1, 1, 1}) {
		t.Errorf("%v, %v", v, err)
	}
	f.close()
	f.close()
}

// TestFreeWhileMemoryRunsOut frees networks while one runs that needs what they
// keep, and for which memory then does not suffice.
func TestFreeWhileMemoryRunsOut(t *testing.T) {
	k := newKeeping(t, Options{})
	p := k.model.runtime.pool
	var freeing sync.WaitGroup
	failed := false
	k.gpu.run = func(s *fakeSession, _ map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
		if s.name != "unet" || failed {
			return nil, nil
		}
		failed = true
		freeing.Go(k.model.runtime.Free)
		for p.mu.TryLock() { // until it waits for this run, with the pool locked
			p.mu.Unlock()
			runtime.Gosched()
		}
		return nil, outOfMemory(1 << 20)
	}
	if err := k.sample(t); err != nil || !failed {
		t.Errorf("error %v, run out of memory: %v", err, failed)
	}
	freeing.Wait()
}
