package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"io"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"
)

// ErrFormat says that the bytes are no picture of a kind that we read.
var ErrFormat = errors.New("not a PNG, JPEG, WebP, GIF, BMP or TIFF picture")

// MaxPixels is the limit of Decode when none is given: what Pillow refuses as
// a decompression bomb, about 179 million in all frames together.
const MaxPixels = 2 * (1 << 30) / 4 / 3

// format is one kind of file: how it begins and how it is read.
type format struct {
	name        string
	magic       []string // "?" fits every byte
	config      func(data []byte) (image.Config, error)
	decode      func(data []byte) ([]Picture, error)
	orientation func(data []byte) int
}

func formats() []format {
	return []format{
		{"PNG", []string{pngSignature}, header(png.DecodeConfig), decodePNG, pngOrientation},
		{"JPEG", []string{"\xff\xd8\xff"}, jpegConfig, decodeJPEG, jpegOrientation},
		{"WebP", []string{"RIFF????WEBP"}, header(webp.DecodeConfig), decodeWebP, webpOrientation},
		{"GIF", []string{"GIF87a", "GIF89a"}, header(gif.DecodeConfig), decodeGIF, nil},
		{"BMP", []string{"BM"}, header(bmp.DecodeConfig), decodeBMP, nil},
		{"TIFF", []string{"II*\x00", "MM\x00*"}, header(tiff.DecodeConfig), decodeTIFF, tiffOrientation},
	}
}

// header lets a decoder of Go's libraries read the size.
func header(config func(io.Reader) (image.Config, error)) func([]byte) (image.Config, error) {
	return func(data []byte) (image.Config, error) { return config(bytes.NewReader(data)) }
}

func (f format) fits(data []byte) bool {
	for _, m := range f.magic {
		if len(data) < len(m) {
			continue
		}
		same := true
		for i := range len(m) {
			same = same && (m[i] == '?' || m[i] == data[i])
		}
		if same {
			return true
		}
	}
	return false
}

// Decode reads the frames of a picture file: several of a GIF, one of all
// others. maxPixels limits width times height of all frames together, 0 means
// MaxPixels; it is checked before pixels are decoded. Data that is no picture
// gives ErrFormat.
func Decode(data []byte, maxPixels int) ([]Picture, error) {
	if maxPixels <= 0 {
		maxPixels = MaxPixels
	}
	for _, f := range formats() {
		if !f.fits(data) {
			continue
		}
		frames, err := f.read(data, maxPixels)
		if err != nil {
			return nil, fmt.Errorf("decode %s: %w", f.name, err)
		}
		return frames, nil
	}
	return nil, ErrFormat
}

// read decodes one file; a decoder that panics on hostile data gives an error.
func (f format) read(data []byte, maxPixels int) (frames []Picture, err error) {
	defer func() {
		if r := recover(); r != nil {
			frames, err = nil, fmt.Errorf("broken picture: %v", r)
		}
	}()
	c, err := f.config(data)
	if err != nil {
		return nil, err
	}
	n := int64(1)
	if f.name == "GIF" {
		n, _ = gifFrames(data)
	}
	if c.Width <= 0 || c.Height <= 0 {
		return nil, fmt.Errorf("%dx%d has no pixels", c.Width, c.Height)
	}
	if n > int64(maxPixels)/int64(c.Width)/int64(c.Height) {
		return nil, fmt.Errorf("%d frames of %dx%d are more than %d pixels", n, c.Width, c.Height, maxPixels)
	}
	frames, err = f.decode(data)
	if err != nil || f.orientation == nil {
		return frames, err
	}
	for i := range frames {
		frames[i] = frames[i].turn(f.orientation(data))
	}
	return frames, nil
}

// decodePNG takes alpha only from the colour types that have a channel for it
// and from palettes: a single transparent colour of a gray or RGB file is no
// mask for Pillow. 16-bit gray is cut off at 255, as Pillow's mode I is; the
// other 16-bit kinds keep their upper byte.
func decodePNG(data []byte) ([]Picture, error) {
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	const gray, palette, grayAlpha, rgba = 0, 3, 4, 6
	depth, kind := data[len(pngSignature)+16], data[len(pngSignature)+17]
	p := fromImage(img, kind == palette || kind == grayAlpha || kind == rgba)
	if kind == gray && depth == 16 {
		p = fromGray16(img)
	}
	if kind == palette && !hasChunk(data, "tRNS") {
		p.Alpha = nil
	}
	return []Picture{p}, nil
}

