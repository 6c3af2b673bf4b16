package nodes

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

func near(t *testing.T, what string, got, want float32) {
	t.Helper()
	if math.Abs(float64(got-want)) > 1e-6 {
		t.Errorf("%s is %g, want %g", what, got, want)
	}
}

// TestPorterDuff has a source of 0.8 with alpha 0.5 and a destination of 0.3
// with alpha 0.75; the wanted values are colour and mask, by hand.
func TestPorterDuff(t *testing.T) {
	want := map[string][2]float32{
		"ADD": {0.625, 0}, "CLEAR": {0, 1}, "DARKEN": {0.5, 0.125}, "DST": {0.3, 0.25}, "DST_ATOP": {0.425, 0.5},
		"DST_IN": {0.3, 0.625}, "DST_OUT": {0.3, 0.625}, "DST_OVER": {0.3714286, 0.125}, "LIGHTEN": {0.7, 0.125},
		"MULTIPLY": {0.24, 0.625}, "OVERLAY": {0.2057143, 0.125}, "SCREEN": {0.6114286, 0.125}, "SRC": {0.8, 0.5},
		"SRC_ATOP": {0.55, 0.25}, "SRC_IN": {0.8, 0.625}, "SRC_OUT": {0.8, 0.875}, "SRC_OVER": {0.5857143, 0.125},
		"XOR": {0.425, 0.5},
	}
	in := porterDuff{
		Source:           diffusion.Image{Tensor: tensor.Full(0.8, 1, 1, 1, 3)},
		SourceAlpha:      diffusion.Mask{Tensor: tensor.Full(0.5, 1, 1, 1)},
		Destination:      diffusion.Image{Tensor: tensor.Full(0.3, 1, 1, 1, 3)},
		DestinationAlpha: diffusion.Mask{Tensor: tensor.Full(0.25, 1, 1, 1)},
	}
	for _, mode := range porterDuffModes {
		in.Mode = porterDuffMode(mode)
		got, err := compositePorterDuff(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		near(t, mode, got.Image.Data[0], want[mode][0])
		near(t, mode+" mask", got.Mask.Data[0], want[mode][1])
	}
}

func TestStitchWithoutMatching(t *testing.T) {
	second := diffusion.Image{Tensor: tensor.Full(0.25, 2, 1, 2, 4)}
	in := imageStitch{First: onePicture(2, 3), Second: &second, Side: "left", Spacing: 3, Colour: "green"}
	got, err := stitchImages(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tensor.Shape{2, 3, 8, 4}, got.Shape); diff != "" {
		t.Fatal(diff)
	}
	row := func(y int) []float32 { return got.Data[((3+y)*8)*4 : ((3+y)*8+8)*4] }
	for x, want := range [][]float32{{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 1, 0, 1}, {0, 1, 0, 1}, {0, 1, 0, 1}, {0, 1, 0, 1}, {0.5, 0.5, 0.5, 1}, {0.5, 0.5, 0.5, 1}} {
		if diff := cmp.Diff(want, row(0)[x*4:x*4+4]); diff != "" {
			t.Errorf("column %d above the smaller picture: %s", x, diff)
		}
	}
	if diff := cmp.Diff([]float32{0.25, 0.25, 0.25, 0.25}, row(1)[:4]); diff != "" {
		t.Errorf("the smaller picture: %s", diff)
	}
	in.Second = nil
	if got, err := stitchImages(context.Background(), in); err != nil || got.Tensor != in.First.Tensor {
		t.Errorf("one picture alone: %v, %v", got.Shape, err)
	}
}

func TestYUV(t *testing.T) {
	im := diffusion.Image{Tensor: tensor.Of([]float32{1, 0, 0, 0.2, 0.4, 0.9}, 1, 1, 2, 3)}
	yuv, err := splitYUV(context.Background(), rgbToYUV{im})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "Y of red", yuv.Y.Data[0], 0.299)
	near(t, "U of red", yuv.U.Data[1], 0.5-0.299*0.564)
	near(t, "V of red", yuv.V.Data[2], 0.5+0.701*0.713)
	back, err := joinYUV(context.Background(), yuvToRGB(yuv))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(im.Data, back.Data, cmpopts.EquateApprox(0, 2e-3)); diff != "" {
		t.Error(diff)
	}
	if _, err := joinYUV(context.Background(), yuvToRGB{yuv.Y, onePicture(3, 3), yuv.V}); err == nil {
		t.Error("components of two sizes: no error")
	}
}

func TestImageNoise(t *testing.T) {
	got, err := addImageNoise(context.Background(), imageNoise{Image: onePicture(8, 8), Seed: 5, Strength: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	noise := sampling.Noise(tensor.Shape{1, 8, 8, 3}, 5, nil)
	for i, v := range got.Data {
		near(t, "value", v, min(max(0.5+0.1*noise.Data[i], 0), 1))
	}
}

func TestPreviewAny(t *testing.T) {
	for _, c := range []struct {
		value any
		want  string
	}{
		{nil, "None"}, {"x", "x"}, {true, "True"}, {int64(3), "3"}, {2.0, "2.0"}, {math.Inf(1), "inf"},
		{onePicture(4, 2), "IMAGE [1 2 4 3]"}, {rampLatent(0, 1, 4, 2, 2), "LATENT [1 4 2 2]"},
	} {
		ui, err := showAny(context.Background(), previewAny{c.value})
		if diff := cmp.Diff(engine.UI{"text": {c.want}}, ui); diff != "" || err != nil {
			t.Errorf("%v: %v\n%s", c.value, err, diff)
		}
	}
}

func TestLoadOutput(t *testing.T) {
	d := Dirs{Input: t.TempDir(), Output: t.TempDir()}
	p, err := imagefile.FromTensor(onePicture(4, 2).Tensor, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(d.Output, "a.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := imagefile.WritePNG(f, p, imagefile.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := d.loadOutput(context.Background(), loadOutput{"a.png [output]"})
	if err != nil || !got.Image.Shape.Equal(tensor.Shape{1, 2, 4, 3}) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestSaveAnimations looks at names and at what the page is told.
func TestSaveAnimations(t *testing.T) {
	s := &saver{dirs: Dirs{Output: t.TempDir()}}
	two := diffusion.Image{Tensor: tensor.New(2, 3, 4, 3)}
	two.Data[0] = 1
	ui, err := s.saveAPNG(context.Background(), saveAPNG{Images: two, Prefix: "a", Rate: 6, Level: 4, Prompt: engine.Prompt("{}")})
	if diff := cmp.Diff(engine.UI{"images": {SavedImage{"a_00001_.png", "", "output"}}, "animated": {true}}, ui); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	one := onePicture(3, 3)
	ui, err = s.saveWebP(context.Background(), saveWebP{Images: one, Prefix: "b/a", Rate: 6})
	if diff := cmp.Diff(engine.UI{"images": {SavedImage{"a_00001_.webp", "b", "output"}}, "animated": {false}}, ui); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	data, err := os.ReadFile(filepath.Join(s.dirs.Output, "a_00001_.png"))
	if err != nil || !strings.Contains(string(data), "comfprompt\x00{}") || !strings.Contains(string(data), "acTL") {
		t.Errorf("%v: no text, or no animation", err)
	}
}
