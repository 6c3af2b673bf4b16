package imagefile

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"io"
	"iter"
	"strings"
)

// Text is a keyword with a value in a PNG file: the prompt and the workflow
// that made the picture, for example.
type Text struct{ Key, Value string }

// PNGOptions are the choices in writing a PNG.
type PNGOptions struct {
	Text []Text // written before the pixels, in this order
	Fast bool   // larger file, less time
}

const (
	pngSignature  = "\x89PNG\r\n\x1a\n"
	pngHeaderEnd  = len(pngSignature) + 25 // the IHDR chunk has 13 bytes of data
	maxText       = 64 << 20               // of one compressed text, unpacked
	maxKeyword    = 79
	chunkOverhead = 12
)

// WritePNG writes a picture as an 8-bit RGB or RGBA file. A text goes into a
// tEXt chunk when Latin-1 can express it and else into an iTXt chunk.
func WritePNG(w io.Writer, p Picture, o PNGOptions) error {
	var text bytes.Buffer
	for _, t := range o.Text {
		if err := writeText(&text, t); err != nil {
			return fmt.Errorf("write png: %w", err)
		}
	}
	enc := png.Encoder{}
	if o.Fast {
		enc.CompressionLevel = png.BestSpeed
	}
	var pixels bytes.Buffer
	if err := enc.Encode(&pixels, p.encodable()); err != nil {
		return fmt.Errorf("write png: %w", err)
	}
	for _, part := range [][]byte{pixels.Bytes()[:pngHeaderEnd], text.Bytes(), pixels.Bytes()[pngHeaderEnd:]} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("write png: %w", err)
		}
	}
	return nil
}

// withAlpha keeps the encoder from dropping an alpha channel that happens to
// be opaque everywhere.
type withAlpha struct{ *image.NRGBA }

// Opaque says no.
func (withAlpha) Opaque() bool { return false }

func (p Picture) encodable() image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, p.Width, p.Height))
	for i := range p.Width * p.Height {
		copy(img.Pix[4*i:4*i+3], p.RGB[3*i:])
		img.Pix[4*i+3] = 255
		if p.Alpha != nil {
			img.Pix[4*i+3] = p.Alpha[i]
		}
	}
	if p.Alpha != nil && img.Opaque() {
		return withAlpha{img}
	}
	return img
}

func writeText(w *bytes.Buffer, t Text) error {
	key, ok := latin1(t.Key)
	if !ok || len(key) == 0 || len(key) > maxKeyword || strings.Contains(t.Key, "\x00") {
		return fmt.Errorf("keyword %q is not 1 to %d Latin-1 characters", t.Key, maxKeyword)
	}
	if value, ok := latin1(t.Value); ok && !strings.Contains(t.Value, "\x00") {
		writeChunk(w, "tEXt", key, "\x00", value)
		return nil
	}
	// Compression flag and method, language and translated keyword are empty.
	writeChunk(w, "iTXt", key, "\x00\x00\x00\x00\x00", t.Value)
	return nil
}

func writeChunk(w *bytes.Buffer, kind string, parts ...string) {
	data := kind + strings.Join(parts, "")
	w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(data)-len(kind))))
	w.WriteString(data)
	w.Write(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(data))))
}

// latin1 encodes a string with one byte per character, if that is possible.
func latin1(s string) (string, bool) {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return "", false
		}
		out = append(out, byte(r))
	}
	return string(out), true
}

func fromLatin1(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}

// ReadText returns the texts of a PNG file in order, from tEXt, zTXt and iTXt
// chunks. Chunks that are broken are left out.
func ReadText(r io.Reader) ([]Text, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read png text: %w", err)
	}
	if !bytes.HasPrefix(data, []byte(pngSignature)) {
		return nil, fmt.Errorf("read png text: not a PNG file")
	}
	var out []Text
	for c := range pngChunks(data) {
		if t, ok := c.text(); ok {
			out = append(out, t)
		}
	}
	return out, nil
}

type chunk struct {
	kind string
	data []byte
}

// pngChunks walks the chunks of a PNG file up to its end or the first chunk
// that is cut off.
func pngChunks(data []byte) iter.Seq[chunk] {
	return func(yield func(chunk) bool) {
		for at := len(pngSignature); at+chunkOverhead <= len(data); {
			size := int64(binary.BigEndian.Uint32(data[at:]))
			if int64(at)+chunkOverhead+size > int64(len(data)) {
				return
			}
			c := chunk{kind: string(data[at+4 : at+8]), data: data[at+8 : at+8+int(size)]}
			if !yield(c) || c.kind == "IEND" {
				return
			}
			at += chunkOverhead + int(size)
		}
	}
}

func (c chunk) text() (Text, bool) {
	if c.kind != "tEXt" && c.kind != "zTXt" && c.kind != "iTXt" {
		return Text{}, false
	}
	key, rest, ok := bytes.Cut(c.data, []byte{0})
	if !ok {
		return Text{}, false
	}
	t := Text{Key: fromLatin1(key)}
	switch c.kind {
	case "tEXt":
		t.Value = fromLatin1(rest)
	case "zTXt":
		if len(rest) < 1 {
			return t, false
		}
		value, ok := inflate(rest[1:])
		t.Value = fromLatin1(value)
		return t, ok
	case "iTXt":
		return internationalText(t, rest)
	}
	return t, true
}

// internationalText reads what follows the keyword of an iTXt chunk: flag,
// method, language, translated keyword, value in UTF-8.
func internationalText(t Text, rest []byte) (Text, bool) {
	if len(rest) < 2 {
		return t, false
	}
	compressed := rest[0] == 1
	_, rest, ok := bytes.Cut(rest[2:], []byte{0})
	if !ok {
		return t, false
	}
	_, value, ok := bytes.Cut(rest, []byte{0})
	if ok && compressed {
		value, ok = inflate(value)
	}
	t.Value = strings.ToValidUTF8(string(value), "\ufffd")
	return t, ok
}

func inflate(data []byte) ([]byte, bool) {
	r, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, false
	}
	out, err := io.ReadAll(io.LimitReader(r, maxText+1))
	return out, err == nil && len(out) <= maxText
}
