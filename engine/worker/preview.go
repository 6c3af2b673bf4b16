package worker

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
)

// PreviewOptions say which pictures of unfinished samplings are sent.
type PreviewOptions struct {
	Method string // "none", "auto", "latent2rgb" or "taesd"; "": none. A prompt's extra_data.preview_method wins.
	Size   int    // side of the square that a preview fits; 0: 512
}

const (
	noPreview          = "none"
	defaultPreviewSize = 512 // ComfyUI's
)

// Preview is what a node may give engine.Preview: a picture that is made only
// when somebody wants to see it.
type Preview interface {
	// Encode makes the picture by a method of PreviewOptions, scaled to fit a
	// square of the given side. No data: the method makes none. It is called at
	// most once, from another goroutine, after the node went on: what it reads
	// must not change any more.
	Encode(method string, fit int) (mime string, data []byte, err error)
}

// LastingPreview is a Preview that is a result by itself, as those of nodes that
// send finished pictures. None of them is left out, however slow the client is.
type LastingPreview interface {
	Preview
	Lasting()
}

// of returns the options of a prompt with the given extra_data.preview_method.
func (o PreviewOptions) of(method string) PreviewOptions {
	switch method {
	case noPreview, "auto", "latent2rgb", "taesd":
		o.Method = method
	}
	if o.Method == "" {
		o.Method = noPreview
	}
	if o.Size <= 0 {
		o.Size = defaultPreviewSize
	}
	return o
}

// encode makes the picture. A panic becomes an error.
func (o PreviewOptions) encode(p Preview) (mime string, data []byte, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("encode preview: panic: %v", problem)
		}
	}()
	return p.Encode(o.Method, o.Size)
}

// frame is the body of ComfyUI's binary frame 4: the length of a JSON text as
// four bytes, highest first, the text, the picture. The text is written as
// Python does, with spaces.
func frame(prompt string, at engine.Meta, mime string, picture []byte) []byte {
	text := fmt.Sprintf(`{"node_id": %s, "prompt_id": %s, "display_node_id": %s, "parent_node_id": %s, "real_node_id": %s, "image_type": %s}`,
		quoted(at.Node), quoted(prompt), quoted(at.Display), quotedOrNull(at.Parent), quoted(at.Real), quoted(mime))
	out := make([]byte, 4, 4+len(text)+len(picture))
	binary.BigEndian.PutUint32(out, uint32(len(text)))
	return append(append(out, text...), picture...)
}

func quoted(s string) string {
	text, _ := json.Marshal(s) // strings never fail
	return string(text)
}

func quotedOrNull(s string) string {
	if s == "" {
		return "null"
	}
	return quoted(s)
}
