package diffusion

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// bag is a model file in memory, by the names of its tensors.
type bag map[string]*tensor.Tensor

// write makes a .safetensors file of float32.
func (b bag) write(t *testing.T, name string) string {
	t.Helper()
	header, data := map[string]any{}, []byte{}
	for _, n := range slices.Sorted(maps.Keys(b)) {
		begin := len(data)
		for _, v := range b[n].Data {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
		header[n] = map[string]any{"dtype": "F32", "shape": append([]int{}, b[n].Shape...), "data_offsets": []int{begin, len(data)}}
	}
	head, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), append(head, data...)...)
	if err := os.WriteFile(path, file, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// noise returns pseudo-random numbers in [-scale, scale].
func noise(r *rand.Rand, scale float64, shape ...int) *tensor.Tensor {
	t := tensor.New(shape...)
	for i := range t.Data {
		t.Data[i] = float32(scale * (2*r.Float64() - 1))
	}
	return t
}

// conv adds a convolution's weights, and a bias where asked.
func (b bag) conv(r *rand.Rand, name string, out, in, kernel int, bias ...bool) {
	b[name+".weight"] = noise(r, 1/math.Sqrt(float64(in*kernel*kernel)), out, in, kernel, kernel)
	if len(bias) == 0 || bias[0] {
		b[name+".bias"] = noise(r, 0.1, out)
	}
}

// naive evaluates layers by their definition, in float64, on [1, c, h, w].
type naive struct {
	t *testing.T
	bag
}

// conv applies the convolution called name, padded to keep the size at stride 1.
func (n naive) conv(name string, x *tensor.Tensor, stride int) *tensor.Tensor {
	n.t.Helper()
	w, bias := n.bag[name+".weight"], n.bag[name+".bias"]
	if w == nil || w.Dim(1) != x.Dim(1) {
		n.t.Fatalf("conv %s: weight %v over %v", name, w, x.Shape)
	}
	k, h, wd := w.Dim(2), x.Dim(2), x.Dim(3)
	out := tensor.New(1, w.Dim(0), (h-1)/stride+1, (wd-1)/stride+1)
	at := func(c, y, col int) float64 {
		if y < 0 || y >= h || col < 0 || col >= wd {
			return 0
		}
		return float64(x.Data[(c*h+y)*wd+col])
	}
	for i := range out.Data {
		o, y, col := i/(out.Dim(2)*out.Dim(3)), i/out.Dim(3)%out.Dim(2), i%out.Dim(3)
		var sum float64
		if bias != nil {
			sum = float64(bias.Data[o])
		}
		for j, v := range w.Data[o*w.Dim(1)*k*k:][:w.Dim(1)*k*k] {
			sum += float64(v) * at(j/(k*k), y*stride+j/k%k-k/2, col*stride+j%k-k/2)
		}
		out.Data[i] = float32(sum)
	}
	return out
}

// each applies f to every number.
func each(x *tensor.Tensor, f func(float64) float64) *tensor.Tensor {
	out := tensor.New(x.Shape...)
	for i, v := range x.Data {
		out.Data[i] = float32(f(float64(v)))
	}
	return out
}

func relu(v float64) float64 { return max(v, 0) }

func leaky(v float64) float64 { return max(v, 0.2*v) }

func times(f float64) func(float64) float64 { return func(v float64) float64 { return f * v } }

func plus(a, b *tensor.Tensor) *tensor.Tensor {
	out := tensor.New(a.Shape...)
	for i, v := range a.Data {
		out.Data[i] = v + b.Data[i]
	}
	return out
}

// joined puts channels one behind the other.
func joined(parts ...*tensor.Tensor) *tensor.Tensor {
	out := tensor.New(1, 0, parts[0].Dim(2), parts[0].Dim(3))
	for _, p := range parts {
		out.Shape[1] += p.Dim(1)
		out.Data = append(out.Data, p.Data...)
	}
	return out
}

// repeated doubles, triples, … every pixel.
func repeated(x *tensor.Tensor, n int) *tensor.Tensor {
	h, w := x.Dim(2)*n, x.Dim(3)*n
	out := tensor.New(1, x.Dim(1), h, w)
	for i := range out.Data {
		c, y, col := i/(h*w), i/w%h, i%w
		out.Data[i] = x.Data[(c*x.Dim(2)+y/n)*x.Dim(3)+col/n]
	}
	return out
}

// block is TAESD's block.
func (n naive) block(name string, x *tensor.Tensor) *tensor.Tensor {
	h := each(n.conv(name+".conv.0", x, 1), relu)
	h = each(n.conv(name+".conv.2", h, 1), relu)
	h = n.conv(name+".conv.4", h, 1)
	if n.bag[name+".skip.weight"] != nil {
		x = n.conv(name+".skip", x, 1)
	}
	return each(plus(h, x), relu)
}

func TestTinyVAE(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	decoder, encoder := bag{}, bag{}
	block := func(b bag, i int) {
		for _, c := range []int{0, 2, 4} {
			b.conv(r, fmt.Sprintf("%d.conv.%d", i, c), 8, 8, 3)
		}
	}
	decoder.conv(r, "1", 8, 4, 3)
	encoder.conv(r, "0", 8, 3, 3)
	for _, i := range []int{3, 4, 5, 8, 9, 10, 13, 14, 15, 18} {
		block(decoder, i)
	}
	for _, i := range []int{7, 12, 17} {
		decoder.conv(r, fmt.Sprint(i), 8, 8, 3, false)
	}
	decoder.conv(r, "19", 3, 8, 3)
	for _, i := range []int{1, 3, 4, 5, 7, 8, 9, 11, 12, 13} {
		block(encoder, i)
	}
	for _, i := range []int{2, 6, 10} {
		encoder.conv(r, fmt.Sprint(i), 8, 8, 3, false)
	}
	encoder.conv(r, "14", 4, 8, 3)
	vae, err := testRuntime(t, nil).LoadTinyVAE(t.Context(), "taesd3", TinyVAEFiles{
		Encoder: encoder.write(t, "taesd3_encoder.safetensors"), Decoder: decoder.write(t, "taesd3_decoder.safetensors"),
	})
	if err != nil {
		t.Fatal(err)
	}
	// The layers as https://github.com/madebyollin/taesd/blob/main/taesd.py
	// lists them.
	z := noise(r, 3, 1, 4, 3, 2)
	n := naive{t, decoder}
	h := each(z, func(v float64) float64 { return 3 * math.Tanh((v-0.0609)*1.5305/3) })
	h = each(n.conv("1", h, 1), relu)
	for i := 3; i < 19; i++ {
		switch name := fmt.Sprint(i); {
		case decoder[name+".conv.0.weight"] != nil:
			h = n.block(name, h)
		case decoder[name+".weight"] != nil:
			h = n.conv(name, repeated(h, 2), 1)
		}
	}
	want, _ := each(n.conv("19", h, 1), func(v float64) float64 { return min(max(v, 0), 1) }).ChannelsLast()
	got, err := vae.Decode(t.Context(), z)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "decoded", got.Tensor, want, 1e-5)
	// A glimpse is scaled already.
	scaled := latentFormat{scale: 1.5305, mean: []float32{0.0609, 0.0609, 0.0609, 0.0609}, deviation: []float32{1, 1, 1, 1}}.in(z)
	glimpse := Glimpse{runtime: vae.runtime, space: latentSpace{tiny: "taesd3"}, latent: scaled}
	got, err = glimpse.Decode(t.Context(), vae.File())
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "glimpse", got.Tensor, want, 1e-5)

	x := each(noise(r, 0.5, 1, 3, 16, 24), func(v float64) float64 { return v + 0.5 })
	n = naive{t, encoder}
	h = n.conv("0", x, 1)
	for i := 1; i < 14; i++ {
		if name := fmt.Sprint(i); encoder[name+".conv.0.weight"] != nil {
			h = n.block(name, h)
		} else {
			h = n.conv(name, h, 2)
		}
	}
	want = each(n.conv("14", h, 1), func(v float64) float64 { return v/1.5305 + 0.0609 })
	im, _ := x.ChannelsLast()
	latent, err := vae.Encode(t.Context(), Image{im})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "encoded", latent, want, 1e-5)
}

