package diffusion

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

func outOfMemory(needed int64) error {
	return &ort.Error{Op: "run session", Code: ort.CodeMemory, Provider: "cuda:0", Message: "Available memory is smaller", Needed: needed}
}

func predict(t *testing.T, m *Model) error {
	t.Helper()
	_, err := m.predict(t.Context(), noisy(1, 4, 8, 8), map[string]*tensor.Tensor{"context": noisy(1, 77, m.textWidth)}, 1)
	return err
}

func decode(t *testing.T, v *VAE) error {
	t.Helper()
	_, err := v.Decode(t.Context(), noisy(1, 4, 8, 8))
	return err
}

// TestMemoryIsMade has memory for one network at a time: when it runs out, be it
// as a network is loaded or as it runs, the others go, and it is tried again.
func TestMemoryIsMade(t *testing.T) {
	for _, when := range []string{"open", "run"} {
		t.Run(when, func(t *testing.T) {
			g := &fakeGPU{}
			full := func() error {
				open := map[string]bool{}
				for _, line := range g.log {
					what, name, _ := strings.Cut(line, " ")
					switch what {
					case "open":
						open[name] = true
					case "close":
						delete(open, name)
					}
				}
				if when == "open" && len(open) > 0 || len(open) > 1 {
					return outOfMemory(1 << 30)
				}
				return nil
			}
			if when == "open" {
				g.open = func(*fakeSession) error { return full() }
			} else {
				g.run = func(*fakeSession, map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) { return nil, full() }
			}
			m, vae := g.load(t, Options{})
			for range 2 {
				if err := errors.Join(predict(t, m), decode(t, vae)); err != nil {
					t.Fatal(err)
				}
			}
			// Those in which memory ran out are closed, too.
			closed := map[string]int{"open": 3, "run": 6}[when]
			if n := strings.Count(strings.Join(g.log, ","), "close"); n != closed {
				t.Errorf("%d sessions were closed, want %d: %q", n, closed, g.log)
			}
		})
	}
}

// TestNoMemory cannot make any.
func TestNoMemory(t *testing.T) {
	g := &fakeGPU{run: func(*fakeSession, map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
		return nil, outOfMemory(3 << 30)
	}}
	m, _ := g.load(t, Options{FreeMemory: func(d ort.Device) int64 { return 1 << 30 }})
	err := predict(t, m)
	var memory *MemoryError
	if !errors.As(err, &memory) || memory.Network != "unet" || memory.Needed != 3<<30 || memory.Weights != m.unet.copiedBytes() {
		t.Fatalf("error %+v", err)
	}
	if want := "the memory of cuda:0 does not suffice for unet, whose weights are "; !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), ": 3.0 GiB were needed, 1.0 GiB free: ") {
		t.Errorf("error %v, want %s…", err, want)
	}
	if want := []string{"open unet", "run unet", "close unet"}; !slices.Equal(g.log, want) {
		t.Errorf("done %q, want %q: it is not tried again without need", g.log, want)
	}
}

// TestBudget loads networks into a bounded memory: those unused for longest make
// room, and one that is too large is refused before anything is loaded.
func TestBudget(t *testing.T) {
	g := &fakeGPU{}
	m, vae := g.load(t, Options{})
	unet, decoder, encoder := m.unet.copiedBytes(), vae.decoder.copiedBytes(), vae.encoder.copiedBytes()
	r := m.runtime
	r.options.DeviceMemory = (unet + decoder + encoder - 1) * workingShare / (workingShare - 1)
	encode := func() error {
		_, err := vae.Encode(t.Context(), Image{tensor.Full(0.5, 1, 64, 64, 3)})
		return err
	}
	if err := errors.Join(predict(t, m), decode(t, vae), predict(t, m), encode()); err != nil {
		t.Fatal(err)
	}
	want := []string{"open unet", "run unet", "open vae_decoder", "run vae_decoder", "run unet", "close vae_decoder", "open vae_encoder", "run vae_encoder"}
	if !slices.Equal(g.log, want) {
		t.Errorf("done %q, want %q", g.log, want)
	}
	if _, held := r.Held(); held != unet+encoder {
		t.Errorf("%d bytes are held, want %d", held, unet+encoder)
	}
	// More than its share is left to a network that stands alone.
	r.options.DeviceMemory = unet
	if err := predict(t, m); err != nil {
		t.Error(err)
	}
	r.Free()
	if err := predict(t, m); err != nil {
		t.Error(err)
	}
	r.Free()
	g.log = nil
	r.options.DeviceMemory = unet - 1
	err := predict(t, m)
	if want := fmt.Sprintf(" were needed, %s free of the %s that models may take", size(unet-1), size(unet-1)); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("error %v, want …%s", err, want)
	}
	if len(g.log) > 0 {
		t.Errorf("done %q", g.log)
	}
}

