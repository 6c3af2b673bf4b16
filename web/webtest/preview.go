package webtest

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"

	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// Previews are sent by any method and in their own size, as the recorded nodes
// make them themselves. They have the method that engine/worker asks for.
type preview struct {
	mime string
	data func() ([]byte, error)
}

// Encode makes the picture.
func (p preview) Encode(string, int) (mime string, data []byte, err error) {
	data, err = p.data()
	return p.mime, data, err
}

// lasting is a preview that is a result, of which none may be left out.
type lasting struct{ preview }

// Lasting says so to engine/worker.
func (lasting) Lasting() {}

// flatPreview is a picture of 32 by 24 pixels, scaled to fit a square of 64.
func flatPreview(format previewFormat, step int) preview {
	const width, height = 64, 48
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	colour := color.RGBA{uint8(40 * step), 10, 200, 255}
	draw.Draw(img, img.Bounds(), image.NewUniform(colour), image.Point{}, draw.Src)
	if format == "jpeg" {
		return preview{"image/jpeg", func() ([]byte, error) {
			var b bytes.Buffer
			err := jpeg.Encode(&b, img, nil)
			return b.Bytes(), err
		}}
	}
	p := imagefile.Picture{Width: width, Height: height}
	for range width * height {
		p.RGB = append(p.RGB, colour.R, colour.G, colour.B)
	}
	return picturePreview(p)
}

// picturePreview is a picture as a PNG.
func picturePreview(p imagefile.Picture) preview {
	return preview{"image/png", func() ([]byte, error) {
		var b bytes.Buffer
		if err := imagefile.WritePNG(&b, p, imagefile.PNGOptions{}); err != nil {
			return nil, fmt.Errorf("encode preview: %w", err)
		}
		return b.Bytes(), nil
	}}
}
