package diffusion

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// extract writes the tensors of a file that rename keeps under a new name.
func extract(t *testing.T, from, to string, rename func(string) string) {
	t.Helper()
	src, err := weights.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	header, body := map[string]any{}, []byte{}
	for _, name := range src.Names() {
		if renamed := rename(name); renamed != "" {
			info, _ := src.Tensor(name)
			at := len(body)
			body = append(body, data[info.Offset:info.Offset+info.Length]...)
			shape := append([]int{}, info.Shape...)
			header[renamed] = map[string]any{"dtype": info.DType, "shape": shape, "data_offsets": []int{at, len(body)}}
		}
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, strings.Repeat(" ", -len(text)&7)...)
	out := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	if err := os.WriteFile(to, append(out, body...), 0o666); err != nil {
		t.Fatal(err)
	}
}

func cut(prefix string) func(string) string {
	return func(name string) string {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			return ""
		}
		return rest
	}
}

// TestPartsFromFilesOfTheirOwn takes a checkpoint apart and expects the numbers
// of the whole.
func TestPartsFromFilesOfTheirOwn(t *testing.T) {
	const name = "sdxl-tiny-fp16"
	r, g, dir := testRuntime(t, &weights.Cache{Dir: t.TempDir()}), readGolden(t, name), t.TempDir()
	whole := weightstest.Write(t, dir, name)
	unet, vae, clip := filepath.Join(dir, "unet.safetensors"), filepath.Join(dir, "vae.safetensors"), filepath.Join(dir, "clip.safetensors")
	extract(t, whole, unet, cut("model.diffusion_model."))
	extract(t, whole, vae, cut("first_stage_model."))
	extract(t, whole, clip, cut("conditioner.embedders.0.transformer."))
	g.VAE, g.UNet = g.VAE[:1], g.UNet[:1]
	for _, path := range []string{whole, unet} {
		m, err := r.LoadUNet(t.Context(), path, "")
		if err != nil {
			t.Fatal(err)
		}
		testUNet(t, g, m, 1e-4)
	}
	v, err := r.LoadVAE(t.Context(), vae)
	if err != nil {
		t.Fatal(err)
	}
	testVAE(t, g, v, 1e-4)
	testTwoEncoders(t, r, g, clip)
}

// testTwoEncoders joins CLIP-L of the golden checkpoint with another bigG and
// expects its half of the golden states.
func testTwoEncoders(t *testing.T, r *Runtime, g *golden, clip string) {
	big := filepath.Join(t.TempDir(), "big.safetensors")
	weightstest.WriteShapes(t, big, weightstest.OpenCLIP{Width: 64, Layers: 32}.Shapes(), tensor.F16)
	want := g.tensor(t, "clip", "p1.default.cond")
	var digests []string
	for _, paths := range [][]string{{clip, big}, {big, clip}} {
		c, err := r.LoadCLIP(t.Context(), paths...)
		if err != nil {
			t.Fatal(err)
		}
		cond, err := c.Encode(t.Context(), "a photo of a cat")
		if err != nil {
			t.Fatal(err)
		}
		if s := cond[0].Text.Shape; !s.Equal(tensor.Shape{1, 77, 128}) || !cond[0].Pooled.Shape.Equal(tensor.Shape{1, 64}) {
			t.Errorf("text %v, pooled %v", s, cond[0].Pooled.Shape)
		}
		compare(t, "CLIP-L's half", columns(cond[0].Text, 64), columns(want, 64), 1e-4)
		digests = append(digests, c.Digest())
	}
	if digests[0] != digests[1] {
		t.Error("the order of the files changes the encoder")
	}
}

// columns returns the first n numbers of each token.
func columns(x *tensor.Tensor, n int) *tensor.Tensor {
	out := tensor.New(x.Dim(1), n)
	for i := range x.Dim(1) {
		copy(out.Data[i*n:], x.Data[i*x.Dim(2):][:n])
	}
	return out
}

// small is a UNet of the XL kind that is quick to write.
var small = weightstest.UNet{Channels: 32, In: 4, Multiples: []int{1, 2}, Depths: []int{0, 1}, Middle: 1, Blocks: 1, Context: 192, Vector: 1664}

