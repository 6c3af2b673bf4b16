// Package imagefile reads and writes picture files: PNG, JPEG, WebP, GIF, BMP
// and TIFF in, PNG out, with the numbers that Pillow gives.
//
// Vocabulary: a Picture is one frame in 8 bits, upright (the orientation that
// a camera noted in EXIF is applied), with colours that are not multiplied by
// alpha. Tensors are images [batch, height, width, channel] with values in
// [0, 1] and masks [batch, height, width] in which 1 is transparent. Text is a
// keyword with a value that a PNG carries beside its pixels.
package imagefile

import (
	"fmt"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Picture is one frame: 3 bytes per pixel, row by row, and the alpha channel
// if the file has one.
type Picture struct {
	Width, Height int
	RGB           []byte
	Alpha         []byte // one byte per pixel, nil: opaque
}

func newPicture(width, height int) Picture {
	return Picture{Width: width, Height: height, RGB: make([]byte, 3*width*height)}
}

// FromTensor cuts item i of an image, [batch, height, width, 3 or 4], to 8
// bits: 255·v clipped to 0…255 without rounding.
func FromTensor(t *tensor.Tensor, i int) (Picture, error) {
	if len(t.Shape) != 4 || t.Shape[3] != 3 && t.Shape[3] != 4 {
		return Picture{}, fmt.Errorf("make picture: shape %v is not [batch height width 3] or 4", t.Shape)
	}
	if i < 0 || i >= t.Shape[0] {
		return Picture{}, fmt.Errorf("make picture: item %d of a batch of %d", i, t.Shape[0])
	}
	p, channels, src := newPicture(t.Shape[2], t.Shape[1]), t.Shape[3], t.Index(i).Data
	if channels == 4 {
		p.Alpha = make([]byte, p.Width*p.Height)
	}
	for at := range p.Width * p.Height {
		for c, v := range src[at*channels : (at+1)*channels] {
			if c == 3 {
				p.Alpha[at] = tensor.Byte(v)
				continue
			}
			p.RGB[3*at+c] = tensor.Byte(v)
		}
	}
	return p, nil
}

// Images turns the frames of one file into an image and a mask. Frames that
// differ in size from the first are left out. The mask is 1-alpha; it is a
// 64x64 field of zeros when no frame has alpha.
func Images(frames []Picture) (img, mask *tensor.Tensor, err error) {
	frames = sameSize(frames)
	if len(frames) == 0 || frames[0].Width == 0 || frames[0].Height == 0 {
		return nil, nil, fmt.Errorf("make image: no pixels")
	}
	w, h, hasAlpha := frames[0].Width, frames[0].Height, false
	img = tensor.New(len(frames), h, w, 3)
	for i, f := range frames {
		dst := img.Index(i).Data
		for k, v := range f.RGB {
			dst[k] = float32(v) / 255
		}
		hasAlpha = hasAlpha || f.Alpha != nil
	}
	if !hasAlpha {
		return img, tensor.New(len(frames), 64, 64), nil
	}
	mask = tensor.New(len(frames), h, w)
	for i, f := range frames {
		dst := mask.Index(i).Data
		for k, v := range f.Alpha {
			dst[k] = 1 - float32(v)/255
		}
	}
	return img, mask, nil
}

func sameSize(frames []Picture) []Picture {
	var out []Picture
	for _, f := range frames {
		if f.Width == frames[0].Width && f.Height == frames[0].Height {
			out = append(out, f)
		}
	}
	return out
}

// Channels are the names that Mask takes.
var channels = map[string]int{"red": 0, "green": 1, "blue": 2}

// Mask turns one channel of a picture into a mask, [1, height, width]. Alpha is
// inverted, so that transparent is 1, colours are not; without an alpha channel
// it is a 64x64 field of zeros.
func Mask(p Picture, channel string) (*tensor.Tensor, error) {
	c, isColour := channels[channel]
	switch {
	case isColour:
		out := tensor.New(1, p.Height, p.Width)
		for i := range out.Data {
			out.Data[i] = float32(p.RGB[3*i+c]) / 255
		}
		return out, nil
	case channel != "alpha":
		return nil, fmt.Errorf("make mask: channel %q is none of alpha, red, green, blue", channel)
	}
	_, mask, err := Images([]Picture{p})
	return mask, err
}
