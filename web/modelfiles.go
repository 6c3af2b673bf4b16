package web

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// maxHeader bounds the header of a safetensors file that is read for a client.
const maxHeader = 1 << 20

var (
	errIndex    = errors.New("preview model: no directory of this index")
	errMetadata = errors.New("read metadata: no safetensors file, or none in it")
)

// readMetadata returns the __metadata__ of a safetensors file's header: eight bytes of its length, little-endian, and
// then a JSON object.
func readMetadata(name string) (json.RawMessage, error) {
	if !strings.HasSuffix(name, ".safetensors") {
		return nil, errMetadata
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var size uint64
	if err := binary.Read(file, binary.LittleEndian, &size); err != nil || size > maxHeader {
		return nil, errMetadata
	}
	data, err := io.ReadAll(io.LimitReader(file, int64(size)))
	if err != nil {
		return nil, err
	}
	var header struct {
		Metadata json.RawMessage `json:"__metadata__"`
	}
	if err := json.Unmarshal(data, &header); err != nil || len(header.Metadata) == 0 || string(header.Metadata) == "null" {
		return nil, errMetadata
	}
	return header.Metadata, nil
}

// pictureEndings are those of the pictures that stand beside models.
var pictureEndings = []string{".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}

// preview reads the picture of a model in one of its folder's directories. The name is read as if the directory were the
// root of the file system. Links are followed: stores of models are made of them, and clients cannot make any.
func (s *Server) preview(c *gin.Context, dir, name string) (imagefile.Picture, error) {
	model := filepath.Join(dir, filepath.Clean(string(filepath.Separator)+filepath.FromSlash(name)))
	select {
	case s.renders <- struct{}{}:
		defer func() { <-s.renders }()
	case <-c.Request.Context().Done():
		return imagefile.Picture{}, c.Request.Context().Err()
	}
	stem := strings.TrimSuffix(model, filepath.Ext(model))
	for _, middle := range []string{"", ".preview"} {
		for _, ending := range pictureEndings {
			if p, err := readPicture(stem + middle + ending); err == nil {
				return p, nil
			}
		}
	}
	return coverPicture(model)
}

func readPicture(name string) (imagefile.Picture, error) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return imagefile.Picture{}, fmt.Errorf("read picture %s: no file", name)
	}
	file, err := os.Open(name)
	if err != nil {
		return imagefile.Picture{}, err
	}
	defer file.Close()
	return decodePicture(file)
}

// coverPicture is the first picture in a model's metadata: a JSON list of pictures in base64.
func coverPicture(model string) (imagefile.Picture, error) {
	raw, err := readMetadata(model)
	if err != nil {
		return imagefile.Picture{}, err
	}
	var metadata struct {
		Covers string `json:"ssmd_cover_images"`
	}
	var covers []string
	if json.Unmarshal(raw, &metadata) != nil || json.Unmarshal([]byte(metadata.Covers), &covers) != nil || len(covers) == 0 {
		return imagefile.Picture{}, errMetadata
	}
	return decodePicture(base64.NewDecoder(base64.StdEncoding, strings.NewReader(covers[0])))
}
