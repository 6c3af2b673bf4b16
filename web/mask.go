package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// uploadMask answers POST /upload/mask: the alpha channel of the picture that is sent becomes that of a stored one, and
// the result is stored as a PNG with the texts of the stored one.
func (s *Server) uploadMask(c *gin.Context) {
	s.upload(c, func(u upload) (io.Reader, error) {
		original, err := s.maskedOriginal(c.Request.Context(), u)
		if original == nil || err != nil {
			return nil, err
		}
		s.renders <- struct{}{}
		defer func() { <-s.renders }()
		return masked(original, u.file)
	})
}

// maskedOriginal reads the picture that the form's original_ref names. It is nil without an error when the reference is
// one that ComfyUI refuses: the client is not told.
func (s *Server) maskedOriginal(ctx context.Context, u upload) ([]byte, error) {
	values := u.form.Value["original_ref"]
	if len(values) == 0 {
		return nil, errors.New("read mask: original_ref is missing")
	}
	ref := reference{Type: outputFolder}
	if err := json.Unmarshal([]byte(values[0]), &ref); err != nil {
		return nil, fmt.Errorf("read mask: original_ref: %w", err)
	}
	file, _, err := s.openReference(ctx, ref)
	var refused fileRefusal
	if errors.As(err, &refused) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxPictureFile+1))
	if err != nil {
		return nil, fmt.Errorf("read mask: original: %w", err)
	}
	return data, nil
}

// masked gives a picture file the alpha channel of a mask file.
func masked(original []byte, mask io.Reader) (io.Reader, error) {
	p, err := decodePicture(bytes.NewReader(original))
	if err != nil {
		return nil, fmt.Errorf("original: %w", err)
	}
	m, err := decodePicture(mask)
	if err != nil {
		return nil, fmt.Errorf("mask: %w", err)
	}
	if m.Width != p.Width || m.Height != p.Height {
		return nil, fmt.Errorf("mask: %d by %d pixels for a picture of %d by %d", m.Width, m.Height, p.Width, p.Height)
	}
	p.Alpha = opaqueAlpha(m)
	text, _ := imagefile.ReadText(bytes.NewReader(original)) // what is no PNG has none
	var out bytes.Buffer
	if err := imagefile.WritePNG(&out, p, imagefile.PNGOptions{Text: text}); err != nil {
		return nil, err
	}
	return &out, nil
}
