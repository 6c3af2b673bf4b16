package workflows

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// ErrNoWorkflow says that a picture carries no workflow.
var ErrNoWorkflow = errors.New("the picture carries no workflow")

// Embedded is the workflows that a picture carries, as JSON; a member that is not there is nil.
type Embedded struct {
	// Prompt is what was run, in the API format.
	Prompt []byte
	// Workflow is what the editor showed, in the UI format.
	Workflow []byte
}

const (
	pngSignature = "\x89PNG\r\n\x1a\n"
	jpegStart    = "\xff\xd8\xff"
)

// IsPicture reports whether data begins as a picture does: PNG, WebP or JPEG.
func IsPicture(data []byte) bool {
	return bytes.HasPrefix(data, []byte(pngSignature)) || isWebP(data) || bytes.HasPrefix(data, []byte(jpegStart))
}

func isWebP(data []byte) bool {
	return len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP"
}

// FromPicture returns the workflows that ComfyUI wrote into a picture: the text chunks of a PNG, also of an animated
// one, or the EXIF data of a WebP. Without any it gives [ErrNoWorkflow]; JPEG has none, as ComfyUI writes no JPEG. No
// pixel is decoded, and no text of more than [MaxBytes] is read.
func FromPicture(data []byte) (Embedded, error) {
	var e Embedded
	var err error
	switch {
	case bytes.HasPrefix(data, []byte(pngSignature)):
		err = e.readPNG(data[len(pngSignature):])
	case isWebP(data):
		err = e.readWebP(data[12:])
	case bytes.HasPrefix(data, []byte(jpegStart)):
		err = fmt.Errorf("%w: ComfyUI writes none into JPEG", ErrNoWorkflow)
	default:
		err = errors.New("no PNG, WebP or JPEG")
	}
	if err == nil && e.Prompt == nil && e.Workflow == nil {
		err = ErrNoWorkflow
	}
	if err != nil {
		return Embedded{}, fmt.Errorf("read workflow of picture: %w", err)
	}
	return e, nil
}

// add keeps a text if it is one of the two; the first of a name counts.
func (e *Embedded) add(key string, value []byte) {
	switch member := map[string]*[]byte{"prompt": &e.Prompt, "workflow": &e.Workflow}[strings.ToLower(key)]; {
	case member == nil || *member != nil:
	default:
		*member = bytes.Clone(value)
	}
}

func (e *Embedded) readPNG(data []byte) error {
	for len(data) >= 8 {
		n := int64(binary.BigEndian.Uint32(data))
		kind := string(data[4:8])
		if n+12 > int64(len(data)) {
			return fmt.Errorf("PNG chunk %.4q of %d bytes is cut off", kind, n)
		}
		if err := e.pngChunk(kind, data[8:8+n]); err != nil {
			return fmt.Errorf("PNG chunk %s: %w", kind, err)
		}
		if kind == "IEND" {
			return nil
		}
		data = data[n+12:]
	}
	return nil
}

// pngChunk reads a chunk of text: a key, NUL, the text. tEXt and ComfyUI's own comf hold Latin-1, iTXt UTF-8.
func (e *Embedded) pngChunk(kind string, data []byte) error {
	key, rest, ok := bytes.Cut(data, []byte{0})
	if !ok {
		return nil
	}
	var err error
	switch kind {
	case "tEXt", "comf":
	case "zTXt":
		if len(rest) < 1 || rest[0] != 0 {
			return nil
		}
		rest, err = inflate(rest[1:])
	case "iTXt":
		rest, err = internationalText(rest)
		if err == nil {
			e.add(string(key), rest)
		}
		return err
	default:
		return nil
	}
	if err == nil {
		e.add(string(key), fromLatin1(rest))
	}
	return err
}

// internationalText reads what follows the key of an iTXt chunk: compression flag and method, language, NUL, translated
// key, NUL, text.
func internationalText(data []byte) ([]byte, error) {
	if len(data) < 2 {
		return nil, errors.New("cut off")
	}
	packed := data[0] != 0
	parts := bytes.SplitN(data[2:], []byte{0}, 3)
	if len(parts) < 3 {
		return nil, errors.New("cut off")
	}
	if packed {
		return inflate(parts[2])
	}
	return parts[2], nil
}

func inflate(data []byte) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err == nil && len(out) > MaxBytes {
		err = fmt.Errorf("unpacked more than %d MiB", MaxBytes>>20)
	}
	return out, err
}

// fromLatin1 brings text to UTF-8. ComfyUI escapes all that is not ASCII; programs that put UTF-8 there against the
// rules are taken at their word.
func fromLatin1(text []byte) []byte {
	if utf8.Valid(text) {
		return text
	}
	out := make([]byte, 0, len(text)*2)
	for _, c := range text {
		out = utf8.AppendRune(out, rune(c))
	}
	return out
}

func (e *Embedded) readWebP(data []byte) error {
	for len(data) >= 8 {
		kind, n := string(data[:4]), int64(binary.LittleEndian.Uint32(data[4:]))
		if n+8 > int64(len(data)) {
			return fmt.Errorf("WebP chunk %.4q of %d bytes is cut off", kind, n)
		}
		if kind == "EXIF" {
			return e.readExif(bytes.TrimPrefix(data[8:8+n], []byte("Exif\x00\x00")))
		}
		data = data[min(n+8+n&1, int64(len(data))):]
	}
	return nil
}

// readExif reads the ASCII tags of the first directory; each holds key:JSON.
func (e *Embedded) readExif(data []byte) error {
	if len(data) < 8 {
		return errors.New("EXIF data is cut off")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if string(data[:2]) == "MM" {
		order = binary.BigEndian
	}
	start := int64(order.Uint32(data[4:]))
	if start+2 > int64(len(data)) {
		return errors.New("EXIF directory is cut off")
	}
	count := int(order.Uint16(data[start:]))
	for i := range count {
		at := start + 2 + int64(i)*12
		if at+12 > int64(len(data)) {
			return errors.New("EXIF directory is cut off")
		}
		if err := e.exifTag(data, data[at:at+12], order); err != nil {
			return err
		}
	}
	return nil
}

// exifTag reads one entry of the directory: tag, type, count, value or its place.
func (e *Embedded) exifTag(data, entry []byte, order binary.ByteOrder) error {
	const ascii = 2
	if order.Uint16(entry[2:]) != ascii {
		return nil
	}
	n := int64(order.Uint32(entry[4:]))
	value := entry[8:]
	if n > 4 {
		at := int64(order.Uint32(entry[8:]))
		if at+n > int64(len(data)) {
			return fmt.Errorf("EXIF tag 0x%04x is cut off", order.Uint16(entry))
		}
		value = data[at:]
	}
	key, text, ok := bytes.Cut(bytes.TrimRight(value[:n], "\x00"), []byte{':'})
	if ok {
		e.add(string(key), text)
	}
	return nil
}
