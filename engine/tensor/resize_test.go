package tensor

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestResizeScene compares with pictures that ComfyUI scaled and saved.
func TestResizeScene(t *testing.T) {
	scene := readPicture(t, "scene.png")
	type target struct {
		w, h   int
		centre bool
	}
	targets := []target{{100, 130, false}, {97, 64, true}, {219, 164, false}, {118, 89, false}}
	node := 3
	for _, method := range []string{NearestExact, Bilinear, AreaMean, Bicubic, Lanczos} {
		for _, to := range targets {
			name := fmt.Sprintf("image-scale.%d.png", node)
			node += 2
			t.Run(fmt.Sprintf("%s to %dx%d", method, to.w, to.h), func(t *testing.T) {
				want := readPicture(t, name)
				src := scene
				if to.centre {
					src = must(t)(CenterCrop(src, to.w, to.h))
				}
				got := must(t)(Resize(src, to.w, to.h, method))
				if !got.Shape.Equal(want.Shape) {
					t.Fatalf("shape %v, want %v", got.Shape, want.Shape)
				}
				worst, mean := levels(got, want)
				if worst > 0 {
					t.Errorf("worst difference %d levels, mean %.4f; want none", worst, mean)
				}
			})
		}
	}
}

// levels compares as saved pictures: 8 bits, cut.
func levels(a, b *Tensor) (worst int, mean float64) {
	for i, v := range a.Data {
		d := int(Byte(v)) - int(math.Round(255*float64(b.Data[i])))
		worst = max(worst, d, -d)
		mean += math.Abs(float64(d))
	}
	return worst, mean / float64(len(a.Data))
}

// TestResizeLatent compares with latents that ComfyUI scaled. The source is
// found again in the one that was enlarged by nearest-exact.
func TestResizeLatent(t *testing.T) {
	nodes := readSafetensors(t, "latent-upscale.safetensors")
	big := nodes["node10"]
	src := New(1, 4, 8, 12)
	rows, cols := nearestExactTaps(8, 12), nearestExactTaps(12, 18)
	for i, v := range big.Data {
		c, y, x := i/(12*18), i/18%12, i%18
		src.Data[(c*8+rows.index[y])*12+cols.index[x]] = v
	}
	tests := []struct {
		node, method string
		w, h         int
		centre       bool
		tolerance    float64 // of the largest value
	}{
		{"node7", NearestExact, 17, 13, false, 0}, {"node10", NearestExact, 18, 12, false, 0},
		{"node13", Bilinear, 17, 13, true, 0}, {"node16", Bilinear, 18, 12, false, 0},
		{"node19", AreaMean, 17, 13, false, 0}, {"node22", AreaMean, 18, 12, false, 0},
		{"node25", Bicubic, 17, 13, true, 0}, {"node28", Bicubic, 18, 12, false, 0},
		{"node31", Bislerp, 17, 13, false, 2e-6}, {"node34", Bislerp, 18, 12, false, 2e-6},
	}
	for _, test := range tests {
		t.Run(test.node+" "+test.method, func(t *testing.T) {
			in := src
			if test.centre {
				in = must(t)(CenterCrop(in, test.w, test.h))
			}
			got := must(t)(Resize(in, test.w, test.h, test.method))
			want := nodes[test.node]
			if !got.Shape.Equal(want.Shape) {
				t.Fatalf("shape %v, want %v", got.Shape, want.Shape)
			}
			var worst, largest float64
			for i, v := range want.Data {
				worst = max(worst, math.Abs(float64(v-got.Data[i])))
				largest = max(largest, math.Abs(float64(v)))
			}
			if worst > test.tolerance*largest {
				t.Errorf("worst difference %g of %g", worst, largest)
			}
		})
	}
}

func TestResizeNearest(t *testing.T) {
	in := Of([]float32{0, 1, 2, 3, 4}, 1, 1, 1, 5)
	for _, test := range []struct {
		method string
		want   []float32
	}{
		{Nearest, []float32{0, 1, 3}},
		{NearestExact, []float32{0, 2, 4}},
	} {
		got := must(t)(Resize(in, 3, 1, test.method))
		if diff := cmp.Diff(test.want, got.Data); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.method, diff)
		}
	}
}

func TestResizeSameSizeKeepsValues(t *testing.T) {
	scene := readPicture(t, "scene.png")
	for _, method := range ResizeMethods() {
		got := must(t)(Resize(scene, 160, 120, method))
		if &got.Data[0] == &scene.Data[0] {
			t.Errorf("%s shares the data of its input", method)
		}
		for i, v := range scene.Data {
			if d := v - got.Data[i]; d > 1e-6 && method != Lanczos || d > 1.0/255 {
				t.Fatalf("%s changed element %d from %g to %g", method, i, v, got.Data[i])
			}
		}
	}
}

