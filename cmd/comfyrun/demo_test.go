package main

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

// The demo model's pictures are ComfyUI's: at most 2 of 255 grey levels anywhere, 0.05 in the mean. Measured are 1 level
// and 0.0023.
func TestDemoPictures(t *testing.T) {
	const folder = "../../engine/models/demo"
	names := []string{"reference-192", "reference-boat", "reference-default", "reference-red-house"}
	out := t.TempDir()
	args := []string{"exec", "--home", t.TempDir(), "--library", "../../lib", "--out", out}
	for _, name := range names {
		args = append(args, filepath.Join(folder, name+".json"))
	}
	var stdout, stderr bytes.Buffer
	if code := Run(t.Context(), args, Stdio{In: &bytes.Buffer{}, Out: &stdout, Err: &stderr}); code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	for i, name := range names {
		got := readPNG(t, filepath.Join(out, fmt.Sprintf("ComfyUI_%05d_.png", i+1)))
		largest, mean := difference(t, got, readPNG(t, filepath.Join(folder, name+".png")))
		if largest > 2 || mean > 0.05 {
			t.Errorf("%s differs by up to %v levels, %v in the mean", name, largest, mean)
		}
		t.Logf("%s: %v levels, mean %.5f", name, largest, mean)
	}
}

func readPNG(t *testing.T, file string) image.Image {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return picture
}

// difference returns the largest and the mean difference of two pictures' channels, of 255.
func difference(t *testing.T, a, b image.Image) (largest, mean float64) {
	t.Helper()
	bounds := a.Bounds()
	if bounds != b.Bounds() || bounds.Empty() {
		t.Fatalf("sizes are %v and %v", bounds, b.Bounds())
	}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			p, q := levels(a, x, y), levels(b, x, y)
			for c := range p {
				d := max(p[c]-q[c], q[c]-p[c])
				largest, mean = max(largest, d), mean+d
			}
		}
	}
	return largest, mean / float64(3*bounds.Dx()*bounds.Dy())
}

func levels(picture image.Image, x, y int) [3]float64 {
	r, g, b, _ := picture.At(x, y).RGBA()
	return [3]float64{float64(r >> 8), float64(g >> 8), float64(b >> 8)}
}
