package diffusion

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/tokenizer"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// CLIP encodes prompts, with one text tower or, for Stable Diffusion XL, two.
type CLIP struct {
	runtime *Runtime
	towers  []*tower // in the order in which their states are joined
}

// newCLIP traces the text towers; none gives nil. files says where each lies.
func (r *Runtime) newCLIP(ctx context.Context, texts []arch.Text, files ...*weights.File) (*CLIP, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	target, err := r.target(ctx, denoising)
	if err != nil {
		return nil, err
	}
	c := &CLIP{runtime: r}
	for i, text := range texts {
		t, err := r.newTower(files[i%len(files)], text, target)
		if err != nil {
			return nil, err
		}
		c.towers = append(c.towers, t)
	}
	return c, nil
}

// WithLayer returns the encoder with the output of another layer of every
// tower, counted from the end: -1 is the last layer, -2 the one before ("clip
// skip 2").
func (c *CLIP) WithLayer(stop int) (*CLIP, error) {
	n := &CLIP{runtime: c.runtime}
	for _, t := range c.towers {
		text := t.Text
		text.Net.Stop = stop
		other, err := c.runtime.newTower(t.file, text, t.net.target)
		if err == nil {
			other.net, err = other.net.with(t.net.steps...)
		}
		if err != nil {
			return nil, err
		}
		n.towers = append(n.towers, other)
	}
	return n, nil
}

// Digest identifies the encoder by the content of its files and its layers.
func (c *CLIP) Digest() string {
	var parts []any
	for _, t := range c.towers {
		parts = append(parts, t.net.digest(c.runtime.options.Digests))
	}
	return digest(parts...)
}

// File returns the path of the file that the first tower comes from.
func (c *CLIP) File() string { return c.towers[0].file.Path }

// Encode turns a prompt into a Conditioning of one entry. Its text is [1,
// 77·chunks, width], the states of the towers side by side; tokens with a
// weight other than 1 are moved away from the state of an empty prompt by that
// factor. The pooled vector is that of the last tower.
func (c *CLIP) Encode(ctx context.Context, prompt string) (Conditioning, error) {
	chunks := make([][][]tokenizer.Token, len(c.towers))
	for i, t := range c.towers {
		var err error
		if chunks[i], err = t.tokens(prompt); err != nil {
			return nil, err
		}
	}
	return c.encode(ctx, chunks)
}

// EncodeEach is Encode with a prompt for each tower by its name, "clip_l" and
// "clip_g". The shorter one is filled up with empty chunks.
func (c *CLIP) EncodeEach(ctx context.Context, prompts map[string]string) (Conditioning, error) {
	chunks := make([][][]tokenizer.Token, len(c.towers))
	longest := 0
	for i, t := range c.towers {
		prompt, ok := prompts[t.Name]
		if !ok || len(prompts) != len(c.towers) {
			return nil, fmt.Errorf("encode prompts for %s: the text encoder has %s", strings.Join(slices.Sorted(maps.Keys(prompts)), " and "), c.names())
		}
		var err error
		if chunks[i], err = t.tokens(prompt); err != nil {
			return nil, err
		}
		longest = max(longest, len(chunks[i]))
	}
	for i, t := range c.towers {
		empty, err := t.tokens("")
		if err != nil {
			return nil, err
		}
		for len(chunks[i]) < longest {
			chunks[i] = append(chunks[i], empty...)
		}
	}
	return c.encode(ctx, chunks)
}

func (c *CLIP) names() string {
	var names []string
	for _, t := range c.towers {
		names = append(names, t.Name)
	}
	return strings.Join(names, " and ")
}

// encode runs the towers, each over its chunks, and joins their states. A
// longer text is cut to the length of the shorter.
func (c *CLIP) encode(ctx context.Context, chunks [][][]tokenizer.Token) (Conditioning, error) {
	var parts []*tensor.Tensor
	var pooled *tensor.Tensor
	for i, t := range c.towers {
		text, last, err := t.encode(ctx, chunks[i])
		if err != nil {
			return nil, err
		}
		if i == len(c.towers)-1 {
			if pooled, err = t.pool(last, endPosition(chunks[i][0])); err != nil {
				return nil, err
			}
		}
		parts = append(parts, text)
	}
	return Conditioning{NewCond(sideBySide(parts), pooled)}, nil
}

// sideBySide joins [1, tokens, width] along the width.
func sideBySide(parts []*tensor.Tensor) *tensor.Tensor {
	if len(parts) == 1 {
		return parts[0]
	}
	tokens, width := parts[0].Dim(1), 0
	for _, p := range parts {
		tokens, width = min(tokens, p.Dim(1)), width+p.Dim(2)
	}
	out := tensor.New(1, tokens, width)
	at := 0
	for i := range tokens {
		for _, p := range parts {
			at += copy(out.Data[at:], p.Data[i*p.Dim(2):][:p.Dim(2)])
		}
	}
	return out
}