// TestMarkers finds out how XL networks were trained.
func TestMarkers(t *testing.T) {
	r, dir := testRuntime(t, nil), t.TempDir()
	for name, c := range map[string]struct {
		markers []string
		want    *sampling.Model
		format  latentFormat
	}{
		"plain":      {nil, sampling.NewDiscrete(sampling.EPS, false), latentFormat{scale: 0.13025}},
		"velocity":   {[]string{"v_pred"}, sampling.NewDiscrete(sampling.VPrediction, false), latentFormat{scale: 0.13025}},
		"terminal":   {[]string{"v_pred", "ztsnr"}, sampling.NewDiscrete(sampling.VPrediction, true), latentFormat{scale: 0.13025}},
		"ztsnr only": {[]string{"ztsnr"}, sampling.NewDiscrete(sampling.EPS, false), latentFormat{scale: 0.13025}},
		"playground": {[]string{"edm_mean", "edm_std"}, sampling.NewContinuousEDM(sampling.EDM, 0.002, 80, 0.5), playground25()},
		// WriteShapes writes the same number each time.
		"cosxl": {[]string{"edm_vpred.sigma_max"}, sampling.NewContinuousEDM(sampling.VPrediction, 0.002, marker(t, "edm_vpred.sigma_max"), 1), latentFormat{scale: 0.13025}},
	} {
		shapes := small.Shapes()
		for _, m := range c.markers {
			shapes[m] = tensor.Shape{}
		}
		path := filepath.Join(dir, name+".safetensors")
		weightstest.WriteShapes(t, path, shapes, tensor.F32)
		m, err := r.LoadUNet(t.Context(), path, "")
		if err == nil {
			t.Logf("%s: %s", name, m.schedule)
		}
		switch {
		case err != nil:
			t.Error(err)
		case m.schedule.String() != c.want.String() || m.format.scale != c.format.scale || !slices.Equal(m.format.mean, c.format.mean):
			t.Errorf("%s: %s, want %s; format %v", name, m.schedule, c.want, m.format)
		}
	}
}

// marker returns the number that WriteShapes gives a scalar.
func marker(t *testing.T, name string) float64 {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.safetensors")
	weightstest.WriteShapes(t, path, map[string]tensor.Shape{name: {}}, tensor.F32)
	f, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	v, err := f.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	return float64(v.Data[0])
}