// TestTilesWhereMemoryFails decodes and encodes pictures that do not fit: they
// come out as in the tiles that ComfyUI would take.
func TestTilesWhereMemoryFails(t *testing.T) {
	g := &fakeGPU{run: func(s *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
		for name, unit := range map[string]int{"z": 1, "image": 8} {
			if x := in[name]; x != nil && x.Dim(2)*x.Dim(3)/unit/unit > 64*64 {
				return nil, outOfMemory(1 << 30)
			}
		}
		return nil, nil
	}}
	_, vae := g.load(t, Options{})
	z := noisy(2, 4, 80, 72)
	im, err := vae.Decode(t.Context(), z)
	if err != nil {
		t.Fatal(err)
	}
	want, err := vae.DecodeTiled(t.Context(), z, Tiles{Size: 512, Overlap: 128})
	if err != nil {
		t.Fatal(err)
	}
	compareTo(t, im.Tensor, want.Tensor, 0)
	latent, err := vae.Encode(t.Context(), im)
	if err != nil {
		t.Fatal(err)
	}
	wantLatent, err := vae.EncodeTiled(t.Context(), im, Tiles{Size: 512, Overlap: 64})
	if err != nil {
		t.Fatal(err)
	}
	compareTo(t, latent, wantLatent, 0)
	if len(g.notices) != 2 || !strings.Contains(g.notices[0], "decoded in tiles") || !strings.Contains(g.notices[1], "encoded in tiles") {
		t.Errorf("notices %q", g.notices)
	}
	// One tile would be the same again.
	g.run = func(*fakeSession, map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
		return nil, outOfMemory(1)
	}
	vae.runtime.Free()
	g.log = nil
	if _, err := vae.Decode(t.Context(), noisy(1, 4, 16, 16)); !isMemory(err) || strings.Count(strings.Join(g.log, ","), "run") != 1 {
		t.Errorf("error %v after %q", err, g.log)
	}
}

// TestPiecesWhereMemoryFails evaluates both sides of guidance one by one where
// they do not fit together.
func TestPiecesWhereMemoryFails(t *testing.T) {
	g := &fakeGPU{run: func(s *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
		if in["x"].Dim(0) > 1 {
			return nil, outOfMemory(1)
		}
		return nil, nil
	}}
	m, _ := g.load(t, Options{})
	text := NewCond(noisy(1, 77, m.textWidth), nil)
	_, err := Sample(t.Context(), Job{
		Guider: CFGGuider(m, Conditioning{text}, Conditioning{text}, 7), Sampler: Sampler{Name: "euler"}, Sigmas: Sigmas{8, 4, 0},
		Latent: Latent{Samples: tensor.New(1, 4, 8, 8)},
	})
	// A session in which memory ran out is not used again.
	if want := []string{"open unet", "run unet", "close unet", "open unet", "run unet", "run unet", "run unet", "run unet"}; err != nil || !slices.Equal(g.log, want) {
		t.Errorf("done %q, error %v", g.log, err)
	}
}

// TestSmallerTiles has memory for tiles of 128 pixels, or of fewer.
func TestSmallerTiles(t *testing.T) {
	for most, want := range map[int]int{128: 2, 64: -1} {
		g := &fakeGPU{run: func(_ *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
			x := in["x"]
			if x.Dim(2) > most {
				return nil, outOfMemory(1)
			}
			return map[string]*tensor.Tensor{"image": tensor.Full(0.5, 1, 3, 4*x.Dim(2), 4*x.Dim(3))}, nil
		}}
		r := g.runtime(t, Options{})
		u, err := r.LoadUpscaler(t.Context(), weightstest.Write(t, t.TempDir(), "esrgan-x4-tiny"))
		if err != nil {
			t.Fatal(err)
		}
		im, err := u.Upscale(t.Context(), Image{tensor.Full(0.5, 1, 600, 140, 3)}, Tiles{Size: 512, Overlap: 32}, nil)
		switch {
		case want < 0 && !isMemory(err):
			t.Errorf("memory for tiles of %d pixels: error %v", most, err)
		case want > 0 && (err != nil || len(g.notices) != want || im.Dim(1) != 2400):
			t.Errorf("memory for tiles of %d pixels: error %v, notices %q", most, err, g.notices)
		}
	}
}

// TestCancelledLoad ends loads with their contexts: no entry without a session
// may stay, which the next making of room would close.
func TestCancelledLoad(t *testing.T) {
	for range 20 { // what a select would take first is chance
		ctx, cancel := context.WithCancel(t.Context())
		g := &fakeGPU{open: func(*fakeSession) error {
			cancel()
			return ctx.Err()
		}}
		m, _ := g.load(t, Options{})
		_, err := m.predict(ctx, noisy(1, 4, 8, 8), map[string]*tensor.Tensor{"context": noisy(1, 77, m.textWidth)}, 1)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v", err)
		}
		if n := len(m.runtime.pool.entries); n != 0 {
			t.Fatalf("%d entries stay", n)
		}
		m.runtime.Free()
	}
}
