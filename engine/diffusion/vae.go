package diffusion

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// VAE turns pictures into latents and back.
type VAE struct {
	runtime          *Runtime
	decoder, encoder *component
	channels         int // of a latent
	scale            int // pixels per latent pixel
	// whole has the weights of both halves, nil for a tiny autoencoder.
	whole *component
}

// newVAE traces both halves; w nil gives nil.
func (r *Runtime) newVAE(ctx context.Context, f *weights.File, w nn.Weights) (*VAE, error) {
	if w == nil {
		return nil, nil
	}
	target, err := r.target(ctx, coding)
	if err != nil {
		return nil, err
	}
	decoder := component{name: "vae_decoder", seldom: true, file: f, target: target, weights: arch.Decoder(w), trace: tracerOf("VAE decoder", arch.VAEDecoder)}
	v := &VAE{runtime: r}
	if v.decoder, err = newComponent(decoder); err != nil {
		return nil, err
	}
	v.channels, v.scale = arch.VAESize(w)
	v.whole = &component{name: "vae", file: f, weights: w}
	if e := arch.Encoder(w); len(e.Names()) > 0 {
		encoder := component{name: "vae_encoder", seldom: true, file: f, target: target, weights: e, trace: tracerOf("VAE encoder", arch.VAEEncoder)}
		v.encoder, err = newComponent(encoder)
	}
	return v, err
}

// Digest identifies the autoencoder by the content of its file, or its two.
func (v *VAE) Digest() string {
	d := v.decoder.digest(v.runtime.options.Digests)
	if v.encoder != nil && v.encoder.file.Path != v.decoder.file.Path {
		d = digest(d, v.encoder.digest(v.runtime.options.Digests))
	}
	return d
}

// File returns the path of the file that the autoencoder comes from.
func (v *VAE) File() string { return v.decoder.file.Path }

// Decode turns latents [batch, channel, height, width], unscaled, into
// pictures: (y+1)/2 of the decoder's output, clamped to [0, 1]. Pictures of a
// batch are decoded one after the other, which bounds memory and changes
// nothing else. Where memory does not suffice they are decoded in tiles.
func (v *VAE) Decode(ctx context.Context, samples *tensor.Tensor) (Image, error) {
	if len(samples.Shape) != 4 || samples.Dim(1) != v.channels {
		return Image{}, fmt.Errorf("decode latent: shape %v, the VAE wants %d channels", samples.Shape, v.channels)
	}
	var pictures []*tensor.Tensor
	for i := range samples.Dim(0) {
		y, err := v.decode(ctx, samples.Index(i))
		if isMemory(err) && v.divides(samples, decodeTiles(), v.scale) {
			v.runtime.notice("%v; the latent is decoded in tiles", err)
			return v.DecodeTiled(ctx, samples, decodeTiles())
		}
		if err != nil {
			return Image{}, err
		}
		pictures = append(pictures, y)
	}
	all, err := tensor.Stack(pictures...)
	if err != nil {
		return Image{}, err
	}
	return picture(all)
}

// decode runs the decoder: [1, 3, height, width] in about [-1, 1].
func (v *VAE) decode(ctx context.Context, z *tensor.Tensor) (*tensor.Tensor, error) {
	out, err := v.runtime.runWide(ctx, v.decoder, map[string]*tensor.Tensor{"z": z})
	return out["image"], err
}

// picture maps the decoder's range to [0, 1], channels last.
func picture(y *tensor.Tensor) (Image, error) {
	im, err := y.ChannelsLast()
	if err != nil {
		return Image{}, err
	}
	for i, p := range im.Data {
		im.Data[i] = min(max((p+1)/2, 0), 1)
	}
	return Image{im}, nil
}

// Encode turns pictures into latents, the mean of the encoder's distribution,
// unscaled: [batch, channel, height/8, width/8]. A picture whose sides are no
// multiples of 8 loses the rest evenly at both ends; channels beyond the third
// are ignored. Where memory does not suffice pictures are encoded in tiles.
func (v *VAE) Encode(ctx context.Context, im Image) (*tensor.Tensor, error) {
	if err := v.checkEncode(im); err != nil {
		return nil, err
	}
	var latents []*tensor.Tensor
	for i := range im.Dim(0) {
		x := v.encoderInput(im.Index(i))
		z, err := v.encode(ctx, x)
		if isMemory(err) && v.divides(x, encodeTiles(), 1) {
			v.runtime.notice("%v; the picture is encoded in tiles", err)
			return v.EncodeTiled(ctx, im, encodeTiles())
		}
		if err != nil {
			return nil, err
		}
		latents = append(latents, z)
	}
	return tensor.Stack(latents...)
}

func (v *VAE) checkEncode(im Image) error {
	switch {
	case v.encoder == nil:
		return fmt.Errorf("encode picture: %s holds no VAE encoder", v.File())
	case im.Tensor == nil || len(im.Shape) != 4:
		return fmt.Errorf("encode picture: no picture")
	case im.Dim(1) < v.scale || im.Dim(2) < v.scale:
		return fmt.Errorf("encode picture: %dx%d is smaller than one latent pixel (%dx%d)", im.Dim(2), im.Dim(1), v.scale, v.scale)
	}
	return nil
}

// encode runs the encoder over [1, 3, height, width] and returns the means.
func (v *VAE) encode(ctx context.Context, x *tensor.Tensor) (*tensor.Tensor, error) {
	out, err := v.runtime.runWide(ctx, v.encoder, map[string]*tensor.Tensor{"image": x})
	if err != nil {
		return nil, err
	}
	return means(out["moments"], v.channels), nil
}

// encoderInput crops one picture [1, h, w, c] to whole latent pixels and maps
// it to [1, 3, h, w] in [-1, 1].
func (v *VAE) encoderInput(im *tensor.Tensor) *tensor.Tensor {
	h, w, c := im.Dim(1), im.Dim(2), im.Dim(3)
	y0, x0 := h%v.scale/2, w%v.scale/2
	x := tensor.New(1, 3, h-h%v.scale, w-w%v.scale)
	i := 0
	for ch := range 3 {
		for y := range x.Dim(2) {
			row := im.Data[((y+y0)*w+x0)*c+min(ch, c-1):]
			for col := range x.Dim(3) {
				x.Data[i] = 2*row[col*c] - 1
				i++
			}
		}
	}
	return x
}

// means returns the first channels of an encoder's moments.
func means(moments *tensor.Tensor, channels int) *tensor.Tensor {
	h, w := moments.Dim(2), moments.Dim(3)
	return tensor.Of(moments.Data[:channels*h*w], 1, channels, h, w)
}