// TestSpread tells the networks of Stable Diffusion 2 apart.
func TestSpread(t *testing.T) {
	r, dir := testRuntime(t, nil), t.TempDir()
	narrow := weightstest.UNet{Channels: 64, In: 4, Multiples: []int{1, 1, 1, 1}, Depths: []int{1, 1, 1, 0}, Middle: 1, Blocks: 2, Context: 64}
	inpaint := narrow
	inpaint.In = 9
	plain, nine := filepath.Join(dir, "plain.safetensors"), filepath.Join(dir, "nine.safetensors")
	weightstest.WriteShapes(t, plain, narrow.Shapes(), tensor.F16)
	weightstest.WriteShapes(t, nine, inpaint.Shapes(), tensor.F16)
	for path, want := range map[string]sampling.Prediction{
		plain: sampling.EPS, nine: sampling.EPS, weightstest.Write(t, dir, "sd21-tiny-fp16"): sampling.VPrediction,
	} {
		m, err := r.LoadUNet(t.Context(), path, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := m.schedule.Prediction(); got != want {
			t.Errorf("%s predicts %v, want %v", filepath.Base(path), got, want)
		}
	}
}

// TestVector checks the embedding of a number against values computed in
// float64, which float32 angles of this size miss by up to 3e-5, and what stands
// where.
func TestVector(t *testing.T) {
	e := make([]float32, 256)
	embedNumber(e, 1024)
	for i, want := range map[int]float32{
		0: 0.987354, 1: -0.537610, 2: 0.683435, 128: -0.158533, 129: -0.843193, 130: 0.730012,
	} {
		if math.Abs(float64(e[i]-want)) > 4e-5 {
			t.Errorf("element %d is %g, want %g", i, e[i], want)
		}
	}
	shape := tensor.Shape{1, 4, 12, 16}
	score := 7.0
	for name, c := range map[string]struct {
		hints    Hints
		negative bool
		want     map[string]float32
	}{
		"of the latent": {Hints{}, false, map[string]float32{"height": 96, "width": 128, "target_height": 96, "target_width": 128, "aesthetic_score": 6}},
		"negative":      {Hints{}, true, map[string]float32{"height": 96, "aesthetic_score": 2.5}},
		"original": {Hints{Original: &Size{Width: 640, Height: 480}}, false, map[string]float32{
			"height": 480, "width": 640, "target_height": 480, "target_width": 640}},
		"all": {Hints{Original: &Size{Width: 640, Height: 480}, Target: &Size{Width: 8, Height: 9}, CropLeft: 3, CropTop: 4, Aesthetic: &score}, true,
			map[string]float32{"target_width": 8, "target_height": 9, "crop_left": 3, "crop_top": 4, "aesthetic_score": 7}},
	} {
		got := map[string]float32{}
		for number, v := range c.hints.values(side{shape, c.negative}) {
			got[string(number)] = v
		}
		for _, key := range slices.Sorted(maps.Keys(c.want)) {
			if got[key] != c.want[key] {
				t.Errorf("%s: %s is %g, want %g", name, key, got[key], c.want[key])
			}
		}
	}
}

// TestForeignConditioning refuses the text of another family.
func TestForeignConditioning(t *testing.T) {
	r, dir := testRuntime(t, nil), t.TempDir()
	xl, _, _, err := r.LoadCheckpoint(t.Context(), weightstest.Write(t, dir, "sdxl-tiny-fp16"))
	if err != nil {
		t.Fatal(err)
	}
	_, clip, _, err := r.LoadCheckpoint(t.Context(), weightstest.Write(t, dir, "sd15-tiny-fp16"))
	if err != nil {
		t.Fatal(err)
	}
	s := side{shape: tensor.Shape{1, 4, 8, 8}}
	for want, cond := range map[string]Cond{
		"text states are 64 wide, the model wants 192":        NewCond(tensor.New(1, 77, 64), tensor.New(1, 64)),
		"pooled text vector is 0 wide, the model wants 128":   NewCond(tensor.New(1, 77, 192), nil),
		"pooled text vector is 768 wide, the model wants 128": NewCond(tensor.New(1, 77, 192), tensor.New(1, 768)),
	} {
		if _, err := xl.inputs(cond, s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	_, err = clip.EncodeEach(t.Context(), map[string]string{"clip_l": "a", "clip_g": "b"})
	if err == nil || !strings.Contains(err.Error(), "clip_g and clip_l: the text encoder has clip_l") {
		t.Errorf("got %v", err)
	}
}

// TestHintsDigest tells conditionings apart by their hints, not by pointers.
func TestHintsDigest(t *testing.T) {
	of := func(h Hints) string {
		c := NewCond(tensor.New(1, 1, 1), nil)
		c.Hints = h
		return Conditioning{c}.Digest()
	}
	six, seven := 6.0, 7.0
	seen := map[string]int{}
	all := []Hints{
		{}, {CropLeft: 1}, {CropTop: 1}, {Original: &Size{1, 2}}, {Target: &Size{1, 2}}, {Original: &Size{1, 3}}, {Aesthetic: &six}, {Aesthetic: &seven},
	}
	for i, h := range all {
		if j, same := seen[of(h)]; same {
			t.Errorf("%v and %v have the same digest", all[j], h)
		}
		seen[of(h)] = i
	}
	if again := 6.0; of(Hints{Aesthetic: &again}) != of(Hints{Aesthetic: &six}) {
		t.Error("equal hints have different digests")
	}
}

// TestPrecision checks rounding to 8-bit floats: every value of the format
// stays, and halves go to even.
func TestPrecision(t *testing.T) {
	for p, d := range map[Precision]tensor.DType{E4M3: tensor.F8E4M3, E5M2: tensor.F8E5M2} {
		values := make([]float32, 256)
		bytes := make([]byte, 256)
		for i := range bytes {
			bytes[i] = byte(i)
		}
		if err := tensor.Decode(values, bytes, d); err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			got := p.round(v)
			if got != v && !(math.IsNaN(float64(got)) && (math.IsNaN(float64(v)) || math.IsInf(float64(v), 0))) {
				t.Errorf("%s: %#x is %g and becomes %g", p, i, v, got)
			}
		}
	}
	for v, want := range map[float32]float32{1.0625: 1, 1.1875: 1.25, 448: 448, 463: 448, 0.001: 0.001953125, 0.0009: 0, -17: -16} {
		if got := E4M3.round(v); got != want {
			t.Errorf("%g becomes %g, want %g", v, got, want)
		}
	}
	if got := E4M3.round(480); !math.IsNaN(float64(got)) {
		t.Errorf("480 becomes %g", got)
	}
}

// TestEncodeEach gives both towers texts of different length: the shorter one
// goes on with the states of an empty prompt.
func TestEncodeEach(t *testing.T) {
	r := testRuntime(t, nil)
	_, clip, _, err := r.LoadCheckpoint(t.Context(), weightstest.Write(t, t.TempDir(), "sdxl-tiny-fp16"))
	if err != nil {
		t.Fatal(err)
	}
	encode := func(l, g string) Cond {
		c, err := clip.EncodeEach(t.Context(), map[string]string{"clip_l": l, "clip_g": g})
		if err != nil {
			t.Fatal(err)
		}
		return c[0]
	}
	long := strings.Repeat("word ", 90)
	both, empty := encode("a cat", long), encode("", "")
	if want := (tensor.Shape{1, 154, 192}); !both.Text.Shape.Equal(want) {
		t.Fatalf("text %v, want %v", both.Text.Shape, want)
	}
	second := tensor.Of(both.Text.Data[77*192:], 1, 77, 192)
	compare(t, "CLIP-L's second chunk", columns(second, 64), columns(empty.Text, 64), 1e-5)
	compare(t, "pooled text of the larger encoder", both.Pooled, encode("other", long).Pooled, 1e-5)
	same, err := clip.Encode(t.Context(), long)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "one text for both", encode(long, long).Text, same[0].Text, 1e-6)
}
