package imagefile

import (
	"errors"
	"fmt"
)

// zigzag maps the order of coefficients in the file to rows and columns.
var zigzag = [blockLen]byte{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

// bits reads entropy-coded data. Beyond its end, or a marker, it gives zeros.
type bits struct {
	data []byte
	at   int
	acc  uint32
	n    uint
	over int // zero bytes given beyond the end
}

func (b *bits) fill() {
	for b.n <= 24 {
		var v byte
		switch {
		case b.at >= len(b.data) || b.data[b.at] == 0xff && (b.at+1 >= len(b.data) || b.data[b.at+1] != 0):
			b.over++
		case b.data[b.at] == 0xff:
			v = 0xff
			b.at += 2
		default:
			v = b.data[b.at]
			b.at++
		}
		b.acc |= uint32(v) << (24 - b.n)
		b.n += 8
	}
}

func (b *bits) read(n byte) int32 {
	if n == 0 {
		return 0
	}
	if b.n < uint(n) {
		b.fill()
	}
	v := b.acc >> (32 - n)
	b.acc <<= n
	b.n -= uint(n)
	return int32(v)
}

// extend reads an n-bit number and its sign, T.81 figure F.12.
func (b *bits) extend(n byte) int32 {
	v := b.read(n)
	if n > 0 && v < 1<<(n-1) {
		v += -1<<n + 1
	}
	return v
}

// align drops what is left of the current byte.
func (b *bits) align() { b.acc, b.n, b.over = 0, 0, 0 }

// exhausted reports that a whole block was made of missing data.
func (b *bits) exhausted() bool { return b.over > 8 }

const lookBits = 8

// huffman is a code table: a look-up for short codes and the largest code of
// each length for the others.
type huffman struct {
	look    [1 << lookBits]uint16 // length<<8 | value, 0: longer
	largest [18]int32             // of codes with this length, -1: none
	offset  [18]int32             // value index of a code minus the code
	values  []byte
}

func (d *jpegDecoder) huffmanTables(body []byte) error {
	for len(body) > 0 {
		if len(body) < 17 {
			return errors.New("table of Huffman codes is too short")
		}
		class, id, total := body[0]>>4, body[0]&15, 0
		for _, n := range body[1:17] {
			total += int(n)
		}
		if class > 1 || id > 3 || total > 256 || len(body) < 17+total {
			return errors.New("broken Huffman table")
		}
		h, err := newHuffman(body[1:17], body[17:17+total])
		if err != nil {
			return err
		}
		d.huff[class][id] = h
		body = body[17+total:]
	}
	return nil
}

func newHuffman(counts, values []byte) (huffman, error) {
	h := huffman{values: values}
	code, index := int32(0), int32(0)
	for length := 1; length <= 16; length++ {
		n := int32(counts[length-1])
		h.largest[length], h.offset[length] = code+n-1, index-code
		if n == 0 {
			h.largest[length] = -1
		}
		if code+n > 1<<length {
			return huffman{}, errors.New("too many Huffman codes for their lengths")
		}
		for ; n > 0; n-- {
			if length <= lookBits {
				shift := lookBits - length
				for i := code << shift; i < (code+1)<<shift; i++ {
					h.look[i] = uint16(length)<<8 | uint16(values[index])
				}
			}
			code, index = code+1, index+1
		}
		code <<= 1
	}
	return h, nil
}

var errCode = errors.New("invalid Huffman code")

func (d *jpegDecoder) symbol(h *huffman) (byte, error) {
	if d.n < 16 {
		d.fill()
	}
	if e := h.look[d.acc>>(32-lookBits)]; e != 0 {
		d.acc <<= e >> 8
		d.n -= uint(e >> 8)
		return byte(e), nil
	}
	for length := lookBits + 1; length <= 16; length++ {
		code := int32(d.acc >> (32 - length))
		if h.largest[length] >= 0 && code <= h.largest[length] {
			i := code + h.offset[length]
			if i < 0 || int(i) >= len(h.values) {
				return 0, errCode
			}
			d.acc <<= length
			d.n -= uint(length)
			return h.values[i], nil
		}
	}
	return 0, errCode
}

// scanHeader is a start-of-scan segment: a band of coefficients from first to
// last, with high and low the bits that were sent before and that are sent now.
type scanHeader struct {
	comps       []scanComponent
	first, last int
	high, low   byte
}

type scanComponent struct {
	*component
	dc, ac *huffman
}

func (d *jpegDecoder) scanHeader(body []byte) (s scanHeader, err error) {
	if d.comps == nil || len(body) < 1 || body[0] < 1 || body[0] > 4 || len(body) < 4+2*int(body[0]) {
		return s, errors.New("broken scan header")
	}
	n := int(body[0])
	for i := range n {
		id, tables := body[1+2*i], body[2+2*i]
		found := -1
		for j := range d.comps {
			if d.comps[j].id == id {
				found = j
			}
		}
		if found < 0 || tables>>4 > 3 || tables&15 > 3 {
			return s, fmt.Errorf("scan of component %d", id)
		}
		s.comps = append(s.comps, scanComponent{&d.comps[found], &d.huff[0][tables>>4], &d.huff[1][tables&15]})
	}
	s.first, s.last, s.high, s.low = 0, blockLen-1, 0, 0
	if d.progressive {
		tail := body[1+2*n:]
		s.first, s.last, s.high, s.low = int(tail[0]), int(tail[1]), tail[2]>>4, tail[2]&15
		if s.last >= blockLen || s.first > s.last || s.first == 0 && s.last != 0 || s.first > 0 && n > 1 || s.low > 13 {
			return s, fmt.Errorf("scan of coefficients %d to %d", s.first, s.last)
		}
	}
	return s, nil
}

// scan reads the blocks of one scan.
func (d *jpegDecoder) scan(body []byte) error {
	s, err := d.scanHeader(body)
	if err != nil {
		return err
	}
	d.resetScan(s)
	c := s.comps[0]
	across, down := (d.width+8*int(d.hMax)-1)/(8*int(d.hMax)), (d.height+8*int(d.vMax)-1)/(8*int(d.vMax))
	if len(s.comps) == 1 { // not interleaved: blocks of the picture only
		across, down = (c.width+7)/8, (c.height+7)/8
	}
	for unit := range across * down {
		if d.restart > 0 && unit > 0 && unit%d.restart == 0 {
			if !d.nextRestart() {
				return nil
			}
			d.resetScan(s)
		}
		if err := d.unit(s, unit%across, unit/across); err != nil {
			return fmt.Errorf("unit %d: %w", unit, err)
		}
		if d.exhausted() && d.at >= len(d.data) {
			return nil
		}
	}
	d.align()
	return nil
}

func (d *jpegDecoder) resetScan(s scanHeader) {
	d.align()
	d.eobRun = 0
	for _, c := range s.comps {
		c.component.dc = 0
	}
}

// unit reads the blocks of one minimum coded unit.
func (d *jpegDecoder) unit(s scanHeader, x, y int) error {
	if len(s.comps) == 1 {
		return d.block(s, s.comps[0], s.comps[0].at(x, y))
	}
	for _, c := range s.comps {
		h, v := int(c.h), int(c.v)
		for i := range h * v {
			if err := d.block(s, c, c.at(x*h+i%h, y*v+i/h)); err != nil {
				return err
			}
		}
	}
	return nil
}

// at is the block in column x and row y.
func (c *component) at(x, y int) []int16 {
	i := (y*c.across + x) * blockLen
	return c.coefs[i : i+blockLen : i+blockLen]
}

// nextRestart goes to the data behind the next restart marker, if there is one.
func (d *jpegDecoder) nextRestart() bool {
	d.align()
	for ; d.at+1 < len(d.data); d.at++ {
		if d.data[d.at] != 0xff || d.data[d.at+1] == 0 || d.data[d.at+1] == 0xff {
			continue
		}
		if m := d.data[d.at+1]; m < markRST0 || m > markRST7 {
			return false
		}
		d.at += 2
		return true
	}
	return false
}

func (d *jpegDecoder) block(s scanHeader, c scanComponent, b []int16) error {
	switch {
	case !d.progressive:
		if err := d.firstDC(s, c, b); err != nil {
			return err
		}
		return d.sequentialAC(c, b)
	case s.first == 0 && s.high == 0:
		return d.firstDC(s, c, b)
	case s.first == 0:
		b[0] |= int16(d.read(1) << s.low)
		return nil
	case s.high == 0:
		return d.firstAC(s, c, b)
	}
	return d.refineAC(s, c, b)
}

func (d *jpegDecoder) firstDC(s scanHeader, c scanComponent, b []int16) error {
	n, err := d.symbol(c.dc)
	if err != nil || n > 16 {
		return errCode
	}
	c.component.dc += d.extend(n)
	b[0] = int16(c.component.dc << s.low)
	return nil
}

func (d *jpegDecoder) sequentialAC(c scanComponent, b []int16) error {
	for k := 1; k < blockLen; k++ {
		rs, err := d.symbol(c.ac)
		if err != nil {
			return err
		}
		run, n := int(rs>>4), rs&15
		if n == 0 && run < 15 {
			return nil
		}
		k += run
		if k >= blockLen {
			return errCode
		}
		if n > 0 {
			b[zigzag[k]] = int16(d.extend(n))
		}
	}
	return nil
}

// firstAC reads a band for the first time, T.81 G.1.2.2.
func (d *jpegDecoder) firstAC(s scanHeader, c scanComponent, b []int16) error {
	if d.eobRun > 0 {
		d.eobRun--
		return nil
	}
	for k := s.first; k <= s.last; k++ {
		rs, err := d.symbol(c.ac)
		if err != nil {
			return err
		}
		run, n := int(rs>>4), rs&15
		if n == 0 && run < 15 {
			d.eobRun = 1<<run - 1 + int(d.read(byte(run)))
			return nil
		}
		k += run
		if k > s.last {
			return errCode
		}
		if n > 0 {
			b[zigzag[k]] = int16(d.extend(n) << s.low)
		}
	}
	return nil
}

// refineAC adds one bit to the band's coefficients, T.81 G.1.2.3.
func (d *jpegDecoder) refineAC(s scanHeader, c scanComponent, b []int16) error {
	k := s.first
	for ; d.eobRun == 0 && k <= s.last; k++ {
		rs, err := d.symbol(c.ac)
		if err != nil {
			return err
		}
		run, n := int(rs>>4), rs&15
		if n > 1 {
			return errCode
		}
		if n == 0 && run < 15 {
			d.eobRun = 1<<run + int(d.read(byte(run)))
			break
		}
		value := int16(0)
		if n == 1 {
			value = int16(2*d.read(1)-1) << s.low
		}
		k = d.skipZeros(s, b, k, run)
		if value != 0 && k <= s.last {
			b[zigzag[k]] = value
		}
	}
	if d.eobRun > 0 {
		d.skipZeros(s, b, k, blockLen)
		d.eobRun--
	}
	return nil
}

// skipZeros passes run zero coefficients and refines the others on the way; it
// returns the position of the zero after them.
func (d *jpegDecoder) skipZeros(s scanHeader, b []int16, k, run int) int {
	for ; k <= s.last; k++ {
		v := &b[zigzag[k]]
		if *v == 0 {
			if run == 0 {
				return k
			}
			run--
			continue
		}
		if d.read(1) == 0 || *v&(1<<s.low) != 0 {
			continue
		}
		if *v > 0 {
			*v += 1 << s.low
		} else {
			*v -= 1 << s.low
		}
	}
	return k
}
