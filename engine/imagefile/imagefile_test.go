package imagefile

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// TestLoadLikeComfyUI compares pictures and masks with what ComfyUI's
// LoadImage and LoadImageMask gave.
func TestLoadLikeComfyUI(t *testing.T) {
	node := 2
	for _, name := range []string{"gray.png", "palette.png", "gray16.png", "alpha.png", "exif.jpg"} {
		img, mask, err := Images(decodeFile(t, "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		compare(t, name, img, fmt.Sprintf("load-image.%d.png", node))
		compare(t, name+" mask", maskImage(mask), fmt.Sprintf("load-image.%d.png", node+2))
		node += 4
	}
	frames := decodeFile(t, "testdata", "alpha.png")
	for i, channel := range []string{"alpha", "red", "green", "blue"} {
		mask, err := Mask(frames[0], channel)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, channel, maskImage(mask), fmt.Sprintf("load-image.%d.png", 23+3*i))
	}
	if _, err := Mask(frames[0], "luma"); err == nil {
		t.Error("a channel without sense is taken")
	}
}

// maskImage is what MaskToImage makes of a mask.
func maskImage(m *tensor.Tensor) *tensor.Tensor {
	out := tensor.New(m.Shape[0], m.Shape[1], m.Shape[2], 3)
	for i, v := range m.Data {
		out.Data[3*i], out.Data[3*i+1], out.Data[3*i+2] = v, v, v
	}
	return out
}

func compare(t *testing.T, name string, img *tensor.Tensor, golden string) {
	t.Helper()
	got, err := FromTensor(img, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := readGolden(t, filepath.Join("testdata", golden))
	if got.Width != want.Width || got.Height != want.Height {
		t.Errorf("%s: %dx%d, want %dx%d", name, got.Width, got.Height, want.Width, want.Height)
		return
	}
	worst, share := differ(got.RGB, want.RGB)
	if worst > 0 {
		t.Errorf("%s: worst difference %d levels, %.4f of all bytes differ", name, worst, share)
	}
}

func differ(a, b []byte) (worst int, share float64) {
	n := 0
	for i := range a {
		d := int(a[i]) - int(b[i])
		if d != 0 {
			n++
		}
		worst = max(worst, d, -d)
	}
	return worst, float64(n) / float64(max(len(a), 1))
}

// TestDecodeLikePillow compares every frame with what Pillow made of it.
func TestDecodeLikePillow(t *testing.T) {
	files, err := os.ReadDir("testdata/pillow")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.IsDir() {
			continue
		}
		t.Run(f.Name(), func(t *testing.T) {
			for i, got := range decodeFile(t, "testdata/pillow", f.Name()) {
				want := readGolden(t, fmt.Sprintf("testdata/pillow/expected/%s.%d.png", f.Name(), i))
				if got.Width != want.Width || got.Height != want.Height || (got.Alpha == nil) != (want.Alpha == nil) {
					t.Fatalf("frame %d: %dx%d, alpha %v; want %dx%d, %v", i,
						got.Width, got.Height, got.Alpha != nil, want.Width, want.Height, want.Alpha != nil)
				}
				worst, share := differ(got.RGB, want.RGB)
				alpha, _ := differ(got.Alpha, want.Alpha)
				if worst > 0 || alpha > 0 {
					t.Errorf("frame %d: worst difference %d, %.4f of all bytes differ, alpha %d", i, worst, share, alpha)
				}
			}
		})
	}
}

func TestGIFHasAllFrames(t *testing.T) {
	if n := len(decodeFile(t, "testdata/pillow", "three.gif")); n != 3 {
		t.Errorf("%d frames, want 3", n)
	}
}

func TestDecodeRefuses(t *testing.T) {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	bomb := read("gray.png")
	copy(bomb[16:], "\x00\x01\x00\x00\x00\x01\x00\x00") // 65536x65536; the checksum is not looked at first
	animated := append([]byte("RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02"), make([]byte, 9)...)
	tests := []struct {
		name  string
		data  []byte
		limit int
		want  string
	}{
		{"empty", nil, 0, "not a PNG"},
		{"text", []byte("hello, world"), 0, "not a PNG"},
		{"cut off", read("gray.png")[:1000], 0, "decode PNG"},
		{"bomb", bomb, 0, "decode PNG"},
		{"too many pixels", read("gray.png"), 19199, "1 frames of 160x120 are more than 19199 pixels"},
		{"too many frames", read("pillow/three.gif"), 37 * 29 * 2, "3 frames of 37x29 are more than 2146 pixels"},
		{"animated", animated, 0, "animated WebP"},
	}
	for _, test := range tests {
		_, err := Decode(test.data, test.limit)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
	}
	if _, err := Decode([]byte("GIF"), 0); !errors.Is(err, ErrFormat) {
		t.Errorf("error %v is not ErrFormat", err)
	}
	if _, err := Decode(read("gray.png"), 19200); err != nil {
		t.Errorf("a picture of exactly the limit: %v", err)
	}
}

func TestGIFDisposal(t *testing.T) {
	palette := color.Palette{color.Transparent, color.Black, color.White}
	full := image.NewPaletted(image.Rect(0, 0, 2, 1), palette)
	full.Pix = []byte{1, 1}
	left := image.NewPaletted(image.Rect(0, 0, 1, 1), palette)
	left.Pix = []byte{2}
	right := image.NewPaletted(image.Rect(1, 0, 2, 1), palette)
	right.Pix = []byte{2}
	g := &gif.GIF{
		Image: []*image.Paletted{full, left, right}, Delay: []int{1, 1, 1},
		Disposal: []byte{gif.DisposalNone, gif.DisposalPrevious, gif.DisposalNone},
	}
	var file bytes.Buffer
	if err := gif.EncodeAll(&file, g); err != nil {
		t.Fatal(err)
	}
	frames, err := Decode(file.Bytes(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var got [][2]byte
	for _, f := range frames {
		got = append(got, [2]byte{f.RGB[0], f.RGB[3]})
	}
	if diff := cmp.Diff([][2]byte{{0, 0}, {255, 0}, {0, 255}}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTextOfComfyUI(t *testing.T) {
	f, err := os.Open("testdata/save-metadata.png")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	texts, err := ReadText(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(texts) != 2 || texts[0].Key != "prompt" || texts[1].Key != "workflow" {
		t.Fatalf("texts %+v", texts)
	}
	if !strings.HasPrefix(texts[0].Value, `{"1": {"class_type": "CheckpointLoaderSimple"`) || len(texts[0].Value) != 1064 {
		t.Errorf("prompt has %d characters: %.60s", len(texts[0].Value), texts[0].Value)
	}
}

// TestWritePNGLikeComfyUI writes the same chunks as ComfyUI; only the
// compressed pixels may differ.
func TestWritePNGLikeComfyUI(t *testing.T) {
	want, err := os.ReadFile("testdata/save-metadata.png")
	if err != nil {
		t.Fatal(err)
	}
	texts, err := ReadText(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	frames, err := Decode(want, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := WritePNG(&got, frames[0], PNGOptions{Text: texts}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(chunkNames(want), chunkNames(got.Bytes())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	again, err := Decode(got.Bytes(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(frames, again); diff != "" {
		t.Errorf("pixels changed: -want +got:\n%s", diff)
	}
}

func chunkNames(data []byte) []string {
	var out []string
	for c := range pngChunks(data) {
		if c.kind == "IDAT" || c.kind == "IEND" {
			c.data = nil
		}
		out = append(out, c.kind+" "+string(c.data))
	}
	return out
}

func TestTextRoundTrip(t *testing.T) {
	texts := []Text{{"prompt", `{"a": "b"}`}, {"größe", "naïve"}, {"workflow", "猫 и кот"}, {"empty", ""}}
	p := Picture{Width: 2, Height: 1, RGB: []byte{1, 2, 3, 4, 5, 6}, Alpha: []byte{255, 255}}
	for _, fast := range []bool{false, true} {
		var file bytes.Buffer
		if err := WritePNG(&file, p, PNGOptions{Text: texts, Fast: fast}); err != nil {
			t.Fatal(err)
		}
		got, err := ReadText(bytes.NewReader(file.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(texts, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if c := strings.Join(chunkNames(file.Bytes()), "\n"); !strings.Contains(c, "tEXtgr\xf6\xdfe\x00") && !strings.Contains(c, "tEXt gr\xf6\xdfe\x00na\xefve") {
			t.Errorf("Latin-1 does not go into tEXt: %q", c)
		}
		frames, err := Decode(file.Bytes(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]Picture{p}, frames); diff != "" {
			t.Errorf("an opaque alpha channel is lost: -want +got:\n%s", diff)
		}
	}
}

func TestWritePNGRefuses(t *testing.T) {
	p := Picture{Width: 1, Height: 1, RGB: []byte{1, 2, 3}}
	for _, key := range []string{"", "猫", strings.Repeat("k", 80), "a\x00b"} {
		if err := WritePNG(io.Discard, p, PNGOptions{Text: []Text{{key, "v"}}}); err == nil {
			t.Errorf("keyword %q is written", key)
		}
	}
	if err := WritePNG(brokenWriter{}, p, PNGOptions{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("error %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestFromTensorRefuses(t *testing.T) {
	for _, in := range []*tensor.Tensor{tensor.New(1, 2, 2), tensor.New(1, 2, 2, 1), tensor.New(0, 2, 2, 3)} {
		if _, err := FromTensor(in, 0); err == nil {
			t.Errorf("shape %v makes a picture", in.Shape)
		}
	}
}

func TestImagesSkipsOtherSizes(t *testing.T) {
	a, b := newPicture(2, 1), newPicture(1, 1)
	img, mask, err := Images([]Picture{a, b, a})
	if err != nil {
		t.Fatal(err)
	}
	if img.Shape.String() != "[2 1 2 3]" || mask.Shape.String() != "[2 64 64]" {
		t.Errorf("image %v, mask %v", img.Shape, mask.Shape)
	}
	if _, _, err := Images(nil); err == nil {
		t.Error("no frames make an image")
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/pillow/*.*")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frames, err := Decode(data, 1<<16)
		if err != nil {
			return
		}
		pixels := 0
		for _, p := range frames {
			pixels += p.Width * p.Height
			if len(p.RGB) != 3*p.Width*p.Height || p.Alpha != nil && len(p.Alpha) != p.Width*p.Height {
				t.Fatalf("%dx%d has %d and %d bytes", p.Width, p.Height, len(p.RGB), len(p.Alpha))
			}
		}
		if pixels > 1<<16 {
			t.Fatalf("%d pixels decoded", pixels)
		}
	})
}

func FuzzReadText(f *testing.F) {
	data, err := os.ReadFile("testdata/save-metadata.png")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(pngSignature + "\x00\x00\x00\x05iTXtkey\x00\x01\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		texts, err := ReadText(bytes.NewReader(data))
		if err != nil && texts != nil {
			t.Fatal("texts beside an error")
		}
	})
}

func decodeFile(t *testing.T, dir, name string) []Picture {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	frames, err := Decode(data, 0)
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

// readGolden reads an expected picture without the code under test.
func readGolden(t *testing.T, name string) Picture {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	p := newPicture(img.Bounds().Dx(), img.Bounds().Dy())
	if img.ColorModel() == color.NRGBAModel {
		p.Alpha = make([]byte, p.Width*p.Height)
	}
	for i := range p.Width * p.Height {
		c, ok := img.At(i%p.Width, i/p.Width).(color.NRGBA)
		if !ok {
			c = color.NRGBAModel.Convert(img.At(i%p.Width, i/p.Width)).(color.NRGBA)
		}
		copy(p.RGB[3*i:], []byte{c.R, c.G, c.B})
		if p.Alpha != nil {
			p.Alpha[i] = c.A
		}
	}
	return p
}
