package diffusion

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// adapterShape says which T2I-Adapter to make.
type adapterShape struct {
	name           string
	channels, cut  int
	xl, down, wide bool // halving by convolutions; kernels of 3 instead of 1
	light          bool
}

// adapterWidths are those of the synthetic models' levels.
var adapterWidths = map[bool][]int{false: {32, 64, 128, 128}, true: {64, 128, 256, 256}}

func (a adapterShape) file(r *rand.Rand) bag {
	b, widths := bag{}, adapterWidths[a.xl]
	in, kernel := a.channels*a.cut*a.cut, 1
	if a.wide {
		kernel = 3
	}
	if a.light {
		for i, w := range widths {
			p := fmt.Sprintf("body.%d.", i)
			b.conv(r, p+"in_conv", w/4, in, 1)
			for j := range 2 {
				b.conv(r, fmt.Sprintf("%sbody.%d.block1", p, j), w/4, w/4, 3)
				b.conv(r, fmt.Sprintf("%sbody.%d.block2", p, j), w/4, w/4, 3)
			}
			b.conv(r, p+"out_conv", w, w/4, 1)
			in = w
		}
		return b
	}
	b.conv(r, "conv_in", widths[0], in, 3)
	in = widths[0]
	for i, w := range widths {
		for j := range 2 {
			p := fmt.Sprintf("body.%d.", 2*i+j)
			if a.down && i > 0 && j == 0 {
				b.conv(r, p+"down_opt.op", in, in, 3)
			}
			if in != w {
				b.conv(r, p+"in_conv", w, in, kernel)
				in = w
			}
			b.conv(r, p+"block1", w, w, 3)
			b.conv(r, p+"block2", w, w, kernel)
		}
	}
	return b
}

// pooled halves a picture by means of 2x2 pixels.
func pooled(x *tensor.Tensor) *tensor.Tensor {
	h, w := x.Dim(2)/2, x.Dim(3)/2
	out := tensor.New(1, x.Dim(1), h, w)
	for i := range out.Data {
		at := (i/(h*w)*x.Dim(2)+i/w%h*2)*x.Dim(3) + i%w*2
		out.Data[i] = (x.Data[at] + x.Data[at+1] + x.Data[at+x.Dim(3)] + x.Data[at+x.Dim(3)+1]) / 4
	}
	return out
}

// adapter evaluates file as
// https://github.com/TencentARC/T2I-Adapter/blob/main/ldm/modules/encoders/adapter.py
// and, for XL, Adapter/models/adapters.py do.
func (n naive) adapter(a adapterShape, x *tensor.Tensor) residuals {
	places := []string{"input.2", "input.5", "input.8", "input.11"}
	if a.xl {
		places = []string{"input.3", "input.5", "input.8", "middle"}
	}
	perLevel := 2
	if a.light {
		perLevel = 1
	} else {
		x = n.conv("conv_in", x, 1)
	}
	out := residuals{}
	for i, place := range places {
		if a.xl && i == 2 || !a.xl && i > 0 {
			if a.down {
				x = n.conv(fmt.Sprintf("body.%d.down_opt.op", perLevel*i), x, 2)
			} else {
				x = pooled(x)
			}
		}
		for j := range perLevel {
			x = n.adapterBlock(fmt.Sprintf("body.%d.", perLevel*i+j), x)
		}
		out[place] = x
	}
	return out
}

func (n naive) adapterBlock(p string, x *tensor.Tensor) *tensor.Tensor {
	if n.bag[p+"in_conv.weight"] != nil {
		x = n.conv(p+"in_conv", x, 1)
	}
	if n.bag[p+"out_conv.weight"] != nil {
		for j := range 2 {
			x = n.adapterBlock(fmt.Sprintf("%sbody.%d.", p, j), x)
		}
		return n.conv(p+"out_conv", x, 1)
	}
	return plus(n.conv(p+"block2", each(n.conv(p+"block1", x, 1), relu), 1), x)
}

// inDiffusersAdapter gives an adapter the names of the diffusers layout.
func inDiffusersAdapter(b bag) bag {
	out := bag{}
	for name, v := range b {
		var i int
		var rest string
		if n, _ := fmt.Sscanf(name, "body.%d.%s", &i, &rest); n == 2 {
			name = fmt.Sprintf("body.%d.resnets.%d.%s", i/2, i%2, rest)
			if strings.HasPrefix(rest, "in_conv.") {
				name = fmt.Sprintf("body.%d.%s", i/2, rest)
			}
		}
		out["adapter."+name] = v
	}
	return out
}

