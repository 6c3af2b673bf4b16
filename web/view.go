package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine/imagefile"
)

const (
	// maxPictureFile and maxPixels bound what is decoded for a client.
	maxPictureFile = 256 << 20
	maxPixels      = 100 << 20
	defaultQuality = 90
)

// view answers GET /view: a file as it is, one channel of a picture, or a smaller copy of it.
func (s *Server) view(c *gin.Context) {
	file, info, err := s.openQuery(c)
	if err != nil {
		s.answerFileError(c, err)
		return
	}
	defer file.Close()
	name := filepath.Base(info.Name())
	c.Header("Content-Disposition", `filename="`+quotable(name)+`"`)
	r, convert := rendering(c)
	if !convert {
		sendStored(c, file, info, harmless(contentType(name)))
		return
	}
	if err := s.render(c, file, r); err != nil {
		c.Writer.Header().Del("Content-Disposition")
		s.answerTrouble(c, err)
	}
}

func (s *Server) openQuery(c *gin.Context) (*os.File, os.FileInfo, error) {
	ref, err := fileQuery(c)
	if err != nil {
		return nil, nil, err
	}
	return s.openReference(c.Request.Context(), ref)
}

// openReference opens the file that a client names, from elsewhere if need be. Errors are refusals, unless a folder cannot be opened.
func (s *Server) openReference(ctx context.Context, ref reference) (*os.File, os.FileInfo, error) {
	file, info, err := s.openStored(ref)
	if err == fileRefusal(http.StatusNotFound) && s.fetchCopy(ctx, ref) {
		return s.openStored(ref)
	}
	return file, info, err
}

// openStored opens a file that is in its folder.
func (s *Server) openStored(ref reference) (*os.File, os.FileInfo, error) {
	kind, name, err := ref.locate()
	if err != nil {
		return nil, nil, err
	}
	root, err := s.folders[kind].open()
	if err != nil {
		return nil, nil, err
	}
	file, info, err := openFile(root, name)
	if err != nil {
		return nil, nil, fileRefusal(http.StatusNotFound)
	}
	return file, info, nil
}

// fetchCopy brings a picture into its folder that a worker on another machine has saved, and reports whether it did.
func (s *Server) fetchCopy(ctx context.Context, ref reference) bool {
	kind, name, err := ref.locate()
	if err != nil || s.Copies == nil || kind == inputFolder {
		return false
	}
	root, err := s.folders[kind].open()
	if err != nil {
		return false
	}
	content, write := io.Pipe()
	go func() { write.CloseWithError(s.Copies.Fetch(ctx, kind, filepath.ToSlash(name), write)) }()
	err = replaceFile(root, name, content)
	content.CloseWithError(err) // frees the writer when the disk is full
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Log.Warn("a picture cannot be brought", "kind", kind, "name", name, "err", err)
	}
	return err == nil
}

// quotable makes a name fit between the quotes of a header.
func quotable(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r == 0x7f {
			return '_'
		}
		return r
	}, name)
}

// rendition is the form in which a picture is asked for.
type rendition struct {
	contentType string
	quality     int  // of a JPEG, 1 to 100
	opaque      bool // without its alpha channel
	alphaOnly   bool // black, with its alpha channel
}

// rendering reads the parameters preview and channel; false: the file is wanted as it is. A preview is WebP unless JPEG
// is asked for, and WebP always when the channel's name has an "a" in it.
func rendering(c *gin.Context) (rendition, bool) {
	channel := c.Query("channel")
	preview, ok := c.GetQuery("preview")
	if !ok {
		r := rendition{contentType: "image/png", opaque: channel == "rgb", alphaOnly: channel == "a"}
		return r, r.opaque || r.alphaOnly
	}
	parts := strings.Split(preview, ";")
	r := rendition{contentType: "image/webp", quality: quality(parts[len(parts)-1]), opaque: channel == "rgb"}
	if parts[0] == "jpeg" && !strings.Contains(channel, "a") {
		r.contentType, r.opaque = "image/jpeg", true
	}
	return r, true
}

func quality(text string) int {
	q, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return defaultQuality
	}
	return int(min(max(q, 1), 100))
}

// render answers with a rendition of a picture. Few are made at a time: each holds all of its pixels.
func (s *Server) render(c *gin.Context, file io.Reader, r rendition) error {
	select {
	case s.renders <- struct{}{}:
		defer func() { <-s.renders }()
	case <-c.Request.Context().Done():
		return c.Request.Context().Err()
	}
	p, err := decodePicture(file)
	if err != nil {
		return err
	}
	return answerPicture(c, r, p)
}

// answerPicture ends a request with a rendition of a picture.
func answerPicture(c *gin.Context, r rendition, p imagefile.Picture) error {
	var out bytes.Buffer
	if err := r.write(&out, p); err != nil {
		return fmt.Errorf("write %s: %w", r.contentType, err)
	}
	answerBytes(c, http.StatusOK, r.contentType, out.Bytes())
	return nil
}

// decodePicture reads the first frame of a picture within the bounds.
func decodePicture(file io.Reader) (imagefile.Picture, error) {
	data, err := io.ReadAll(io.LimitReader(file, maxPictureFile+1))
	if err != nil {
		return imagefile.Picture{}, fmt.Errorf("read picture: %w", err)
	}
	if len(data) > maxPictureFile {
		return imagefile.Picture{}, fmt.Errorf("read picture: more than %d bytes", maxPictureFile)
	}
	frames, err := imagefile.Decode(data, maxPixels)
	if err != nil {
		return imagefile.Picture{}, fmt.Errorf("read picture: %w", err)
	}
	if len(frames) == 0 {
		return imagefile.Picture{}, errors.New("read picture: it has no frame")
	}
	return frames[0], nil
}

// write encodes a picture. WebP is lossless, whatever quality is asked for: no lossy encoder is at hand, and a larger
// file with the right pixels does no harm.
func (r rendition) write(w io.Writer, p imagefile.Picture) error {
	switch {
	case r.opaque:
		p.Alpha = nil
	case r.alphaOnly:
		p = imagefile.Picture{Width: p.Width, Height: p.Height, RGB: make([]byte, len(p.RGB)), Alpha: opaqueAlpha(p)}
	}
	switch r.contentType {
	case "image/jpeg":
		return jpeg.Encode(w, rgbImage(p), &jpeg.Options{Quality: r.quality})
	case "image/webp":
		return imagefile.Animation{Frames: []imagefile.Picture{p}}.WriteWebP(w)
	}
	return imagefile.WritePNG(w, p, imagefile.PNGOptions{Fast: true})
}

// opaqueAlpha is a picture's alpha channel, made up if it has none.
func opaqueAlpha(p imagefile.Picture) []byte {
	if p.Alpha != nil {
		return p.Alpha
	}
	alpha := make([]byte, p.Width*p.Height)
	for i := range alpha {
		alpha[i] = 255
	}
	return alpha
}

// rgbImage gives a picture without its alpha channel to Go's encoders.
func rgbImage(p imagefile.Picture) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, p.Width, p.Height))
	for i := range p.Width * p.Height {
		copy(img.Pix[4*i:4*i+3], p.RGB[3*i:])
		img.Pix[4*i+3] = 255
	}
	return img
}