func hasChunk(data []byte, kind string) bool {
	for c := range pngChunks(data) {
		if c.kind == kind {
			return true
		}
	}
	return false
}

func fromGray16(img image.Image) Picture {
	b := img.Bounds()
	p := newPicture(b.Dx(), b.Dy())
	for i := range p.Width * p.Height {
		c := color.NRGBA64Model.Convert(img.At(b.Min.X+i%p.Width, b.Min.Y+i/p.Width)).(color.NRGBA64)
		v := uint8(min(c.R, 255))
		p.RGB[3*i], p.RGB[3*i+1], p.RGB[3*i+2] = v, v, v
	}
	return p
}

func decodeWebP(data []byte) ([]Picture, error) {
	if len(data) > 20 && string(data[12:16]) == "VP8X" && data[20]&2 != 0 {
		return nil, errors.New("animated WebP is not read; save it as GIF or as single pictures")
	}
	img, err := webp.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	switch img := img.(type) {
	case *image.YCbCr:
		return []Picture{fromWebP(img)}, nil
	case *image.NYCbCrA:
		p := fromWebP(&img.YCbCr)
		p.Alpha = make([]byte, p.Width*p.Height)
		for y := range p.Height {
			copy(p.Alpha[y*p.Width:(y+1)*p.Width], img.A[y*img.AStride:])
		}
		return []Picture{p}, nil
	}
	return []Picture{fromImage(img, webpHasAlpha(data))}, nil
}

// webpHasAlpha reads the alpha bit of the extended or the lossless header.
func webpHasAlpha(data []byte) bool {
	switch {
	case len(data) > 24 && string(data[12:16]) == "VP8L":
		return binary.LittleEndian.Uint32(data[21:])>>28&1 != 0
	case len(data) > 20 && string(data[12:16]) == "VP8X":
		return data[20]&0x10 != 0
	}
	return false
}

func decodeBMP(data []byte) ([]Picture, error) {
	img, err := bmp.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	const headerLen, bitsAt, minHeader = 14, 28, 40
	alpha := data[bitsAt] == 32 && binary.LittleEndian.Uint32(data[headerLen:]) > minHeader
	return []Picture{fromImage(img, alpha)}, nil
}

func decodeTIFF(data []byte) ([]Picture, error) {
	img, err := tiff.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if gray, ok := img.(*image.Gray16); ok {
		return []Picture{fromGray16(gray)}, nil
	}
	opaque, ok := img.(interface{ Opaque() bool })
	return []Picture{fromImage(img, !ok || !opaque.Opaque())}, nil
}

// fromImage takes 8 bits of each colour, before alpha is multiplied in.
func fromImage(img image.Image, alpha bool) Picture {
	b := img.Bounds()
	p := newPicture(b.Dx(), b.Dy())
	if alpha {
		p.Alpha = make([]byte, p.Width*p.Height)
	}
	for i := range p.Width * p.Height {
		c := straight(img, b.Min.X+i%p.Width, b.Min.Y+i/p.Width)
		p.RGB[3*i], p.RGB[3*i+1], p.RGB[3*i+2] = c.R, c.G, c.B
		if alpha {
			p.Alpha[i] = c.A
		}
	}
	return p
}

// straight is one pixel. The types that decoders return are read directly: the
// general conversion multiplies by alpha on its way and loses the colours of
// transparent pixels.
func straight(img image.Image, x, y int) color.NRGBA {
	switch img := img.(type) {
	case *image.NRGBA:
		return img.NRGBAAt(x, y)
	case *image.RGBA:
		if c := img.RGBAAt(x, y); c.A == 255 {
			return color.NRGBA(c)
		}
	case *image.NRGBA64:
		c := img.NRGBA64At(x, y)
		return color.NRGBA{R: uint8(c.R >> 8), G: uint8(c.G >> 8), B: uint8(c.B >> 8), A: uint8(c.A >> 8)}
	case *image.Gray:
		v := img.GrayAt(x, y).Y
		return color.NRGBA{R: v, G: v, B: v, A: 255}
	case *image.Paletted:
		if c, ok := img.At(x, y).(color.NRGBA); ok {
			return c
		}
	}
	return color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
}