func TestAdapters(t *testing.T) {
	r := testRuntime(t, nil)
	s := tinyModel(t, r, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	s.x = noise(rand.New(rand.NewPCG(1, 1)), 1, 1, 4, 8, 16)
	for _, a := range []adapterShape{
		{name: "SD1", channels: 3, cut: 8},
		{name: "SD1 sketch", channels: 1, cut: 8, wide: true},
		{name: "SD1 with convolutions", channels: 3, cut: 8, down: true},
		{name: "SD1 light", channels: 3, cut: 8, light: true},
		{name: "XL", channels: 3, cut: 16, xl: true},
	} {
		t.Run(a.name, func(t *testing.T) {
			file := a.file(rand.New(rand.NewPCG(13, 14)))
			c := s.load(t, file)
			x := s.fitted(t, c)
			if x.Dim(1) != a.channels || x.Dim(2) != 64 || x.Dim(3) != 128 {
				t.Fatalf("picture of %v", x.Shape)
			}
			want := naive{t, file}.adapter(a, unshuffled(x, a.cut))
			compareResiduals(t, s.residuals(t, c), want, 1e-5)
			if !a.light && !a.down {
				compareResiduals(t, s.residuals(t, s.load(t, inDiffusersAdapter(file))), want, 1e-5)
			}
		})
	}
}

// TestAdapterSteers evaluates a model with an adapter: where the latent halves
// to odd sizes, some features have no place.
func TestAdapterSteers(t *testing.T) {
	r := testRuntime(t, nil)
	s := tinyModel(t, r, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	c := s.load(t, adapterShape{channels: 3, cut: 8}.file(rand.New(rand.NewPCG(13, 14))))
	for shape, want := range map[[2]int][]string{
		{8, 16}: {"input.11", "input.2", "input.5", "input.8"},
		{9, 16}: {"input.2"},
		{10, 8}: {"input.2", "input.5"},
	} {
		s.x = noise(rand.New(rand.NewPCG(1, 1)), 1, 1, 4, shape[0], shape[1])
		found := s.residuals(t, c)
		if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
			t.Errorf("latent of %v: residuals %v, want %v", shape, got, want)
		}
		plain, err := s.predict(t.Context(), s.x, s.evaluation.inputs, s.sigma)
		if err != nil {
			t.Fatal(err)
		}
		in := maps.Clone(s.evaluation.inputs)
		for name, v := range found {
			in[name] = v
		}
		den, err := s.predict(t.Context(), s.x, in, s.sigma)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(den.Data, plain.Data) {
			t.Error("the adapter changes nothing")
		}
	}
}

func TestShareControls(t *testing.T) {
	a, b, c := &Control{}, &Control{Strength: 1}, &Control{Strength: 2}
	both := func(c *Control) region { return region{control: c, controlBoth: true} }
	for _, test := range []struct {
		name           string
		from, to, want []region
	}{
		{"one for all", []region{both(a)}, []region{{}}, []region{both(a)}},
		{"in turn, the last one wins", []region{both(a), both(b), both(c)}, []region{{}, {}}, []region{{control: c}, {control: b}}},
		{"more entries than controls", []region{both(a)}, []region{{}, {}}, []region{{control: a}, {}}},
		{"not meant for both", []region{{control: a}}, []region{{}}, []region{{}}},
		{"has its own", []region{both(a)}, []region{{}, {control: b}}, []region{{}, {control: b}}},
		{"areas keep out", []region{both(a)}, []region{{hasArea: true}, {}}, []region{{hasArea: true}, {control: a}}},
		{"areas do not give", []region{{control: a, controlBoth: true, hasArea: true}}, []region{{}}, []region{{}}},
		{"nobody to take it", []region{both(a)}, nil, nil},
	} {
		shareControls(test.from, test.to)
		for i, w := range test.want {
			if test.to[i].control != w.control {
				t.Errorf("%s: entry %d has %v, want %v", test.name, i, test.to[i].control, w.control)
			}
		}
	}
}

func TestControlApplies(t *testing.T) {
	r := testRuntime(t, nil)
	s := tinyModel(t, r, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	level := func(p float64) float32 { return float32(s.schedule.PercentToSigma(p)) }
	c := &Control{Start: 0.2, End: 0.7}
	for sigma, want := range map[float32]bool{
		1000: false, level(0.1): false, level(0.2): true, level(0.5): true, level(0.7): true, level(0.8): false, 0: false,
	} {
		if c.applies(s.schedule, sigma) != want {
			t.Errorf("at level %v of %v to %v: applies %v", sigma, level(0.2), level(0.7), !want)
		}
	}
	if all := (&Control{End: 1}); !all.applies(s.schedule, 1e9) || !all.applies(s.schedule, 0) {
		t.Error("from 0 to 1 is not always")
	}
}

func TestMeansOfResiduals(t *testing.T) {
	got := flattened(tensor.Of([]float32{1, 2, 3, 6, 0, 0, 0, 4}, 1, 2, 2, 2))
	if want := []float32{3, 3, 3, 3, 1, 1, 1, 1}; !slices.Equal(got.Data, want) {
		t.Errorf("means %v, want %v", got.Data, want)
	}
	for name, want := range map[string]bool{
		"m/control_v11e_sd15_shuffle.safetensors": true, "control_v11e_sd15_shuffle_fp16.safetensors": true,
		"shuffle/control_v11p_sd15_canny.safetensors": false,
	} {
		if takesMeans(name) != want {
			t.Errorf("%s: takes means %v", name, !want)
		}
	}
}
