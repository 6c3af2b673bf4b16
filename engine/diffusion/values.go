package diffusion

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Image is a batch of pictures, [batch, height, width, channel], 3 or 4
// channels, values in [0, 1].
type Image struct{ *tensor.Tensor }

// Mask is a batch of masks, [batch, height, width]; 1 marks what is to be
// painted.
type Mask struct{ *tensor.Tensor }

// Latent is a batch of latent pictures in the unscaled space between VAE and
// sampler.
type Latent struct {
	// Samples is [batch, channel, height, width].
	Samples *tensor.Tensor
	// NoiseMask limits sampling to where it is 1; nil samples everywhere. It is
	// [batch, height, width] in any size and is resized to the latent.
	NoiseMask *tensor.Tensor
	// BatchIndex names the position that each item had in the batch it was
	// taken from, so that it keeps the noise it would have had there.
	BatchIndex []int
}

// Area is a rectangle of a latent. Percent says that the numbers are fractions
// of the latent's size instead of latent pixels.
type Area struct {
	Height, Width, Y, X float64
	Percent             bool
}

// Cond is one entry of a Conditioning: an encoded prompt and where and when it
// applies.
type Cond struct {
	// Text is the cross-attention input, [1, tokens, width].
	Text *tensor.Tensor
	// Pooled is the pooled text vector, [1, width], nil when the encoder has none.
	Pooled *tensor.Tensor
	// ControlText is what the entry's control attends to, nil for Text.
	ControlText *tensor.Tensor
	// Area limits the entry to a rectangle; nil means the whole latent.
	Area *Area
	// Strength weighs the entry against others at the same place.
	Strength float64
	// Mask limits the entry to where it is not 0, [batch, height, width] in any
	// size; nil means everywhere.
	Mask *tensor.Tensor
	// MaskStrength scales Mask.
	MaskStrength float64
	// MaskBounds narrows the area to the mask's bounding box.
	MaskBounds bool
	// ConcatLatent and ConcatMask are for the networks of inpainting checkpoints:
	// the latent, unscaled, of the picture with the part to be painted in grey,
	// and where that is, [batch, (1,) height, width]. Nil stands for the latent
	// of the run and its noise mask. Networks that edit by instructions take the
	// latent of the picture to be changed.
	ConcatLatent, ConcatMask *tensor.Tensor
	// Start and End bound the part of the run, in fractions of its progress, in
	// which the entry applies.
	Start, End float64
	// Control steers the network, nil for nothing. ControlBoth has it steer the
	// entries of the other side too, where those have no control.
	Control     *Control
	ControlBoth bool
	// Fallback limits the entry to where the others leave room: its weight is 1
	// less theirs, whatever its own strength and mask say.
	Fallback bool
	// Hints are told to networks of the Stable Diffusion XL family.
	Hints Hints
}

// Conditioning is a list of entries that are evaluated together.
type Conditioning []Cond

// NewCond returns an entry that applies everywhere and always.
func NewCond(text, pooled *tensor.Tensor) Cond {
	return Cond{Text: text, Pooled: pooled, Strength: 1, MaskStrength: 1, End: 1}
}

// Map returns a copy of the list with f applied to each entry's copy.
func (c Conditioning) Map(f func(*Cond)) Conditioning {
	out := make(Conditioning, len(c))
	for i, e := range c {
		f(&e)
		out[i] = e
	}
	return out
}

// Digest identifies the value's content.
func (i Image) Digest() string { return digest(i.Tensor) }

// Digest identifies the value's content.
func (m Mask) Digest() string { return digest(m.Tensor) }

// Digest identifies the value's content.
func (l Latent) Digest() string { return digest(l.Samples, l.NoiseMask, l.BatchIndex) }

// Digest identifies the value's content.
func (c Conditioning) Digest() string {
	var parts []any
	for _, e := range c {
		if e.Area != nil {
			parts = append(parts, *e.Area)
		}
		parts = append(parts, e.Hints.hash()...)
		parts = append(parts, e.Text, e.Pooled, e.ControlText, e.Mask, e.Strength, e.MaskStrength, e.MaskBounds, e.ConcatLatent, e.ConcatMask, e.Start, e.End, e.Control.Digest(), e.ControlBoth, e.Fallback)
	}
	return digest(parts...)
}

// Sketch summarises the value, see tensor.Sketch.
func (i Image) Sketch() string { return tensor.SketchOf(i.Tensor).String() }

// Sketch summarises the value, see tensor.Sketch.
func (m Mask) Sketch() string { return tensor.SketchOf(m.Tensor).String() }

// Sketch summarises the latent itself, see tensor.Sketch.
func (l Latent) Sketch() string { return tensor.SketchOf(l.Samples).String() }

// Sketch summarises what the entries say to a network, see tensor.Sketch.
func (c Conditioning) Sketch() string {
	var parts []*tensor.Tensor
	for _, e := range c {
		parts = append(parts, e.Text, e.Pooled)
	}
	return tensor.SketchOf(parts...).String()
}

// Bytes returns the memory that the value holds.
func (l Latent) Bytes() int64 { return bytesOf(l.Samples, l.NoiseMask) }

// Bytes returns the memory that the value holds.
func (c Conditioning) Bytes() int64 {
	var n int64
	for _, e := range c {
		n += bytesOf(e.Text, e.Pooled, e.ControlText, e.Mask, e.ConcatLatent, e.ConcatMask)
		for c := e.Control; c != nil; c = c.Previous {
			n += bytesOf(c.Hint.Tensor)
		}
	}
	return n
}

func bytesOf(ts ...*tensor.Tensor) int64 {
	var n int64
	for _, t := range ts {
		if t != nil {
			n += t.Bytes()
		}
	}
	return n
}

// digest hashes tensors with their shapes, and other parts by their printed
// form.
func digest(parts ...any) string {
	h := sha256.New()
	for _, p := range parts {
		t, ok := p.(*tensor.Tensor)
		if !ok || t == nil {
			fmt.Fprintf(h, "%v;", p)
			continue
		}
		fmt.Fprintf(h, "%v:", t.Shape)
		hashFloats(h, t.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hashFloats(h hash.Hash, data []float32) {
	var buf [4096]byte
	for len(data) > 0 {
		n := min(len(data), len(buf)/4)
		for i, v := range data[:n] {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
		}
		h.Write(buf[:4*n])
		data = data[n:]
	}
}
