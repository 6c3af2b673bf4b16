package diffusion

import (
	"errors"
	"fmt"
	"strings"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// The places of the parts in an all-in-one checkpoint; those of the text
// encoders are in arch.TextEncoder.Places.
const (
	modelPlace = "model.diffusion_model."
	vaePlace   = "first_stage_model."
)

// Contents lists the weights as they are after LoRAs and merges, in the type
// that the file has, under the names of a checkpoint. What the file says about
// its noise schedule beside them goes along; WithSchedule and patches do not.
func (m *Model) Contents() []weights.Content {
	out := m.unet.contents(func(name string) string { return modelPlace + name })
	for _, name := range []string{markVelocity, markTerminal, markMean, markStd, markSigmaMax, markSigmaMin} {
		if info, ok := m.unet.file.Tensor(name); ok {
			out = append(out, weights.Content{Name: name, DType: storable(info.DType), Shape: info.Shape, Values: func() (*tensor.Tensor, error) {
				return m.unet.file.Read(name)
			}})
		}
	}
	return out
}

// Family names what the network belongs to, "Stable Diffusion XL".
func (m *Model) Family() string { return m.family }

// Contents lists the weights for a file of the autoencoder's own, in the type
// that the file has. Tiny autoencoders are refused: each is made of two files.
func (v *VAE) Contents() ([]weights.Content, error) {
	if v.whole == nil {
		return nil, errors.New("a tiny autoencoder cannot be saved; copy its files")
	}
	out := v.whole.contents(func(name string) string { return name })
	for i, c := range out {
		// Some files of diffusers have the attention's convolutions as matrices.
		if strings.Contains(c.Name, ".mid.attn_1.") && !strings.Contains(c.Name, ".norm.") && len(c.Shape) == 2 {
			out[i].Shape = tensor.Shape{c.Shape[0], c.Shape[1], 1, 1}
		}
	}
	return out, nil
}

// TowerContents are the weights of one text encoder.
type TowerContents struct {
	// Name is "clip_l", "clip_g" or "clip_h".
	Name string
	// Own has the names of a file of its own, Hugging Face's; Embedded those of
	// a checkpoint.
	Own, Embedded []weights.Content
}

// Contents lists the weights of each text encoder in half precision, which is
// the one that is computed with.
func (c *CLIP) Contents() []TowerContents {
	var out []TowerContents
	for _, t := range c.towers {
		own := splitQKV(t.net.contents(func(name string) string { return name }))
		place := t.Places[0]
		embedded := own
		if strings.HasSuffix(place, ".model.") {
			embedded = openCLIP(own)
		}
		out = append(out, TowerContents{Name: t.Name, Own: own, Embedded: under(place, embedded)})
	}
	return out
}

// under returns the contents with a prefix to their names.
func under(place string, list []weights.Content) []weights.Content {
	var out []weights.Content
	for _, c := range list {
		// A checkpoint has no projection beside CLIP-L.
		if strings.HasSuffix(place, ".transformer.") && c.Name == textProjection {
			continue
		}
		c.Name = place + c.Name
		out = append(out, c)
	}
	return out
}

// InCheckpoint returns an autoencoder's contents under the names of a
// checkpoint.
func InCheckpoint(vae []weights.Content) []weights.Content { return under(vaePlace, vae) }

// contents lists the component's weights.
func (c *component) contents(rename func(string) string) []weights.Content {
	var out []weights.Content
	for _, name := range c.weights.Names() {
		src, _ := c.weights.Lookup(name)
		out = append(out, weights.Content{
			Name: rename(name), DType: c.storedType(src), Shape: src.Shape,
			Values: func() (*tensor.Tensor, error) { return c.kept(name) },
		})
	}
	return out
}

func (c *component) storedType(src nn.Source) tensor.DType {
	info, _ := c.file.Tensor(src.From[0])
	if c.roundF16 && info.DType != tensor.I64 {
		return tensor.F16
	}
	return storable(info.DType)
}

// storable is a type that can be written and holds all values of d, or of
// float64 nearly: half precision holds those of 8 bits.
func storable(d tensor.DType) tensor.DType {
	switch d {
	case tensor.F16, tensor.BF16, tensor.I64:
		return d
	case tensor.F8E4M3, tensor.F8E5M2:
		return tensor.F16
	}
	return tensor.F32
}

// qkv are the names in Hugging Face's towers of what OpenCLIP has in one
// weight, in the order of its rows.
var qkv = [3]string{"q_proj.", "k_proj.", "v_proj."}

const joinedQKV = "in_proj."

// splitQKV divides the weights of queries, keys and values that are one.
func splitQKV(list []weights.Content) []weights.Content {
	var out []weights.Content
	for _, c := range list {
		if !strings.Contains(c.Name, joinedQKV) {
			out = append(out, c)
			continue
		}
		rows := c.Shape[0] / len(qkv)
		for i, part := range qkv {
			p := c
			p.Name = strings.Replace(c.Name, joinedQKV, part, 1)
			p.Shape = append(tensor.Shape{rows}, c.Shape[1:]...)
			p.Values = func() (*tensor.Tensor, error) {
				t, err := c.Values()
				if err != nil {
					return nil, err
				}
				return t.Rows(i*rows, (i+1)*rows), nil
			}
			out = append(out, p)
		}
	}
	return out
}

// openCLIP gives a tower the names and forms of OpenCLIP: the reverse of
// arch.DetectText.
// https://github.com/mlfoundations/open_clip/blob/main/src/open_clip/transformer.py
func openCLIP(list []weights.Content) []weights.Content {
	byName := map[string]weights.Content{}
	for _, c := range list {
		byName[c.Name] = c
	}
	words := strings.NewReplacer(
		"text_model.embeddings.position_embedding.weight", "positional_embedding", "text_model.embeddings.token_embedding.", "token_embedding.",
		"text_model.final_layer_norm.", "ln_final.", "text_model.encoder.layers.", "transformer.resblocks.",
		".layer_norm1.", ".ln_1.", ".layer_norm2.", ".ln_2.", ".mlp.fc1.", ".mlp.c_fc.", ".mlp.fc2.", ".mlp.c_proj.",
		".self_attn.out_proj.", ".attn.out_proj.", ".self_attn.in_proj.", ".attn.in_proj_",
	)
	var out []weights.Content
	for _, c := range list {
		switch {
		case strings.Contains(c.Name, qkv[1]), strings.Contains(c.Name, qkv[2]):
			continue
		case strings.Contains(c.Name, qkv[0]):
			c = joinQKV(c, byName)
		case c.Name == textProjection:
			c = transposed(c, "text_projection")
		}
		c.Name = words.Replace(c.Name)
		out = append(out, c)
	}
	return out
}

// joinQKV makes one weight of three, given the queries'.
func joinQKV(q weights.Content, byName map[string]weights.Content) weights.Content {
	joined := q
	joined.Name = strings.Replace(q.Name, qkv[0], joinedQKV, 1)
	joined.Shape = append(tensor.Shape{q.Shape[0] * len(qkv)}, q.Shape[1:]...)
	joined.Values = func() (*tensor.Tensor, error) {
		out := tensor.New(joined.Shape...)
		for i, part := range qkv {
			name := strings.Replace(q.Name, qkv[0], part, 1)
			c, ok := byName[name]
			if !ok {
				return nil, fmt.Errorf("there is no %s", name)
			}
			t, err := c.Values()
			if err != nil {
				return nil, err
			}
			copy(out.Rows(i*q.Shape[0], (i+1)*q.Shape[0]).Data, t.Data)
		}
		return out, nil
	}
	return joined
}

// transposed turns a matrix around.
func transposed(c weights.Content, name string) weights.Content {
	out := weights.Content{Name: name, DType: c.DType, Shape: tensor.Shape{c.Shape[1], c.Shape[0]}}
	out.Values = func() (*tensor.Tensor, error) {
		t, err := c.Values()
		if err != nil {
			return nil, err
		}
		turned := tensor.New(out.Shape...)
		rows, cols := c.Shape[0], c.Shape[1]
		for i, v := range t.Data {
			turned.Data[i%cols*rows+i/cols] = v
		}
		return turned, nil
	}
	return out
}
