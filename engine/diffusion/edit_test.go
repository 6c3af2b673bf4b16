package diffusion

import (
	"math"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

func TestEditChannels(t *testing.T) {
	shown := Cond{ConcatLatent: tensor.Full(5, 1, 4, 2, 2)}
	for _, c := range []struct {
		name   string
		scaled bool
		cond   Cond
		want   float32
	}{
		{"nothing", false, Cond{}, 0}, {"a picture", false, shown, 5}, {"scaled", true, shown, 10},
		{"another size", false, Cond{ConcatLatent: tensor.Full(3, 1, 4, 6, 4)}, 3},
	} {
		j := &run{model: &Model{edits: true, editsScaled: c.scaled, format: latentFormat{scale: 2}}, latent: tensor.Full(7, 3, 4, 2, 2)}
		got, err := j.moreChannels(c.cond)
		if err != nil || !got.Shape.Equal(tensor.Shape{3, 4, 2, 2}) {
			t.Errorf("%s: %v, %v", c.name, got, err)
			continue
		}
		for _, v := range got.Data {
			if v != c.want {
				t.Fatalf("%s: %v, want %g", c.name, got.Data, c.want)
			}
		}
	}
}

// TestEditModel gives a network four more input channels with the weights of
// the first four: it sees the sum of latent and picture.
func TestEditModel(t *testing.T) {
	r := testRuntime(t, nil)
	path := weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16")
	plain := tinyModel(t, r, path)
	file := bagOf(t, path, "")
	const first = "model.diffusion_model.input_blocks.0.0.weight"
	twice, err := tensor.Concat(1, file[first], file[first])
	if err != nil {
		t.Fatal(err)
	}
	file[first] = twice
	edit := tinyModel(t, r, file.write(t, "edit.safetensors"))
	if !edit.edits || edit.inpaints || edit.editsScaled || plain.edits {
		t.Fatalf("edits %t, inpaints %t; the plain one edits %t", edit.edits, edit.inpaints, plain.edits)
	}
	latent := Latent{Samples: tensor.New(1, 4, 8, 9)}
	picture := noisy(1, 4, 8, 9)
	cond := NewCond(plain.evaluation.inputs["context"], nil)
	sample := func(m *Model, picture *tensor.Tensor) *tensor.Tensor {
		cond.ConcatLatent = picture
		out, err := Sample(t.Context(), Job{
			Guider: BasicGuider(m, Conditioning{cond}), Sampler: Sampler{Name: "euler"}, Sigmas: Sigmas{1, 0}, Latent: latent, Noise: Noise{Seed: 3},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out.Latent.Samples
	}
	without := sample(plain.Model, nil)
	compare(t, "no picture", sample(edit.Model, nil), without, 1e-4)
	got := sample(edit.Model, picture)
	if slices.Equal(got.Data, without.Data) {
		t.Fatal("the picture changes nothing")
	}
	predicted := func(m *Model, x *tensor.Tensor, more *tensor.Tensor) *tensor.Tensor {
		in := map[string]*tensor.Tensor{"context": cond.Text}
		if more != nil {
			in[inputChannels] = more
		}
		out, err := m.outputs(t.Context(), evaluation{x: x, inputs: in, sigma: 1})
		if err != nil {
			t.Fatal(err)
		}
		return plus(x, each(out["out"], times(-1)))
	}
	// At level 1 the state is scaled by 1/√2.
	x := plain.x
	compare(t, "noise", predicted(edit.Model, x, picture), predicted(plain.Model, plus(x, each(picture, times(math.Sqrt2))), nil), 1e-4)
}

// TestControlText: a control that attends to a text of its own leaves the
// network's as it is.
func TestControlText(t *testing.T) {
	r := testRuntime(t, nil)
	s := tinyModel(t, r, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	net := &Control{Net: s.load(t, tinyControl(t)), Hint: s.hint, Strength: 1, End: 1}
	own, other := NewCond(s.evaluation.inputs["context"], nil), noisy(1, 154, s.textWidth)
	own.Control = net
	sample := func(c Cond) *tensor.Tensor {
		out, err := Sample(t.Context(), Job{
			Guider: BasicGuider(s.Model, Conditioning{c}), Sampler: Sampler{Name: "euler"}, Sigmas: Sigmas{1, 0},
			Latent: Latent{Samples: tensor.New(1, 4, 8, 9)}, Noise: Noise{Seed: 3},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out.Latent.Samples
	}
	plain := sample(own)
	same := own
	same.ControlText = own.Text
	compare(t, "the same text", sample(same), plain, 1e-6)
	same.ControlText = other
	changed := sample(same)
	own.Text = other
	if both := sample(own); slices.Equal(changed.Data, plain.Data) || slices.Equal(changed.Data, both.Data) {
		t.Error("another text for the control changes nothing, or the network's too")
	}
	if (Conditioning{same}).Digest() == (Conditioning{own}).Digest() {
		t.Error("the digest leaves the control's text out")
	}
}
