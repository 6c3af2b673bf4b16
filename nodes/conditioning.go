package nodes

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

func addConditioning(c *engine.Catalog) {
	engine.Add(c, "CLIPTextEncode", "conditioning", encodeText{}, encodePrompt).Device().
		Title("CLIP Text Encode (Prompt)").Doc("Encodes a prompt for the sampler. Write (word:1.2) to weigh a word.")
	engine.Add(c, "CLIPSetLastLayer", "conditioning", setLastLayer{Stop: -1}, setClipLayer).
		Title("CLIP Set Last Layer").Doc("Takes the text states from an earlier layer (clip skip).")
	engine.Add(c, "ConditioningCombine", "conditioning", combine{}, combineConditioning).
		Title("Conditioning (Combine)").Doc("Evaluates both and averages the predictions.")
	engine.Add(c, "ConditioningConcat", "conditioning", concat{}, concatConditioning).
		Title("Conditioning (Concat)").Doc("Appends the tokens of one prompt to another's.")
	engine.Add(c, "ConditioningAverage", "conditioning", average{Strength: 1}, averageConditioning).
		Title("ConditioningAverage").Doc("Blends the text states of two prompts.")
	engine.Add(c, "ConditioningZeroOut", "advanced/conditioning", zeroOut{}, zeroConditioning).
		Title("ConditioningZeroOut").Doc("Replaces the text states by zeros.")
	engine.Add(c, "ConditioningSetTimestepRange", "advanced/conditioning", timestepRange{End: 1}, setTimestepRange).
		Title("ConditioningSetTimestepRange").Doc("Applies a prompt in part of the run only.")
	engine.Add(c, "CLIPTextEncodeControlnet", "_for_testing/conditioning", encodeControlText{}, encodeControlPrompt).V3().Module("comfy_extras.nodes_cond").Experimental().Device().
		Doc("Has the ControlNet of a prompt see another prompt.")
	addConditioningAreas(c)
}

type encodeText struct {
	Text string          `in:"text" ui:"multiline,dynamicPrompts"`
	CLIP *diffusion.CLIP `in:"clip"`
}

// errNoCLIP explains a CLIP input that is empty.
var errNoCLIP = errors.New("the CLIP input is empty: the checkpoint holds no text encoder; load one with CLIPLoader")

func encodePrompt(ctx context.Context, in encodeText) (diffusion.Conditioning, error) {
	if in.CLIP == nil {
		return nil, errNoCLIP
	}
	return in.CLIP.Encode(ctx, in.Text)
}

type encodeControlText struct {
	CLIP *diffusion.CLIP        `in:"clip"`
	In   diffusion.Conditioning `in:"conditioning"`
	Text string                 `in:"text" ui:"multiline,dynamicPrompts"`
}

func encodeControlPrompt(ctx context.Context, in encodeControlText) (diffusion.Conditioning, error) {
	encoded, err := encodePrompt(ctx, encodeText{Text: in.Text, CLIP: in.CLIP})
	if err != nil {
		return nil, err
	}
	return in.In.Map(func(e *diffusion.Cond) { e.ControlText = encoded[0].Text }), nil
}

type setLastLayer struct {
	CLIP *diffusion.CLIP `in:"clip"`
	Stop int             `in:"stop_at_clip_layer" range:"-24,-1,1"`
}

func setClipLayer(_ context.Context, in setLastLayer) (*diffusion.CLIP, error) {
	if in.CLIP == nil {
		return nil, errNoCLIP
	}
	return in.CLIP.WithLayer(in.Stop)
}

type combine struct {
	A diffusion.Conditioning `in:"conditioning_1"`
	B diffusion.Conditioning `in:"conditioning_2"`
}

func combineConditioning(_ context.Context, in combine) (diffusion.Conditioning, error) {
	return append(append(diffusion.Conditioning{}, in.A...), in.B...), nil
}

type concat struct {
	To   diffusion.Conditioning `in:"conditioning_to"`
	From diffusion.Conditioning `in:"conditioning_from"`
}

// concatConditioning appends the first entry of From to every entry of To.
func concatConditioning(_ context.Context, in concat) (diffusion.Conditioning, error) {
	if len(in.From) == 0 {
		return in.To, nil
	}
	tail := in.From[0].Text
	for _, e := range in.To {
		if e.Text.Dim(2) != tail.Dim(2) {
			return nil, fmt.Errorf("concat conditioning: text states of width %d and %d come from different encoders", e.Text.Dim(2), tail.Dim(2))
		}
	}
	return in.To.Map(func(e *diffusion.Cond) {
		data := append(append([]float32{}, e.Text.Data...), tail.Data...)
		e.Text = tensor.Of(data, 1, e.Text.Dim(1)+tail.Dim(1), e.Text.Dim(2))
	}), nil
}

type average struct {
	To       diffusion.Conditioning `in:"conditioning_to"`
	From     diffusion.Conditioning `in:"conditioning_from"`
	Strength float64                `in:"conditioning_to_strength" range:"0,1,0.01"`
}

// averageConditioning blends every entry of To with the first of From. The
// shorter text is filled up with zeros or cut to To's length.
func averageConditioning(_ context.Context, in average) (diffusion.Conditioning, error) {
	if len(in.From) == 0 {
		return in.To, nil
	}
	from := in.From[0]
	w := float32(in.Strength)
	return in.To.Map(func(e *diffusion.Cond) {
		e.Text = mixed(e.Text, from.Text, w)
		if e.Pooled != nil && from.Pooled != nil {
			e.Pooled = mixed(e.Pooled, from.Pooled, w)
		} else if e.Pooled == nil {
			e.Pooled = from.Pooled
		}
	}), nil
}

// mixed returns to·w + from·(1-w), from being cut or filled with zeros.
func mixed(to, from *tensor.Tensor, w float32) *tensor.Tensor {
	out := to.Clone()
	for i, v := range to.Data {
		var f float32
		if i < len(from.Data) {
			f = from.Data[i]
		}
		out.Data[i] = v*w + f*(1-w)
	}
	return out
}

type zeroOut struct {
	In diffusion.Conditioning `in:"conditioning"`
}

func zeroConditioning(_ context.Context, in zeroOut) (diffusion.Conditioning, error) {
	return in.In.Map(func(e *diffusion.Cond) {
		e.Text = tensor.New(e.Text.Shape...)
		if e.Pooled != nil {
			e.Pooled = tensor.New(e.Pooled.Shape...)
		}
	}), nil
}

type timestepRange struct {
	In    diffusion.Conditioning `in:"conditioning"`
	Start float64                `in:"start" range:"0,1,0.001"`
	End   float64                `in:"end" range:"0,1,0.001"`
}

func setTimestepRange(_ context.Context, in timestepRange) (diffusion.Conditioning, error) {
	return in.In.Map(func(e *diffusion.Cond) { e.Start, e.End = in.Start, in.End }), nil
}

// EmbeddingFinder returns the function by which prompts find textual
// inversions: a file of the embeddings folder, by its name with or without
// extension, also in subfolders.
func EmbeddingFinder(m *models.Folders) func(name string) (path string, ok bool) {
	return func(name string) (string, bool) {
		for _, have := range m.Names("embeddings") {
			base := path.Base(have)
			for _, candidate := range []string{have, base} {
				if candidate == name || strings.TrimSuffix(candidate, path.Ext(candidate)) == name {
					p, err := m.Path("embeddings", have)
					return p, err == nil
				}
			}
		}
		return "", false
	}
}
