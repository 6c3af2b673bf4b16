package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/HugoSmits86/nativewebp"
)

// WriteWebP writes a lossless WebP, animated when it has more than one frame
// (Google's "WebP Container Specification"). Texts become EXIF strings
// "keyword:value" under the tags of model, make, and further down.
func (a Animation) WriteWebP(w io.Writer) error {
	frames, err := a.merged()
	if err != nil {
		return fmt.Errorf("write webp: %w", err)
	}
	var body bytes.Buffer
	flags := byte(0)
	if len(a.Text) > 0 {
		flags |= webpEXIF
	}
	for _, f := range frames {
		bits, err := losslessBits(f.Picture)
		if err != nil {
			return fmt.Errorf("write webp: %w", err)
		}
		if f.Alpha != nil {
			flags |= webpAlpha
		}
		if len(frames) == 1 {
			riffChunk(&body, "VP8L", bits)
			break
		}
		flags |= webpAnimated
		riffChunk(&body, "ANMF", f.webpFrame(bits))
	}
	if len(a.Text) > 0 {
		riffChunk(&body, "EXIF", exifStrings(a.Text))
	}
	var file bytes.Buffer
	file.WriteString("WEBP")
	canvas := append([]byte{flags, 0, 0, 0}, int24(frames[0].Width-1)...)
	riffChunk(&file, "VP8X", append(canvas, int24(frames[0].Height-1)...))
	if len(frames) > 1 {
		riffChunk(&file, "ANIM", make([]byte, 6)) // transparent background, no end
	}
	file.Write(body.Bytes())
	head := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(file.Len()))
	if _, err := w.Write(append(head, file.Bytes()...)); err != nil {
		return fmt.Errorf("write webp: %w", err)
	}
	return nil
}

// Flags of the VP8X chunk.
const (
	webpAnimated = 0x02
	webpEXIF     = 0x08
	webpAlpha    = 0x10
)

// maxWebPSide is the largest width and height of a frame.
const maxWebPSide = 16384

// losslessBits is the content of a picture's VP8L chunk.
func losslessBits(p Picture) ([]byte, error) {
	if p.Width > maxWebPSide || p.Height > maxWebPSide {
		return nil, fmt.Errorf("%dx%d pixels, WebP has no sides beyond %d", p.Width, p.Height, maxWebPSide)
	}
	var out bytes.Buffer
	if err := nativewebp.Encode(&out, p.encodable(), nil); err != nil {
		return nil, err
	}
	const begin = 12 // after RIFF, size and WEBP
	data := out.Bytes()
	if len(data) < begin+8 || string(data[begin:begin+4]) != "VP8L" {
		return nil, errors.New("the encoder gave no VP8L chunk")
	}
	return data[begin+8:], nil
}

// webpFrame is the content of an ANMF chunk: the frame covers the canvas and
// replaces what was there.
func (f shown) webpFrame(bits []byte) []byte {
	const noBlending = 0x02
	var out bytes.Buffer
	for _, v := range []int{0, 0, f.Width - 1, f.Height - 1, min(f.millis, 1<<24-1)} {
		out.Write(int24(v))
	}
	out.WriteByte(noBlending)
	riffChunk(&out, "VP8L", bits)
	return out.Bytes()
}

func int24(v int) []byte { return []byte{byte(v), byte(v >> 8), byte(v >> 16)} }

func riffChunk(w *bytes.Buffer, kind string, data []byte) {
	w.WriteString(kind)
	w.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(data))))
	w.Write(data)
	if len(data)%2 == 1 {
		w.WriteByte(0)
	}
}

// exifStrings is a TIFF directory of texts, sorted by tag as it must be.
func exifStrings(list []Text) []byte {
	const model, ascii, entrySize, header = 0x0110, 2, 12, 8
	dir := binary.LittleEndian.AppendUint16(nil, uint16(len(list)))
	at := header + 2 + entrySize*len(list) + 4
	var values []byte
	for i := len(list) - 1; i >= 0; i-- {
		value := append([]byte(list[i].Key+":"+list[i].Value), 0)
		dir = binary.LittleEndian.AppendUint16(dir, uint16(model-i))
		dir = binary.LittleEndian.AppendUint16(dir, ascii)
		dir = binary.LittleEndian.AppendUint32(dir, uint32(len(value)))
		if len(value) <= 4 {
			dir = append(dir, append(value, 0, 0, 0)[:4]...)
			continue
		}
		dir = binary.LittleEndian.AppendUint32(dir, uint32(at+len(values)))
		values = append(values, value...)
	}
	dir = append(dir, 0, 0, 0, 0) // no further directory
	return append(append([]byte("II*\x00\x08\x00\x00\x00"), dir...), values...)
}
