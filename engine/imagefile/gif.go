package imagefile

import (
	"bytes"
	"image"
	"image/gif"
)

// decodeGIF paints the frames one over the other, as a player shows them.
func decodeGIF(data []byte) ([]Picture, error) {
	g, err := gif.DecodeAll(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	canvas := newPicture(g.Config.Width, g.Config.Height)
	canvas.Alpha = make([]byte, canvas.Width*canvas.Height)
	var frames []Picture
	_, colours := gifFrames(data)
	for i, img := range g.Image {
		before := canvas.clone()
		if i == 0 {
			canvas.underpaint(img, colours)
		}
		canvas.paint(img)
		frames = append(frames, canvas.clone())
		switch g.Disposal[i] {
		case gif.DisposalBackground:
			canvas.clear(img.Rect)
		case gif.DisposalPrevious:
			canvas = before
		}
	}
	for i := range frames {
		if frames[i].opaque() {
			frames[i].Alpha = nil
		}
	}
	return frames, nil
}

func (p Picture) clone() Picture {
	p.RGB, p.Alpha = bytes.Clone(p.RGB), bytes.Clone(p.Alpha)
	return p
}

func (p Picture) opaque() bool {
	return len(bytes.TrimLeft(p.Alpha, "\xff")) == 0
}

// underpaint gives the transparent pixels of the first frame the colours that
// the file's table has for them, as Pillow does; Go's decoder drops them.
func (p Picture) underpaint(img *image.Paletted, colours []byte) {
	r := img.Rect.Intersect(image.Rect(0, 0, p.Width, p.Height))
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			if i := 3 * int(img.ColorIndexAt(x, y)); i+3 <= len(colours) {
				copy(p.RGB[3*(y*p.Width+x):], colours[i:i+3])
			}
		}
	}
}

// paint copies the pixels of a frame that are not transparent.
func (p Picture) paint(img *image.Paletted) {
	r := img.Rect.Intersect(image.Rect(0, 0, p.Width, p.Height))
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			index := int(img.ColorIndexAt(x, y))
			if index >= len(img.Palette) {
				continue
			}
			red, green, blue, alpha := img.Palette[index].RGBA()
			if alpha == 0 {
				continue
			}
			at := y*p.Width + x
			p.RGB[3*at], p.RGB[3*at+1], p.RGB[3*at+2] = uint8(red>>8), uint8(green>>8), uint8(blue>>8)
			p.Alpha[at] = 255
		}
	}
}

// clear makes a rectangle transparent.
func (p Picture) clear(r image.Rectangle) {
	r = r.Intersect(image.Rect(0, 0, p.Width, p.Height))
	for y := r.Min.Y; y < r.Max.Y; y++ {
		at, n := y*p.Width+r.Min.X, r.Dx()
		clear(p.RGB[3*at : 3*(at+n)])
		clear(p.Alpha[at : at+n])
	}
}

// gifFrames counts the frames without decoding them, so that a small file
// cannot ask for more memory than allowed, and finds the colour table of the
// first one. The number is at least 1.
func gifFrames(data []byte) (n int64, colours []byte) {
	const headerLen, extension, descriptor, descriptorLen = 13, 0x21, 0x2c, 10
	if len(data) < headerLen {
		return 1, nil
	}
	at := headerLen + colorTable(data[10])
	colours = data[headerLen:min(at, len(data))]
	for at < len(data) && (data[at] == extension || data[at] == descriptor) {
		if data[at] == extension {
			at = afterBlocks(data, at+2)
			continue
		}
		n++
		if at+descriptorLen > len(data) {
			break
		}
		local := colorTable(data[at+9])
		at += descriptorLen
		if n == 1 && local > 0 {
			colours = data[at:min(at+local, len(data))]
		}
		at = afterBlocks(data, at+local+1)
	}
	return max(n, 1), colours
}

// colorTable is the length of the table that the flags announce.
func colorTable(flags byte) int {
	if flags&0x80 == 0 {
		return 0
	}
	return 3 << (flags&7 + 1)
}

// afterBlocks skips data blocks up to the empty one.
func afterBlocks(data []byte, at int) int {
	for at < len(data) && data[at] != 0 {
		at += 1 + int(data[at])
	}
	return at + 1
}
