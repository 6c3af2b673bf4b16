package webtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// pngModes are Pillow's words for the colour types of a PNG.
var pngModes = map[byte]string{0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}

// differences compares a picture file. Of lossy ones only format and size count.
func (want *Picture) differences(data []byte) []Difference {
	frames, err := imagefile.Decode(data, 0)
	if err != nil {
		return []Difference{{"image", want.Format, err.Error()}}
	}
	var out []Difference
	differ := func(what, a, b string) {
		if a != b {
			out = append(out, Difference{"image/" + what, a, b})
		}
	}
	format := formatOf(data)
	differ("format", want.Format, format)
	differ("size", fmt.Sprintf("%dx%d", want.Width, want.Height), fmt.Sprintf("%dx%d", frames[0].Width, frames[0].Height))
	if format != "PNG" || want.Format != "PNG" {
		return out
	}
	const colourType = 25 // of the header
	differ("mode", want.Mode, pngModes[data[colourType]])
	if want.Pixels != "" {
		differ("pixels", want.Pixels, pixels(frames[0]))
	}
	return append(out, want.compareText(data)...)
}

func formatOf(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("\x89PNG")):
		return "PNG"
	case bytes.HasPrefix(data, []byte("\xff\xd8")):
		return "JPEG"
	case len(data) > 12 && string(data[8:12]) == "WEBP":
		return "WEBP"
	}
	return "another one"
}

func pixels(p imagefile.Picture) string {
	h := sha256.New()
	for i := range p.Width * p.Height {
		alpha := byte(255)
		if p.Alpha != nil {
			alpha = p.Alpha[i]
		}
		h.Write(append(slices.Clone(p.RGB[3*i:3*i+3]), alpha))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// compareText compares the text chunks of a PNG, which hold JSON or, where the recording is a string, any text.
func (want *Picture) compareText(data []byte) []Difference {
	texts, err := imagefile.ReadText(bytes.NewReader(data))
	if err != nil {
		return []Difference{{"image/text", "text chunks", err.Error()}}
	}
	var out []Difference
	for _, text := range texts {
		recorded, ok := want.Text[text.Key]
		if !ok {
			out = append(out, Difference{"image/text/" + text.Key, "nothing", text.Value})
			continue
		}
		var plain string
		if json.Unmarshal(recorded, &plain) == nil && plain == text.Value {
			continue
		}
		out = append(out, Compare("image/text/"+text.Key, recorded, []byte(text.Value))...)
	}
	if len(texts) < len(want.Text) {
		out = append(out, Difference{"image/text", fmt.Sprintf("%d texts", len(want.Text)), fmt.Sprintf("%d", len(texts))})
	}
	return out
}
