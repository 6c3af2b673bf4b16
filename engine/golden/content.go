package golden

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/comfyrun/comfyrun/engine/compare"
	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// Content is what a golden says.
type Content struct {
	Picture imagefile.Picture // empty for a digest
	Digest  string            // of the pixels, see compare.Digest
	Engine  string            // the versions that made it, see Stamp; "" where it does not tell
}

// Stamp names what draws pictures: versions of the program and of ONNX Runtime.
func Stamp(program, runtime string) string { return program + " onnxruntime-" + runtime }

var digestLine = regexp.MustCompile(`^([0-9a-f]{64})(?:[ \t]+(\d+x\d+)(?:[ \t]+(\S.*?))?)?\s*$`)

// Read reads a golden.
func (f File) Read() (Content, error) {
	data, err := os.ReadFile(f.Path)
	if err != nil {
		return Content{}, fmt.Errorf("read golden: %w", err)
	}
	c, err := f.parse(data)
	if err != nil {
		return c, fmt.Errorf("read golden %s: %w", f.Path, err)
	}
	return c, nil
}

func (f File) parse(data []byte) (Content, error) {
	if f.IsDigest() {
		m := digestLine.FindStringSubmatch(string(data))
		if m == nil {
			return Content{}, fmt.Errorf("not of the form SHA256 WIDTHxHEIGHT VERSIONS, on one line")
		}
		return Content{Digest: m[1], Engine: m[3]}, nil
	}
	p, err := decode(data)
	if err != nil {
		return Content{}, err
	}
	return Content{Picture: p, Digest: compare.Digest(p), Engine: engineOf(data)}, nil
}

// Engine returns the versions that made a golden, see Stamp; "" where it does not
// tell, or cannot be read.
func (f File) Engine() string {
	data, err := os.ReadFile(f.Path)
	if err != nil {
		return ""
	}
	if m := digestLine.FindStringSubmatch(string(data)); f.IsDigest() && m != nil {
		return m[3]
	}
	return engineOf(data)
}

// decode reads the first frame of a picture file.
func decode(data []byte) (imagefile.Picture, error) {
	frames, err := imagefile.Decode(data, 0)
	if err != nil {
		return imagefile.Picture{}, err
	}
	return frames[0], nil
}

// engineOf reads the versions from the receipt that a picture carries.
func engineOf(data []byte) string {
	texts, err := imagefile.ReadText(bytes.NewReader(data))
	if err != nil {
		return ""
	}
	for _, t := range texts {
		var receipt struct {
			Engine struct{ Comfyrun, ONNXRuntime string }
		}
		if t.Key == "receipt" && json.Unmarshal([]byte(t.Value), &receipt) == nil && receipt.Engine.Comfyrun != "" {
			return Stamp(receipt.Engine.Comfyrun, receipt.Engine.ONNXRuntime)
		}
	}
	return ""
}

// DigestText is the content of a golden that holds a digest. The versions in it
// tell a later run whether the program is still the same.
func DigestText(p imagefile.Picture, stamp string) []byte {
	return []byte(strings.TrimSpace(fmt.Sprintf("%s  %dx%d  %s", compare.Digest(p), p.Width, p.Height, stamp)) + "\n")
}
