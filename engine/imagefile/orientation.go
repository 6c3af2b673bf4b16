package imagefile

import (
	"bytes"
	"encoding/binary"
)

// Orientation values as the TIFF and EXIF standards number them.
const (
	upright       = 1
	tagOrient     = 0x0112
	typeShort     = 3
	exifPrefix    = "Exif\x00\x00"
	tiffHeaderLen = 8
	ifdEntryLen   = 12
)

// tiffOrientation reads the orientation from a TIFF structure, the content of
// an EXIF block. Anything broken counts as upright.
func tiffOrientation(data []byte) int {
	data = bytes.TrimPrefix(data, []byte(exifPrefix))
	if len(data) < tiffHeaderLen {
		return upright
	}
	var order binary.ByteOrder
	switch string(data[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return upright
	}
	at := int64(order.Uint32(data[4:]))
	if at+2 > int64(len(data)) {
		return upright
	}
	entries := data[at+2:]
	for range order.Uint16(data[at:]) {
		if len(entries) < ifdEntryLen {
			return upright
		}
		if order.Uint16(entries) == tagOrient && order.Uint16(entries[2:]) == typeShort {
			if o := int(order.Uint16(entries[8:])); o >= 1 && o <= 8 {
				return o
			}
		}
		entries = entries[ifdEntryLen:]
	}
	return upright
}

// jpegOrientation looks for an EXIF block among the segments before the
// picture data.
func jpegOrientation(data []byte) int {
	const markerSOS, markerAPP1 = 0xda, 0xe1
	for at := 2; at+4 <= len(data) && data[at] == 0xff; {
		marker := data[at+1]
		if marker == 0xff { // padding
			at++
			continue
		}
		size := int(binary.BigEndian.Uint16(data[at+2:]))
		if marker == markerSOS || size < 2 || at+2+size > len(data) {
			break
		}
		if body := data[at+4 : at+2+size]; marker == markerAPP1 && bytes.HasPrefix(body, []byte(exifPrefix)) {
			return tiffOrientation(body)
		}
		at += 2 + size
	}
	return upright
}

// webpOrientation looks for the EXIF chunk of the RIFF container.
func webpOrientation(data []byte) int {
	for at := 12; at+8 <= len(data); {
		size := int(binary.LittleEndian.Uint32(data[at+4:]))
		body := data[at+8:]
		if size > len(body) {
			break
		}
		if string(data[at:at+4]) == "EXIF" {
			return tiffOrientation(body[:size])
		}
		at += 8 + size + size&1
	}
	return upright
}

// pngOrientation looks for the eXIf chunk.
func pngOrientation(data []byte) int {
	for c := range pngChunks(data) {
		if c.kind == "eXIf" {
			return tiffOrientation(c.data)
		}
	}
	return upright
}

// turn makes a picture with the given orientation upright.
func (p Picture) turn(orientation int) Picture {
	if orientation <= upright || orientation > 8 {
		return p
	}
	w, h := p.Width, p.Height
	if orientation >= 5 {
		w, h = h, w
	}
	out := newPicture(w, h)
	if p.Alpha != nil {
		out.Alpha = make([]byte, w*h)
	}
	for y := range h {
		for x := range w {
			from, to := p.before(orientation, x, y), y*w+x
			copy(out.RGB[3*to:3*to+3], p.RGB[3*from:])
			if p.Alpha != nil {
				out.Alpha[to] = p.Alpha[from]
			}
		}
	}
	return out
}

// before is the index of the pixel that turning moves to x, y.
func (p Picture) before(orientation, x, y int) int {
	right, bottom := p.Width-1, p.Height-1
	switch orientation {
	case 2: // mirrored
		x = right - x
	case 3: // upside down
		x, y = right-x, bottom-y
	case 4: // mirrored and upside down
		y = bottom - y
	case 5: // mirrored along the main diagonal
		x, y = y, x
	case 6: // to be turned right
		x, y = y, bottom-x
	case 7: // mirrored along the other diagonal
		x, y = right-y, bottom-x
	case 8: // to be turned left
		x, y = right-y, x
	}
	return y*p.Width + x
}
