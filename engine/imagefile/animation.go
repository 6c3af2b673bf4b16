package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math"
	"slices"
)

// Animation is a sequence of pictures of one size, each shown for Delay
// milliseconds, over and over.
type Animation struct {
	Frames []Picture
	Delay  int
	Text   []Text // what the file says about itself beside the pixels
}

// shown is a frame with the time it is on screen.
type shown struct {
	Picture
	millis int
}

// merged joins frames that do not differ from the one before, as Pillow does.
func (a Animation) merged() ([]shown, error) {
	var out []shown
	for _, f := range a.Frames {
		last := len(out) - 1
		switch {
		case f.Width < 1 || f.Height < 1:
			return nil, errors.New("a frame without pixels")
		case last >= 0 && (f.Width != out[0].Width || f.Height != out[0].Height):
			return nil, fmt.Errorf("frames of %dx%d and %dx%d", out[0].Width, out[0].Height, f.Width, f.Height)
		case last >= 0 && bytes.Equal(f.RGB, out[last].RGB) && bytes.Equal(f.Alpha, out[last].Alpha):
			out[last].millis += a.Delay
		default:
			out = append(out, shown{f, a.Delay})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no frames")
	}
	return out, nil
}

// WriteAPNG writes an animated PNG (W3C "Portable Network Graphics, Third
// Edition"); a single frame gives a plain PNG. Level is zlib's, 0 to 9. Each
// text goes into a private chunk "comf" behind the pixels, as keyword, zero
// and value, in Latin-1.
func (a Animation) WriteAPNG(w io.Writer, level int) error {
	frames, err := a.merged()
	if err != nil {
		return fmt.Errorf("write apng: %w", err)
	}
	var out bytes.Buffer
	sequence := uint32(0)
	for i, f := range frames {
		data, err := encodePNG(f.Picture, level)
		if err != nil {
			return fmt.Errorf("write apng: %w", err)
		}
		if i == 0 {
			out.Write(data[:pngHeaderEnd])
		}
		if i == 0 && len(frames) > 1 {
			writeChunk(&out, "acTL", bigEndian(uint32(len(frames)), 0))
		}
		if len(frames) > 1 {
			writeChunk(&out, "fcTL", f.control(sequence))
			sequence++
		}
		for c := range pngChunks(data) {
			switch {
			case c.kind == "IDAT" && i == 0:
				writeChunk(&out, "IDAT", string(c.data))
			case c.kind == "IDAT":
				writeChunk(&out, "fdAT", bigEndian(sequence), string(c.data))
				sequence++
			}
		}
	}
	for _, t := range a.Text {
		value, ok := latin1(t.Value)
		if !ok {
			return fmt.Errorf("write apng: the value of %q is not Latin-1", t.Key)
		}
		writeChunk(&out, "comf", t.Key, "\x00", value)
	}
	writeChunk(&out, "IEND")
	_, err = w.Write(out.Bytes())
	return err
}

// control is the content of an fcTL chunk: the frame covers the canvas and
// replaces what was there.
func (f shown) control(sequence uint32) string {
	const noDisposal, replace = "\x00", "\x00"
	millis := uint16(min(f.millis, math.MaxUint16))
	delay := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, millis), 1000)
	return bigEndian(sequence, uint32(f.Width), uint32(f.Height), 0, 0) + string(delay) + noDisposal + replace
}

func bigEndian(values ...uint32) string {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return string(b)
}

// encodePNG writes the pixels alone.
func encodePNG(p Picture, level int) ([]byte, error) {
	enc := png.Encoder{}
	switch {
	case level <= 0:
		enc.CompressionLevel = png.NoCompression
	case level <= 2:
		enc.CompressionLevel = png.BestSpeed
	case level >= 8:
		enc.CompressionLevel = png.BestCompression
	}
	var out bytes.Buffer
	err := enc.Encode(&out, p.encodable())
	return slices.Clip(out.Bytes()), err
}