// denseNet adds an RRDB network of one block in the layout of Real-ESRGAN.
func denseNet(r *rand.Rand, in, ups int, shortcut bool) bag {
	const width, grow = 8, 4
	b := bag{}
	b.conv(r, "conv_first", width, in, 3)
	for j := 1; j <= 3; j++ {
		for c := 1; c <= 5; c++ {
			out := grow
			if c == 5 {
				out = width
			}
			b.conv(r, fmt.Sprintf("body.0.rdb%d.conv%d", j, c), out, width+(c-1)*grow, 3)
		}
		if shortcut {
			b.conv(r, fmt.Sprintf("body.0.rdb%d.conv1x1", j), grow, width, 1, false)
		}
	}
	for i := range ups {
		b.conv(r, fmt.Sprintf("conv_up%d", i+1), width, width, 3)
	}
	for _, name := range []string{"conv_body", "conv_hr"} {
		b.conv(r, name, width, width, 3)
	}
	b.conv(r, "conv_last", 3, width, 3)
	return b
}

// dense evaluates denseNet.
func (n naive) dense(x *tensor.Tensor) *tensor.Tensor {
	f := n.conv("conv_first", x, 1)
	h := f
	for j := 1; j <= 3; j++ {
		p, in := fmt.Sprintf("body.0.rdb%d.", j), h
		x1 := each(n.conv(p+"conv1", in, 1), leaky)
		x2 := each(n.conv(p+"conv2", joined(in, x1), 1), leaky)
		short := n.bag[p+"conv1x1.weight"] != nil
		if short {
			x2 = plus(x2, n.conv(p+"conv1x1", in, 1))
		}
		x3 := each(n.conv(p+"conv3", joined(in, x1, x2), 1), leaky)
		x4 := each(n.conv(p+"conv4", joined(in, x1, x2, x3), 1), leaky)
		if short {
			x4 = plus(x4, x2)
		}
		h = plus(each(n.conv(p+"conv5", joined(in, x1, x2, x3, x4), 1), times(0.2)), in)
	}
	h = plus(each(h, times(0.2)), f)
	h = plus(n.conv("conv_body", h, 1), f)
	for i := 1; n.bag[fmt.Sprintf("conv_up%d.weight", i)] != nil; i++ {
		h = each(n.conv(fmt.Sprintf("conv_up%d", i), repeated(h, 2), 1), leaky)
	}
	return n.conv("conv_last", each(n.conv("conv_hr", h, 1), leaky), 1)
}

