package tensor

import (
	"encoding/binary"
	"fmt"
	"math"
)

// le is the byte order of checkpoint files.
var le = binary.LittleEndian

// Decode converts little-endian elements of type d into float32. Widening is
// exact; float64 and integers that float32 cannot hold round to nearest. It
// fails when the lengths do not fit or the type is unknown.
func Decode(dst []float32, src []byte, d DType) error {
	if d.Size() == 0 {
		return fmt.Errorf("decode %s: unknown element type", d)
	}
	if len(src) != len(dst)*d.Size() {
		return fmt.Errorf("decode %s: %d bytes for %d elements", d, len(src), len(dst))
	}
	switch d {
	case F32:
		decode4(dst, src, math.Float32frombits)
	case F16:
		decodeF16(dst, src)
	case BF16:
		decodeBF16(dst, src)
	case F8E4M3:
		decode1(dst, src, f8e4m3)
	case F8E5M2:
		decode1(dst, src, func(b byte) float32 { return F16ToF32(uint16(b) << 8) })
	case F64:
		decode8(dst, src, func(b uint64) float32 { return float32(math.Float64frombits(b)) })
	default:
		decodeInt(dst, src, d)
	}
	return nil
}

// decodeInt is Decode for the integer types and booleans.
func decodeInt(dst []float32, src []byte, d DType) {
	switch d {
	case I64:
		decode8(dst, src, func(b uint64) float32 { return float32(int64(b)) })
	case U64:
		decode8(dst, src, func(b uint64) float32 { return float32(b) })
	case I32:
		decode4(dst, src, func(b uint32) float32 { return float32(int32(b)) })
	case U32:
		decode4(dst, src, func(b uint32) float32 { return float32(b) })
	case I16:
		decode2(dst, src, func(b uint16) float32 { return float32(int16(b)) })
	case U16:
		decode2(dst, src, func(b uint16) float32 { return float32(b) })
	case I8:
		decode1(dst, src, func(b byte) float32 { return float32(int8(b)) })
	case U8, Bool:
		decode1(dst, src, func(b byte) float32 { return float32(b) })
	}
}

func decode8(dst []float32, src []byte, value func(uint64) float32) {
	for i := range dst {
		dst[i] = value(le.Uint64(src[8*i:]))
	}
}

func decode4(dst []float32, src []byte, value func(uint32) float32) {
	for i := range dst {
		dst[i] = value(le.Uint32(src[4*i:]))
	}
}

func decode2(dst []float32, src []byte, value func(uint16) float32) {
	for i := range dst {
		dst[i] = value(le.Uint16(src[2*i:]))
	}
}

// decode1 asks for the value of each of the 256 bytes once.
func decode1(dst []float32, src []byte, value func(byte) float32) {
	var table [256]float32
	for b := range table {
		table[b] = value(byte(b))
	}
	for i, b := range src {
		dst[i] = table[b]
	}
}

// decodeF16 widens four halves per load: a checkpoint's conversion spends its
// time here.
func decodeF16(dst []float32, src []byte) {
	for len(dst) >= 4 && len(src) >= 8 {
		w := le.Uint64(src)
		d := dst[:4:4]
		d[0] = widen(uint32(w) & 0xffff)
		d[1] = widen(uint32(w) >> 16)
		d[2] = widen(uint32(w>>32) & 0xffff)
		d[3] = widen(uint32(w >> 48))
		dst, src = dst[4:], src[8:]
	}
	decode2(dst, src, F16ToF32)
}

// widen is F16ToF32 with the normal numbers, nearly all of them, in line.
func widen(h uint32) float32 {
	if h&0x7c00-0x400 < 0x7800 {
		return math.Float32frombits(h&0x8000<<16 | (h&0x7fff<<13 + 112<<23))
	}
	return F16ToF32(uint16(h))
}

// decodeBF16 widens four numbers per load.
func decodeBF16(dst []float32, src []byte) {
	for len(dst) >= 4 && len(src) >= 8 {
		w := le.Uint64(src)
		d := dst[:4:4]
		d[0] = math.Float32frombits(uint32(w) << 16)
		d[1] = math.Float32frombits(uint32(w) & 0xffff0000)
		d[2] = math.Float32frombits(uint32(w>>32) << 16)
		d[3] = math.Float32frombits(uint32(w>>32) & 0xffff0000)
		dst, src = dst[4:], src[8:]
	}
	decode2(dst, src, func(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) })
}

// f8e4m3 widens the 8-bit float without infinities (1-4-3 bits, bias 7, NaN
// 0x7f and 0xff, largest 448).
func f8e4m3(b byte) float32 {
	exp, frac := int(b>>3)&0xf, float64(b&7)
	v := math.Ldexp(8+frac, exp-10)
	switch {
	case b&0x7f == 0x7f:
		v = math.NaN()
	case exp == 0:
		v = math.Ldexp(frac, -9)
	}
	if b&0x80 != 0 {
		v = -v
	}
	return float32(v)
}

// Encode writes src as little-endian elements of type d, which is F32, F16,
// BF16 or I64; the 16-bit types round to nearest even, I64 cuts the fraction.
func Encode(dst []byte, src []float32, d DType) error {
	if len(dst) != len(src)*d.Size() {
		return fmt.Errorf("encode %s: %d bytes for %d elements", d, len(dst), len(src))
	}
	switch d {
	case F32:
		for i, v := range src {
			le.PutUint32(dst[4*i:], math.Float32bits(v))
		}
	case F16:
		for i, v := range src {
			le.PutUint16(dst[2*i:], F32ToF16(v))
		}
	case BF16:
		for i, v := range src {
			le.PutUint16(dst[2*i:], F32ToBF16(v))
		}
	case I64:
		for i, v := range src {
			le.PutUint64(dst[8*i:], uint64(int64(v)))
		}
	default:
		return fmt.Errorf("encode %s: only F32, F16, BF16 and I64 can be written", d)
	}
	return nil
}
