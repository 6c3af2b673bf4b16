package nodes

import (
	"bytes"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/workflows"
)

const samplerWorkflow = `{
	"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15-tiny-fp16.safetensors"}},
	"2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["1", 1]}},
	"4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
	"5": {"class_type": "KSampler", "inputs": {"model": ["1", 0], "seed": 1, "steps": 4, "cfg": 5.0, "sampler_name": "euler",
		"scheduler": "normal", "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["4", 0], "denoise": 1}},
	"6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
	"7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}}
}`

// encoder is what reads previews elsewhere.
type encoder interface {
	Encode(method string, fit int) (mime string, data []byte, err error)
}

// TestSamplerPreviews compares the events of a sampler with those that a server
// of ComfyUI sent for the same workflow: steps 1 to 4 of 4, each with a picture
// of 512x512.
func TestSamplerPreviews(t *testing.T) {
	r := goldenRuntime(t, goldenCase{Models: []string{"sd15-tiny-fp16"}})
	catalog, err := Catalog(r)
	if err != nil {
		t.Fatal(err)
	}
	g, err := workflows.Parse([]byte(samplerWorkflow))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := engine.NewPlan(g, catalog, engine.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var steps []engine.Event
	_, err = (&engine.Runner{}).Run(t.Context(), plan, engine.RunOptions{Events: func(e engine.Event) {
		if e.Kind == engine.EventProgress {
			steps = append(steps, e)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 4 {
		t.Fatalf("%d steps, want 4", len(steps))
	}
	for i, e := range steps {
		if e.Node != "5" || e.Value != i+1 || e.Total != 4 {
			t.Errorf("step %d: node %s, %d of %d", i, e.Node, e.Value, e.Total)
		}
		for _, method := range []string{"latent2rgb", "auto", "taesd"} {
			mime, data, err := e.Preview.(encoder).Encode(method, 512)
			if err != nil || mime != "image/jpeg" {
				t.Fatalf("step %d: %s, %v", i, mime, err)
			}
			if size, err := jpeg.DecodeConfig(bytes.NewReader(data)); err != nil || size.Width != 512 || size.Height != 512 {
				t.Errorf("step %d by %s: %+v, %v", i, method, size, err)
			}
		}
		for _, method := range []string{"", "none"} {
			if mime, data, err := e.Preview.(encoder).Encode(method, 512); mime != "" || data != nil || err != nil {
				t.Errorf("step %d: %q made %s, %d bytes, %v", i, method, mime, len(data), err)
			}
		}
		if _, _, err := e.Preview.(encoder).Encode("sixel", 512); err == nil || !strings.Contains(err.Error(), "taesd") {
			t.Errorf("an unknown method: %v", err)
		}
	}
}

// TestPreviewDecoder wants a decoder to be used where its file is there: this
// one is broken, which says so.
func TestPreviewDecoder(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "models", "vae_approx")
	if err := os.MkdirAll(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	p := testRuntime(t, dir).previewOf(t.Context(), new(diffusion.Model).Glimpse(tensor.New(1, 4, 2, 2)), sampling.Step{})
	for _, c := range []struct {
		file  string
		fails bool
	}{{"taesdxl_decoder.safetensors", false}, {"taesd_decoder.pth", false}, {"taesd_decoder.safetensors", true}} {
		if err := os.WriteFile(filepath.Join(folder, c.file), []byte("{}"), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, data, err := p.Encode("taesd", 16); (err != nil) != c.fails || (len(data) == 0) != c.fails {
			t.Errorf("with %s: %d bytes, %v", c.file, len(data), err)
		}
	}
}

// TestContained scales a picture with a known ramp to several sizes.
func TestContained(t *testing.T) {
	for _, c := range []struct{ width, height, side, wantWidth, wantHeight int }{
		{16, 8, 64, 64, 32}, {8, 16, 64, 32, 64}, {100, 50, 10, 10, 5}, {30, 30, 30, 30, 30}, {512, 1, 64, 64, 1},
	} {
		p := imagefile.Picture{Width: c.width, Height: c.height}
		for i := range c.width * c.height {
			v := byte(255 * (i % c.width) / c.width)
			p.RGB = append(p.RGB, v, 7, 255)
		}
		out := contained(p, c.side)
		if size := out.Bounds().Size(); size.X != c.wantWidth || size.Y != c.wantHeight {
			t.Fatalf("%dx%d to fit %d: %v", c.width, c.height, c.side, size)
		}
		for x := range c.wantWidth {
			red, green, blue, alpha := out.At(x, c.wantHeight/2).RGBA()
			want := 255 * (float64(x) + 0.5) / float64(c.wantWidth)
			if got := float64(red >> 8); math.Abs(got-want) > 255/float64(c.width)+255/float64(4*c.wantWidth)+1 {
				t.Errorf("%dx%d at %d: %v, want about %v", c.width, c.height, x, got, want)
			}
			if green>>8 != 7 || blue>>8 != 255 || alpha>>8 != 255 {
				t.Errorf("%dx%d at %d: %d %d %d", c.width, c.height, x, green>>8, blue>>8, alpha>>8)
			}
		}
	}
}
