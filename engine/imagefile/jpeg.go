package imagefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
)

// The JPEG decoder is our own because two decoders agree only when they use
// the same inverse cosine transform and the same chroma filter: Go's own
// differs from libjpeg's by up to 3 levels in every thirtieth byte. Names and
// tables follow ITU-T T.81; sequential and progressive Huffman coding with 8
// bits are read, which is everything that is in use.

// Markers of T.81, table B.1.
const (
	markSOF0, markSOF1, markSOF2 = 0xc0, 0xc1, 0xc2
	markDHT                      = 0xc4
	markRST0, markRST7           = 0xd0, 0xd7
	markSOI, markEOI, markSOS    = 0xd8, 0xd9, 0xda
	markDQT, markDRI             = 0xdb, 0xdd
	markAPP0, markAPP14          = 0xe0, 0xee
)

const blockLen = 64

// component is one channel of a JPEG picture.
type component struct {
	id, h, v, table byte // sampling factors and quantisation table
	width, height   int  // in samples
	across, down    int  // in blocks, padded to whole units
	coefs           []int16
	dc              int32 // prediction
}

type jpegDecoder struct {
	bits
	width, height int
	progressive   bool
	comps         []component
	hMax, vMax    byte
	quant         [4][blockLen]uint16
	huff          [2][4]huffman // DC and AC
	restart       int
	eobRun        int
	jfif, adobe   bool
	transform     byte
}

func decodeJPEG(data []byte) ([]Picture, error) {
	d := &jpegDecoder{bits: bits{data: data, at: 2}}
	if err := d.segments(); err != nil {
		return nil, err
	}
	return []Picture{d.picture()}, nil
}

// jpegConfig reads the size from the frame header.
func jpegConfig(data []byte) (image.Config, error) {
	d := &jpegDecoder{bits: bits{data: data, at: 2}}
	for {
		marker, body, err := d.segment()
		if err != nil {
			return image.Config{}, err
		}
		if isFrame(marker) {
			if len(body) < 6 {
				return image.Config{}, errors.New("frame header is too short")
			}
			return image.Config{Width: int(binary.BigEndian.Uint16(body[3:])), Height: int(binary.BigEndian.Uint16(body[1:]))}, nil
		}
		if marker == markSOS || marker == markEOI {
			return image.Config{}, errors.New("no frame header")
		}
	}
}

// isFrame accepts all frame types, also those that the decoder refuses later.
func isFrame(marker byte) bool {
	return marker >= markSOF0 && marker <= 0xcf && marker != markDHT && marker != 0xc8 && marker != 0xcc
}

// segment reads the next marker and what belongs to it.
func (d *jpegDecoder) segment() (marker byte, body []byte, err error) {
	for {
		for d.at < len(d.data) && d.data[d.at] != 0xff {
			d.at++ // left over from a damaged scan
		}
		for d.at < len(d.data) && d.data[d.at] == 0xff {
			d.at++
		}
		if d.at >= len(d.data) {
			return 0, nil, io.ErrUnexpectedEOF
		}
		marker = d.data[d.at]
		d.at++
		if marker == markEOI {
			return marker, nil, nil
		}
		if marker == 0 || marker >= markRST0 && marker <= markSOI {
			continue
		}
		if d.at+2 > len(d.data) {
			return 0, nil, io.ErrUnexpectedEOF
		}
		size := int(binary.BigEndian.Uint16(d.data[d.at:]))
		if size < 2 || d.at+size > len(d.data) {
			return 0, nil, io.ErrUnexpectedEOF
		}
		body = d.data[d.at+2 : d.at+size]
		d.at += size
		return marker, body, nil
	}
}

// segments reads the whole file. A file that ends within or after its first
// scan is shown as far as it goes, as ComfyUI does.
func (d *jpegDecoder) segments() error {
	scans := 0
	for {
		marker, body, err := d.segment()
		if errors.Is(err, io.ErrUnexpectedEOF) && scans > 0 || marker == markEOI && scans > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case marker == markEOI:
			return errors.New("no scan")
		case marker == markSOS:
			scans++
			err = d.scan(body)
		case isFrame(marker):
			err = d.frame(marker, body)
		default:
			err = d.tables(marker, body)
		}
		if err != nil {
			return err
		}
	}
}

func (d *jpegDecoder) tables(marker byte, body []byte) error {
	switch marker {
	case markDQT:
		return d.quantisation(body)
	case markDHT:
		return d.huffmanTables(body)
	case markDRI:
		if len(body) < 2 {
			return errors.New("restart interval is too short")
		}
		d.restart = int(binary.BigEndian.Uint16(body))
	case markAPP0:
		d.jfif = d.jfif || len(body) >= 5 && string(body[:5]) == "JFIF\x00"
	case markAPP14:
		if len(body) >= 12 && string(body[:5]) == "Adobe" {
			d.adobe, d.transform = true, body[11]
		}
	}
	return nil
}