func TestResizeRefuses(t *testing.T) {
	tests := []struct {
		name   string
		in     *Tensor
		w, h   int
		method string
		want   string
	}{
		{"three dimensions", New(1, 4, 4), 2, 2, Bilinear, "4 dimensions"},
		{"no width", New(1, 1, 4, 4), 0, 2, Bilinear, "at least 1"},
		{"empty source", New(1, 1, 0, 4), 2, 2, AreaMean, "at least 1"},
		{"unknown method", New(1, 1, 4, 4), 2, 2, "cubic", `"cubic" is none of area, bicubic`},
		{"two channels", New(1, 2, 4, 4), 2, 2, Lanczos, "1, 3 or 4 channels"},
	}
	for _, test := range tests {
		_, err := Resize(test.in, test.w, test.h, test.method)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
	}
}

// TestLanczosAlpha has numbers from Pillow 13: a 4x4 RGBA picture to 3x2.
func TestLanczosAlpha(t *testing.T) {
	in := New(1, 4, 4, 4)
	for i := range in.Data {
		in.Data[i] = float32((i*37+11)%256) / 255
	}
	got := must(t)(Resize(in, 3, 2, Lanczos))
	var levels []int
	for _, v := range got.Data {
		levels = append(levels, int(math.Round(float64(v)*255)))
	}
	if diff := cmp.Diff(lanczosAlphaWant, levels); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

var lanczosAlphaWant = []int{
	60, 199, 87, 200, 195, 122, 136, 62, 132, 68, 96, 188,
	131, 143, 129, 127, 126, 100, 151, 114, 183, 126, 119, 96,
}

func TestCenterCrop(t *testing.T) {
	tests := []struct{ inW, inH, w, h, wantW, wantH int }{
		{160, 120, 97, 64, 160, 106},
		{160, 120, 64, 97, 80, 120},
		{160, 120, 80, 60, 160, 120},
		{10, 7, 1, 1, 6, 7}, // (10-7)/2 = 1.5 rounds to 2
		{12, 7, 1, 1, 8, 7}, // (12-7)/2 = 2.5 rounds to 2
	}
	for _, test := range tests {
		got := must(t)(CenterCrop(New(1, 1, test.inH, test.inW), test.w, test.h))
		if got.Shape[3] != test.wantW || got.Shape[2] != test.wantH {
			t.Errorf("%+v: got %dx%d", test, got.Shape[3], got.Shape[2])
		}
	}
}

func TestCrop(t *testing.T) {
	in := Of([]float32{0, 1, 2, 3, 4, 5, 6, 7, 8}, 1, 1, 3, 3)
	got := must(t)(Crop(in, Rect{X: 1, Y: 1, Width: 2, Height: 2}))
	if diff := cmp.Diff([]float32{4, 5, 7, 8}, got.Data); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := Crop(in, Rect{X: 2, Width: 2, Height: 1}); err == nil {
		t.Error("a rectangle beyond the edge is cropped")
	}
}

func TestRepeat(t *testing.T) {
	in := Of([]float32{1, 2, 3}, 3, 1)
	for n, want := range map[int][]float32{2: {1, 2}, 3: {1, 2, 3}, 5: {1, 2, 3, 1, 2}} {
		if diff := cmp.Diff(want, in.Repeat(n).Data); diff != "" {
			t.Errorf("repeat to %d: -want +got:\n%s", n, diff)
		}
	}
}

func TestByteCuts(t *testing.T) {
	nan := float32(math.NaN())
	for v, want := range map[float32]uint8{0.999: 254, 1: 255, 2: 255, -1: 0, 0.5: 127, nan: 0} {
		if got := Byte(v); got != want {
			t.Errorf("Byte(%g) = %d, want %d", v, got, want)
		}
	}
}

func must(t *testing.T) func(*Tensor, error) *Tensor {
	return func(v *Tensor, err error) *Tensor {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func readPicture(t *testing.T, name string) *Tensor {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	b := img.Bounds()
	out := New(1, 3, b.Dy(), b.Dx())
	for i := range b.Dx() * b.Dy() {
		c := img.(*image.RGBA).RGBAAt(i%b.Dx(), i/b.Dx())
		for k, v := range []uint8{c.R, c.G, c.B} {
			out.Data[k*b.Dx()*b.Dy()+i] = float32(v) / 255
		}
	}
	return out
}

func readSafetensors(t *testing.T, name string) map[string]*Tensor {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(data)
	var header map[string]struct {
		Shape   []int
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(data[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	out := map[string]*Tensor{}
	for key, h := range header {
		out[key] = New(h.Shape...)
		if err := Decode(out[key].Data, data[8+int(n)+h.Offsets[0]:8+int(n)+h.Offsets[1]], F32); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