// oldNames gives denseNet the names of ESRGAN's first layout, in which ESRGAN+
// comes.
func oldNames(b bag, ups int) bag {
	out := bag{}
	for name, v := range b {
		name = strings.NewReplacer("body.0.rdb", "model.1.sub.0.RDB", "conv_first", "model.0", "conv_body", "model.1.sub.1",
			"conv_up1", "model.3", "conv_up2", "model.6", "conv_up3", "model.9",
			"conv_hr", fmt.Sprintf("model.%d", 3*ups+2), "conv_last", fmt.Sprintf("model.%d", 3*ups+4)).Replace(name)
		for c := 1; c <= 5; c++ {
			name = strings.Replace(name, fmt.Sprintf(".conv%d.", c), fmt.Sprintf(".conv%d.0.", c), 1)
		}
		out[name] = v
	}
	return out
}

// middleNames gives denseNet the names of BSRGAN.
func middleNames(b bag) bag {
	out := bag{}
	for name, v := range b {
		out[strings.NewReplacer("body.0.rdb", "RRDB_trunk.0.RDB", "conv_body", "trunk_conv", "conv_up", "upconv", "conv_hr", "HRconv").Replace(name)] = v
	}
	return out
}

func TestUpscalers(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	runtime := testRuntime(t, nil)
	x := each(noise(r, 0.5, 1, 3, 5, 7), func(v float64) float64 { return v + 0.5 })
	for _, test := range []struct {
		name                string
		in, ups, scale, cut int
		file                func(bag) bag
		plus                bool
	}{
		{name: "x1", in: 3, scale: 1},
		{name: "x2", in: 3, ups: 1, scale: 2},
		{name: "x8", in: 3, ups: 3, scale: 8},
		{name: "BSRGAN", in: 3, ups: 2, scale: 4, file: middleNames},
		{name: "first layout x1", in: 3, scale: 1, file: func(b bag) bag { return oldNames(b, 0) }},
		{name: "first layout x8", in: 3, ups: 3, scale: 8, file: func(b bag) bag { return oldNames(b, 3) }},
		{name: "ESRGAN+", in: 3, ups: 2, scale: 4, plus: true, file: func(b bag) bag { return oldNames(b, 2) }},
		{name: "unshuffled x2", in: 12, ups: 2, scale: 2, cut: 2},
		{name: "unshuffled x1", in: 48, ups: 2, scale: 1, cut: 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			net := denseNet(r, test.in, test.ups, test.plus)
			in := x
			if test.cut > 1 {
				in = unshuffled(mirrored(x, 4), test.cut)
			}
			want := naive{t, net}.dense(in)
			want = rect{height: 5 * test.scale, width: 7 * test.scale}.crop(want)
			if test.file != nil {
				net = test.file(net)
			}
			testUpscaler(t, runtime, net, upscaled{x, want, test.scale})
		})
	}
}