func (d *jpegDecoder) quantisation(body []byte) error {
	for len(body) > 0 {
		wide, id := int(body[0]>>4), body[0]&15
		size := blockLen * (wide + 1)
		if wide > 1 || id > 3 || len(body) < 1+size {
			return errors.New("broken quantisation table")
		}
		for i := range blockLen {
			v := uint16(body[1+i])
			if wide == 1 {
				v = binary.BigEndian.Uint16(body[1+2*i:])
			}
			d.quant[id][zigzag[i]] = v
		}
		body = body[1+size:]
	}
	return nil
}

func (d *jpegDecoder) frame(marker byte, body []byte) error {
	switch {
	case d.comps != nil:
		return errors.New("two frame headers")
	case marker > markSOF2:
		return fmt.Errorf("coding process %#x (lossless, hierarchical or arithmetic) is not read", marker)
	case len(body) < 6 || len(body) < 6+3*int(body[5]):
		return errors.New("frame header is too short")
	case body[0] != 8:
		return fmt.Errorf("%d bits per sample are not read, only 8", body[0])
	}
	n := int(body[5])
	d.progressive = marker == markSOF2
	d.height, d.width = int(binary.BigEndian.Uint16(body[1:])), int(binary.BigEndian.Uint16(body[3:]))
	if d.width == 0 || d.height == 0 || n != 1 && n != 3 && n != 4 {
		return fmt.Errorf("%dx%d with %d components", d.width, d.height, n)
	}
	for i := range n {
		b := body[6+3*i:]
		c := component{id: b[0], h: b[1] >> 4, v: b[1] & 15, table: b[2]}
		if c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 || c.table > 3 {
			return fmt.Errorf("component %d: sampling %dx%d, table %d", c.id, c.h, c.v, c.table)
		}
		d.comps = append(d.comps, c)
		d.hMax, d.vMax = max(d.hMax, c.h), max(d.vMax, c.v)
	}
	for i := range d.comps {
		if err := d.comps[i].allocate(d); err != nil {
			return err
		}
	}
	return nil
}

func (c *component) allocate(d *jpegDecoder) error {
	if d.hMax%c.h != 0 || d.vMax%c.v != 0 {
		return fmt.Errorf("component %d: sampling %dx%d does not divide %dx%d", c.id, c.h, c.v, d.hMax, d.vMax)
	}
	up := func(n, of int) int { return (n + of - 1) / of }
	c.width, c.height = up(d.width*int(c.h), int(d.hMax)), up(d.height*int(c.v), int(d.vMax))
	c.across = up(d.width, 8*int(d.hMax)) * int(c.h)
	c.down = up(d.height, 8*int(d.vMax)) * int(c.v)
	c.coefs = make([]int16, c.across*c.down*blockLen)
	return nil
}

// picture transforms all blocks and converts the colours.
func (d *jpegDecoder) picture() Picture {
	planes := make([]plane, len(d.comps))
	for i := range d.comps {
		planes[i] = d.comps[i].samples(&d.quant[d.comps[i].table])
	}
	p := newPicture(d.width, d.height)
	rows := make([][]byte, len(planes))
	for y := range p.Height {
		for i, c := range d.comps {
			rows[i] = planes[i].jpegRow(y, int(d.hMax/c.h), int(d.vMax/c.v), p.Width)
		}
		d.convert(p.RGB[3*y*p.Width:3*(y+1)*p.Width], rows)
	}
	return p
}

// convert turns one row of samples into colours. Files without a word on it
// are YCbCr, unless their components are called R, G and B.
func (d *jpegDecoder) convert(dst []byte, rows [][]byte) {
	luma := d.jfif || !d.adobe && !d.namedRGB() || d.adobe && d.transform != 0
	for x := range len(dst) / 3 {
		px := dst[3*x : 3*x+3]
		switch {
		case len(rows) == 1:
			px[0], px[1], px[2] = rows[0][x], rows[0][x], rows[0][x]
		case len(rows) == 3 && luma, len(rows) == 4 && d.adobe && d.transform == 2:
			px[0], px[1], px[2] = jpegRGB(int32(rows[0][x]), int32(rows[1][x])-128, int32(rows[2][x])-128)
		default:
			px[0], px[1], px[2] = rows[0][x], rows[1][x], rows[2][x]
		}
		if len(rows) == 4 {
			d.applyBlack(px, rows[3][x])
		}
	}
}

// applyBlack makes RGB of CMYK. Files hold inks the Adobe way, 255 meaning no
// ink; YCCK converts to inks as they are.
func (d *jpegDecoder) applyBlack(px []byte, black byte) {
	light := uint32(black)
	for c := range px {
		ink := uint32(255 - px[c])
		if d.adobe && d.transform == 2 {
			ink = uint32(px[c])
		}
		t := ink*light + 128
		px[c] = uint8(light - (t>>8+t)>>8)
	}
}

func (d *jpegDecoder) namedRGB() bool {
	return len(d.comps) == 3 && d.comps[0].id == 'R' && d.comps[1].id == 'G' && d.comps[2].id == 'B'
}
