package diffusion

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// bagOf reads the tensors of a file whose names begin with prefix.
func bagOf(t *testing.T, path, prefix string) bag {
	t.Helper()
	f, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b := bag{}
	for _, name := range f.Names() {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			if b[rest], err = f.Read(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return b
}

// tinyControl is the synthetic ControlNet of Stable Diffusion 1.
func tinyControl(t *testing.T) bag {
	return bagOf(t, weightstest.Write(t, t.TempDir(), "controlnet-sd15-tiny-fp16"), "control_model.")
}

// controlOf makes a ControlNet of a UNet: its first half, and random weights
// for the rest.
func controlOf(r *rand.Rand, unet bag) bag {
	b := bag{}
	var widths []int
	for name, v := range unet {
		first, _, _ := strings.Cut(name, ".")
		if slices.Contains([]string{"time_embed", "label_emb", "input_blocks", "middle_block"}, first) {
			b[name] = v
		}
	}
	for i := 0; ; i++ {
		for _, last := range []string{"0.weight", "0.op.weight", "0.out_layers.3.weight"} {
			if w := unet[fmt.Sprintf("input_blocks.%d.%s", i, last)]; w != nil {
				widths = append(widths, w.Dim(0))
			}
		}
		if len(widths) == i {
			break
		}
	}
	for i, width := range widths {
		b.conv(r, fmt.Sprintf("zero_convs.%d.0", i), width, width, 1)
	}
	last := widths[len(widths)-1]
	b.conv(r, "middle_block_out.0", last, last, 1)
	hint := []int{3, 16, 16, 32, 32, 96, 96, 256, widths[0]}
	for i := range 8 {
		b.conv(r, fmt.Sprintf("input_hint_block.%d", 2*i), hint[i+1], hint[i], 3)
	}
	return b
}

// inDiffusers gives a ControlNet with two blocks for each level the names of
// the diffusers layout, as
// https://huggingface.co/lllyasviel/sd-controlnet-canny has them.
func inDiffusers(b bag) bag {
	block := strings.NewReplacer("in_layers.0.", "norm1.", "in_layers.2.", "conv1.", "emb_layers.1.", "time_emb_proj.",
		"out_layers.0.", "norm2.", "out_layers.3.", "conv2.", "skip_connection.", "conv_shortcut.")
	outer := strings.NewReplacer("time_embed.0.", "time_embedding.linear_1.", "time_embed.2.", "time_embedding.linear_2.",
		"label_emb.0.0.", "add_embedding.linear_1.", "label_emb.0.2.", "add_embedding.linear_2.",
		"input_blocks.0.0.", "conv_in.", "middle_block_out.0.", "controlnet_mid_block.",
		"middle_block.0.", "mid_block.resnets.0.", "middle_block.1.", "mid_block.attentions.0.", "middle_block.2.", "mid_block.resnets.1.",
		"input_hint_block.0.", "controlnet_cond_embedding.conv_in.", "input_hint_block.14.", "controlnet_cond_embedding.conv_out.")
	out := bag{}
	for name, v := range b {
		var i, place int
		var rest string
		if n, _ := fmt.Sscanf(name, "input_blocks.%d.%d.%s", &i, &place, &rest); n == 3 && i > 0 {
			level, k := (i-1)/3, (i-1)%3
			switch {
			case k == 2:
				name = fmt.Sprintf("down_blocks.%d.downsamplers.0.conv.%s", level, strings.TrimPrefix(rest, "op."))
			case place == 0:
				name = fmt.Sprintf("down_blocks.%d.resnets.%d.%s", level, k, block.Replace(rest))
			default:
				name = fmt.Sprintf("down_blocks.%d.attentions.%d.%s", level, k, rest)
			}
		} else if n, _ := fmt.Sscanf(name, "zero_convs.%d.0.%s", &i, &rest); n == 2 {
			name = fmt.Sprintf("controlnet_down_blocks.%d.%s", i, rest)
		} else if n, _ := fmt.Sscanf(name, "input_hint_block.%d.%s", &i, &rest); n == 2 && i > 0 && i < 14 {
			name = fmt.Sprintf("controlnet_cond_embedding.blocks.%d.%s", i/2-1, rest)
		} else {
			name = block.Replace(outer.Replace(name))
		}
		out[name] = v
	}
	return out
}

// steered is a model with something to evaluate it for.
type steered struct {
	*Model
	evaluation
	hint Image
}

func tinyModel(t *testing.T, r *Runtime, path string) steered {
	t.Helper()
	m, _, _, err := r.LoadCheckpoint(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(7, 8))
	inputs := map[string]*tensor.Tensor{"context": noise(rnd, 1, 1, 77, m.textWidth)}
	if m.vectorWidth > 0 {
		inputs["y"] = noise(rnd, 1, 1, m.vectorWidth)
	}
	hint := each(noise(rnd, 0.5, 1, 64, 72, 3), func(v float64) float64 { return v + 0.5 })
	return steered{m, evaluation{x: noise(rnd, 2, 1, 4, 8, 9), inputs: inputs, sigma: 1, images: 1}, Image{hint}}
}

// residuals are those of a ControlNet file.
func (s steered) residuals(t *testing.T, c *ControlNet) residuals {
	t.Helper()
	g := &guidance{model: s.Model}
	out, err := g.residuals(t.Context(), &Control{Net: c, Hint: s.hint, Strength: 1, End: 1}, s.evaluation)
	if err != nil {
		t.Fatal(err)
	}
	defer out.close()
	all := maps.Clone(out.tensors)
	for name, k := range out.kept {
		if all[name], err = k.copied(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func (s steered) load(t *testing.T, b bag) *ControlNet {
	t.Helper()
	c, err := s.runtime.LoadControlNet(t.Context(), b.write(t, "control.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func compareResiduals(t *testing.T, got, want residuals, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d residuals, want %d", len(got), len(want))
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] == nil {
			t.Fatalf("no residual %s", name)
		}
		compare(t, name, got[name], want[name], tolerance)
	}
}

func TestControlNetLayouts(t *testing.T) {
	r := testRuntime(t, nil)
	for _, name := range []string{"sd15-tiny-fp16", "sdxl-tiny-fp16"} {
		t.Run(name, func(t *testing.T) {
			path := weightstest.Write(t, t.TempDir(), name)
			s := tinyModel(t, r, path)
			net := controlOf(rand.New(rand.NewPCG(9, 10)), bagOf(t, path, "model.diffusion_model."))
			want := s.residuals(t, s.load(t, net))
			compareResiduals(t, s.residuals(t, s.load(t, inDiffusers(net))), want, 0)
			plain, err := s.predict(t.Context(), s.x, s.evaluation.inputs, s.sigma)
			if err != nil {
				t.Fatal(err)
			}
			in := maps.Clone(s.evaluation.inputs)
			for name, v := range want {
				in[name] = v
			}
			den, err := s.predict(t.Context(), s.x, in, s.sigma)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Equal(den.Data, plain.Data) {
				t.Error("the residuals change nothing")
			}
			for name, v := range want {
				in[name] = tensor.New(v.Shape...)
			}
			if den, err = s.predict(t.Context(), s.x, in, s.sigma); err != nil {
				t.Fatal(err)
			}
			compare(t, "with residuals of 0", den, plain, 1e-6)
		})
	}
}

// TestSteeredWithLoRA: a LoRA changes the network that takes residuals as it
// changes the one that takes none.
func TestSteeredWithLoRA(t *testing.T) {
	r := testRuntime(t, nil)
	s := tinyModel(t, r, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	lora, err := r.LoadLoRA(t.Context(), weightstest.Write(t, t.TempDir(), "lora-kohya-sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := s.predict(t.Context(), s.x, s.evaluation.inputs, s.sigma)
	if err != nil {
		t.Fatal(err)
	}
	if s.Model, err = s.WithLoRA(lora, 0.8); err != nil {
		t.Fatal(err)
	}
	want, err := s.predict(t.Context(), s.x, s.evaluation.inputs, s.sigma)
	if err != nil {
		t.Fatal(err)
	}
	in := maps.Clone(s.evaluation.inputs)
	in["middle"] = tensor.New(1, 1, 1, 1)
	got, err := s.predict(t.Context(), s.x, in, s.sigma)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "steered", got, want, 1e-6)
	if slices.Equal(plain.Data, want.Data) {
		t.Error("the LoRA changes nothing")
	}
}

// TestSteeredSharesWeights: the network that takes residuals wants the weights
// of the plain one, from the same places in the same order, so that both map
// the same file.
func TestSteeredSharesWeights(t *testing.T) {
	s := tinyModel(t, testRuntime(t, nil), weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	c, err := s.network(feed{tensors: map[string]*tensor.Tensor{"middle": tensor.New(1, 1, 1, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	names := func(c *component) (out []string) {
		for _, p := range c.parts() {
			out = append(out, p.Name)
		}
		return out
	}
	if got, want := names(c), names(s.unet); !slices.Equal(got, want) || c.name != s.unet.name || c.key() == s.unet.key() {
		t.Errorf("%s wants %d weights as %q, %s %d as %q", c.key(), len(got), c.name, s.unet.key(), len(want), s.unet.name)
	}
}

func TestControlNetOfAnotherFamily(t *testing.T) {
	r := testRuntime(t, nil)
	path := weightstest.Write(t, t.TempDir(), "sdxl-tiny-fp16")
	net := controlOf(rand.New(rand.NewPCG(9, 10)), bagOf(t, path, "model.diffusion_model."))
	s := tinyModel(t, r, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	g := &guidance{model: s.Model}
	_, err := g.residuals(t.Context(), &Control{Net: s.load(t, net), Hint: s.hint, Strength: 1, End: 1}, s.evaluation)
	if err == nil || !strings.Contains(err.Error(), "another family") {
		t.Errorf("got %v, want an error about the family", err)
	}
	if _, err := r.LoadControlNet(t.Context(), path); err == nil || !strings.Contains(err.Error(), "not a ControlNet") {
		t.Errorf("a checkpoint passed for a ControlNet: %v", err)
	}
}

func TestControlDifference(t *testing.T) {
	r := testRuntime(t, nil)
	path := weightstest.Write(t, t.TempDir(), "sd15-tiny-fp32")
	s := tinyModel(t, r, path)
	unet, net := bagOf(t, path, "model.diffusion_model."), tinyControl(t)
	want := s.residuals(t, s.load(t, net))
	diff := bag{"difference": tensor.New(1)}
	for name, v := range net {
		d := v.Clone()
		if base := unet[name]; base != nil {
			for i, b := range base.Data {
				d.Data[i] -= b
			}
		}
		diff["control_model."+name] = d
	}
	file := diff.write(t, "difference.safetensors")
	if _, err := r.LoadControlNet(t.Context(), file); err == nil || !strings.Contains(err.Error(), "DiffControlNetLoader") {
		t.Errorf("a difference was loaded without a model: %v", err)
	}
	c, err := r.LoadControlDifference(t.Context(), file, s.Model)
	if err != nil {
		t.Fatal(err)
	}
	compareResiduals(t, s.residuals(t, c), want, 1e-4)
}

// TestUnion compares a union of ControlNets with a plain one whose biases do
// what the task does.
func TestUnion(t *testing.T) {
	r := testRuntime(t, nil)
	s := tinyModel(t, r, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	net, rnd := tinyControl(t), rand.New(rand.NewPCG(11, 12))
	const width, tasks, task = 32, 6, 3
	emb := net["time_embed.2.bias"].Dim(0)
	matrix := func(rows, cols int) *tensor.Tensor { return noise(rnd, 1/math.Sqrt(float64(cols)), rows, cols) }
	union := inDiffusers(net)
	maps.Copy(union, bag{
		"task_embedding": noise(rnd, 1, tasks, width),
		"transformer_layes.0.attn.in_proj_weight":  matrix(3*width, width),
		"transformer_layes.0.attn.in_proj_bias":    noise(rnd, 0.1, 3*width),
		"transformer_layes.0.attn.out_proj.weight": matrix(width, width),
		"transformer_layes.0.attn.out_proj.bias":   noise(rnd, 0.1, width),
		"transformer_layes.0.ln_1.weight":          noise(rnd, 1, width),
		"transformer_layes.0.ln_1.bias":            noise(rnd, 0.1, width),
		"transformer_layes.0.ln_2.weight":          noise(rnd, 1, width),
		"transformer_layes.0.ln_2.bias":            noise(rnd, 0.1, width),
		"transformer_layes.0.mlp.c_fc.weight":      matrix(4*width, width),
		"transformer_layes.0.mlp.c_fc.bias":        noise(rnd, 0.1, 4*width),
		"transformer_layes.0.mlp.c_proj.weight":    matrix(width, 4*width),
		"transformer_layes.0.mlp.c_proj.bias":      noise(rnd, 0.1, width),
		"spatial_ch_projs.weight":                  matrix(width, width),
		"spatial_ch_projs.bias":                    noise(rnd, 0.1, width),
		"control_add_embedding.linear_1.weight":    matrix(emb, tasks*256),
		"control_add_embedding.linear_1.bias":      noise(rnd, 0.1, emb),
		"control_add_embedding.linear_2.weight":    matrix(emb, emb),
		"control_add_embedding.linear_2.bias":      noise(rnd, 0.1, emb),
	})
	c := s.load(t, union)
	for _, at := range []int{-1, task} {
		set, err := c.WithTask(at)
		if err != nil {
			t.Fatal(err)
		}
		plain := maps.Clone(net)
		plain["time_embed.2.bias"] = plus(net["time_embed.2.bias"], union.taskEmbedding(at))
		if at >= 0 {
			hint, err := s.load(t, net).run(t.Context(), s.fitted(t, s.load(t, net)), featureKey{height: 8, width: 9})
			if err != nil {
				t.Fatal(err)
			}
			plain["input_hint_block.14.bias"] = plus(net["input_hint_block.14.bias"], union.taskBias(hint["hint"], at))
		}
		compareResiduals(t, s.residuals(t, set), s.residuals(t, s.load(t, plain)), 1e-5)
	}
	if _, err := c.WithTask(tasks); err == nil || !strings.Contains(err.Error(), "knows 6 types") {
		t.Errorf("a task that the union does not know: %v", err)
	}
	if same, err := s.load(t, net).WithTask(7); err != nil || same.union != nil {
		t.Errorf("a plain ControlNet has no tasks: %v", err)
	}
}

func (s steered) fitted(t *testing.T, c *ControlNet) *tensor.Tensor {
	t.Helper()
	x, err := c.fitHint(s.hint, featureKey{height: s.x.Dim(2), width: s.x.Dim(3)})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// linear is w·x + bias for the layer called name, some rows of it.
func (b bag) linear(x []float64, name, bias string, lo, n int) []float64 {
	out := make([]float64, n)
	w := b[name]
	for i := range out {
		out[i] = float64(b[bias].Data[lo+i])
		for k, v := range w.Data[(lo+i)*len(x):][:len(x)] {
			out[i] += float64(v) * x[k]
		}
	}
	return out
}

func mapped(x []float64, f func(float64) float64) []float64 {
	for i, v := range x {
		x[i] = f(v)
	}
	return x
}

func vectorOf(x []float64) *tensor.Tensor {
	out := tensor.New(len(x))
	for i, v := range x {
		out.Data[i] = float32(v)
	}
	return out
}

// taskEmbedding is what a union adds to the timestep's embedding.
func (b bag) taskEmbedding(task int) *tensor.Tensor {
	var x []float64
	for i := range b["task_embedding"].Dim(0) {
		for k := range 256 {
			f := math.Pow(10000, -float64(k%128)/128)
			switch {
			case k < 128 && i == task:
				x = append(x, math.Cos(f))
			case k < 128:
				x = append(x, 1)
			case i == task:
				x = append(x, math.Sin(f))
			default:
				x = append(x, 0)
			}
		}
	}
	const p = "control_add_embedding."
	n := b[p+"linear_1.bias"].Dim(0)
	x = b.linear(x, p+"linear_1.weight", p+"linear_1.bias", 0, n)
	x = mapped(x, func(v float64) float64 { return v / (1 + math.Exp(-v)) })
	return vectorOf(b.linear(x, p+"linear_2.weight", p+"linear_2.bias", 0, n))
}

// taskBias is what a union adds to the channels of a hint.
func (b bag) taskBias(hint *tensor.Tensor, task int) *tensor.Tensor {
	width, plane := hint.Dim(1), hint.Dim(2)*hint.Dim(3)
	x := make([]float64, width)
	for i := range x {
		for _, v := range hint.Data[i*plane:][:plane] {
			x[i] += float64(v) / float64(plane)
		}
		x[i] += float64(b["task_embedding"].Data[task*width+i])
	}
	const p = "transformer_layes.0."
	norm := func(name string) []float64 {
		var mean, variance float64
		for _, v := range x {
			mean += v / float64(width)
		}
		for _, v := range x {
			variance += (v - mean) * (v - mean) / float64(width)
		}
		out := make([]float64, width)
		for i, v := range x {
			out[i] = (v-mean)/math.Sqrt(variance+1e-5)*float64(b[name+".weight"].Data[i]) + float64(b[name+".bias"].Data[i])
		}
		return out
	}
	add := func(y []float64) {
		for i, v := range y {
			x[i] += v
		}
	}
	v := b.linear(norm(p+"ln_1"), p+"attn.in_proj_weight", p+"attn.in_proj_bias", 2*width, width)
	add(b.linear(v, p+"attn.out_proj.weight", p+"attn.out_proj.bias", 0, width))
	h := b.linear(norm(p+"ln_2"), p+"mlp.c_fc.weight", p+"mlp.c_fc.bias", 0, 4*width)
	h = mapped(h, func(v float64) float64 { return v / (1 + math.Exp(-1.702*v)) })
	add(b.linear(h, p+"mlp.c_proj.weight", p+"mlp.c_proj.bias", 0, width))
	return vectorOf(b.linear(x, "spatial_ch_projs.weight", "spatial_ch_projs.bias", 0, width))
}