// upscaled is a picture with what a network makes of it, before clamping.
type upscaled struct {
	x, want *tensor.Tensor
	scale   int
}

func testUpscaler(t *testing.T, r *Runtime, net bag, want upscaled) {
	t.Helper()
	u, err := r.LoadUpscaler(t.Context(), net.write(t, "upscaler.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if u.Scale() != want.scale {
		t.Errorf("scale %d, want %d", u.Scale(), want.scale)
	}
	im, _ := want.x.ChannelsLast()
	tiles := 0
	got, err := u.Upscale(t.Context(), Image{im}, Tiles{512, 32}, func(done, total int) { tiles += total })
	if err != nil {
		t.Fatal(err)
	}
	clamped, _ := each(want.want, func(v float64) float64 { return min(max(v, 0), 1) }).ChannelsLast()
	compare(t, "picture", got.Tensor, clamped, 2e-5)
	if tiles != 1 {
		t.Errorf("progress of %d tiles, want 1", tiles)
	}
	gray := tensor.New(1, 8, 8, 1)
	if _, err := u.Upscale(t.Context(), Image{gray}, Tiles{512, 32}, nil); err == nil || !strings.Contains(err.Error(), "it has 1 channels") {
		t.Errorf("a grey picture: %v", err)
	}
}

func TestCompactUpscaler(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	net := bag{}
	net.conv(r, "body.0", 8, 3, 3)
	net["body.1.weight"] = noise(r, 0.3, 8)
	net.conv(r, "body.2", 8, 8, 3)
	net["body.3.weight"] = noise(r, 0.3, 8)
	net.conv(r, "body.4", 12, 8, 3)
	x := each(noise(r, 0.5, 1, 3, 6, 4), func(v float64) float64 { return v + 0.5 })
	n := naive{t, net}
	h := n.conv("body.0", x, 1)
	for _, i := range []int{1, 3} {
		plane := h.Dim(2) * h.Dim(3)
		for k, v := range h.Data {
			if v < 0 {
				h.Data[k] = v * net[fmt.Sprintf("body.%d.weight", i)].Data[k/plane]
			}
		}
		h = n.conv(fmt.Sprintf("body.%d", i+1), h, 1)
	}
	// Pixels of a block lie in channels one behind the other.
	want := repeated(x, 2)
	for i := range want.Data {
		c, y, col := i/(12*8), i/8%12, i%8
		want.Data[i] += h.Data[((c*4+y%2*2+col%2)*6+y/2)*4+col/2]
	}
	testUpscaler(t, testRuntime(t, nil), net, upscaled{x, want, 2})
}

func TestBlocksAsChannels(t *testing.T) {
	x := tensor.Of([]float32{1, 2, 3, 4, 5, 6, 7, 8, 9}, 1, 1, 3, 3)
	want := []float32{1, 2, 3, 2, 4, 5, 6, 5, 7, 8, 9, 8, 4, 5, 6, 5}
	m := mirrored(x, 4)
	if !slices.Equal(m.Data, want) {
		t.Errorf("mirrored %v, want %v", m.Data, want)
	}
	// As torch.nn.functional.pixel_unshuffle orders them.
	want = []float32{1, 3, 7, 9, 2, 2, 8, 8, 4, 6, 4, 6, 5, 5, 5, 5}
	if u := unshuffled(m, 2); !slices.Equal(u.Data, want) || !u.Shape.Equal(tensor.Shape{1, 4, 2, 2}) {
		t.Errorf("unshuffled %v %v, want %v", u.Shape, u.Data, want)
	}
}

func TestPickledUpscalerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "4x.pth")
	if err := os.WriteFile(path, []byte("PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00"), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := testRuntime(t, nil).LoadUpscaler(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), "can run code") || !strings.Contains(err.Error(), ".safetensors") {
		t.Errorf("got %v, want a refusal that names the way out", err)
	}
}
