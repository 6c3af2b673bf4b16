package diffusion

import (
	"encoding/json"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// golden is one folder of testdata/nets.
type golden struct {
	dir  string
	CLIP []struct {
		Key, Text string
		Skip      *int `json:"clip_skip"`
	}
	UNet  []struct{ Key, Context string }
	Apply []struct {
		Key   string
		Sigma float32
	}
	VAE []struct {
		Key, What, PNG string
		Tile           int `json:"tile_size"`
		Overlap        int
	}
}

func readGolden(t *testing.T, name string) *golden {
	t.Helper()
	g := &golden{dir: filepath.Join("testdata", "nets", name)}
	data, err := os.ReadFile(filepath.Join(g.dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, g); err != nil {
		t.Fatal(err)
	}
	return g
}

// tensor reads one tensor of a golden file.
func (g *golden) tensor(t *testing.T, file, name string) *tensor.Tensor {
	t.Helper()
	f, err := weights.Open(filepath.Join(g.dir, file+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := f.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// compare fails when got is further from want than tolerance, in standard
// deviations of want.
func compare(t *testing.T, label string, got, want *tensor.Tensor, tolerance float64) {
	t.Helper()
	if len(got.Data) != len(want.Data) {
		t.Fatalf("%s: shape %v, want %v", label, got.Shape, want.Shape)
	}
	var worst, sum, squares float64
	for i, w := range want.Data {
		worst = max(worst, math.Abs(float64(got.Data[i]-w)))
		sum += float64(w)
		squares += float64(w) * float64(w)
	}
	n := float64(len(want.Data))
	rel := worst / math.Sqrt(squares/n-sum/n*sum/n)
	if !(rel <= tolerance) {
		t.Errorf("%s: differs by %.3g standard deviations, allowed %.3g", label, rel, tolerance)
	}
	t.Logf("%s: %.2g", label, rel)
}

func testRuntime(t testing.TB, cache *weights.Cache) *Runtime {
	t.Helper()
	env := orttest.Library(t)
	r, err := Open(Options{
		Library: func() (string, error) { return env, nil }, Cache: cache,
		Embedding: func(name string) (string, bool) {
			path, err := weightstest.WriteFile(t.TempDir(), name)
			return path, err == nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestNets(t *testing.T) {
	for name, tolerance := range map[string]float64{
		"sd15-tiny-fp32": 1e-4, "sd15-tiny-fp16": 1e-4, "sd15-tiny-bf16": 1e-4, "sd15-inpaint-tiny-fp16": 1e-4,
		"sd21-tiny-fp16": 1e-4, "sdxl-tiny-fp16": 1e-4, "sdxl-vpred-ztsnr-tiny-fp16": 1e-4, "sdxl-refiner-tiny-fp16": 1e-4,
	} {
		t.Run(name, func(t *testing.T) { testNets(t, name, tolerance) })
	}
}

func testNets(t *testing.T, name string, tolerance float64) {
	r := testRuntime(t, &weights.Cache{Dir: t.TempDir()})
	g := readGolden(t, name)
	model, clip, vae, err := r.LoadCheckpoint(t.Context(), weightstest.Write(t, t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	testCLIP(t, g, clip, tolerance)
	testUNet(t, g, model, tolerance)
	testVAE(t, g, vae, tolerance)
}

func testCLIP(t *testing.T, g *golden, clip *CLIP, tolerance float64) {
	for _, c := range g.CLIP {
		skipped := clip
		if c.Skip != nil {
			var err error
			if skipped, err = clip.WithLayer(*c.Skip); err != nil {
				t.Fatal(err)
			}
		}
		cond, err := skipped.Encode(t.Context(), c.Text)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, c.Key, cond[0].Text, g.tensor(t, "clip", c.Key+".cond"), tolerance)
		compare(t, c.Key+" pooled", cond[0].Pooled, g.tensor(t, "clip", c.Key+".pooled"), tolerance)
	}
}

func testUNet(t *testing.T, g *golden, m *Model, tolerance float64) {
	contextOf := func(text string) *tensor.Tensor {
		if text == "prompt 'a photo of a cat'" {
			return g.tensor(t, "unet", "context1")
		}
		return g.tensor(t, "unet", "context2")
	}
	for _, u := range g.UNet {
		x := g.tensor(t, "unet", u.Key+".x")
		in := map[string]*tensor.Tensor{
			"x": x, "timesteps": g.tensor(t, "unet", u.Key+".t"),
			"context": repeatInput(contextOf(u.Context), x.Dim(0), contextOf(u.Context).Dim(1)),
		}
		if m.vectorWidth > 0 {
			in["y"] = g.tensor(t, "unet", u.Key+".y")
		}
		out, err := m.runtime.pool.run(t.Context(), m.unet, in)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, u.Key, out["out"], g.tensor(t, "unet", u.Key+".out"), tolerance)
	}
	for _, a := range g.Apply {
		in := map[string]*tensor.Tensor{"context": g.tensor(t, "unet", "context1")}
		if m.vectorWidth > 0 {
			in["y"] = g.tensor(t, "unet", a.Key+".y")
		}
		if m.inpaints {
			in[inputChannels] = g.tensor(t, "unet", a.Key+".c_concat")
		}
		den, err := m.predict(t.Context(), g.tensor(t, "unet", a.Key+".x"), in, a.Sigma)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, a.Key, den, g.tensor(t, "unet", a.Key+".denoised"), tolerance)
	}
}

func testVAE(t *testing.T, g *golden, vae *VAE, tolerance float64) {
	for _, v := range g.VAE {
		switch v.What {
		case "decode":
			im, err := vae.Decode(t.Context(), g.tensor(t, "vae", v.Key+".z"))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, v.Key, im.Tensor, g.tensor(t, "vae", v.Key+".image"), tolerance)
		case "decode tiled":
			im, err := vae.DecodeTiled(t.Context(), g.tensor(t, "vae", v.Key+".z"), Tiles{v.Tile, v.Overlap})
			if err != nil {
				t.Fatal(err)
			}
			rows := tensor.New(1, 3, im.Dim(2), 3)
			for i, y := range []int{0, 64, 128} {
				copy(rows.Data[i*im.Dim(2)*3:], im.Data[y*im.Dim(2)*3:][:im.Dim(2)*3])
			}
			compare(t, v.Key, rows, g.tensor(t, "vae", v.Key+".image_rows_0_64_128"), tolerance)
		case "encode tiled":
			z, err := vae.EncodeTiled(t.Context(), readPNG(t, filepath.Join(g.dir, v.PNG)), Tiles{v.Tile, v.Overlap})
			if err != nil {
				t.Fatal(err)
			}
			compare(t, v.Key, z, g.tensor(t, "vae", v.Key+".latent"), tolerance)
		case "encode":
			z, err := vae.Encode(t.Context(), readPNG(t, filepath.Join(g.dir, v.PNG)))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, v.Key, z, g.tensor(t, "vae", v.Key+".latent"), tolerance)
		}
	}
}

func readPNG(t *testing.T, path string) Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	im, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	b := im.Bounds()
	out := tensor.New(1, b.Dy(), b.Dx(), 3)
	for y := range b.Dy() {
		for x := range b.Dx() {
			r, g, bl, _ := im.At(b.Min.X+x, b.Min.Y+y).RGBA()
			for c, v := range []uint32{r, g, bl} {
				out.Data[(y*b.Dx()+x)*3+c] = float32(v>>8) / 255
			}
		}
	}
	return Image{out}
}
