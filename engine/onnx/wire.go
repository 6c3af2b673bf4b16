package onnx

import (
	"encoding/binary"
	"math"
)

// wire writes the protobuf encoding
// (https://protobuf.dev/programming-guides/encoding/): a field is a tag,
// number<<3 | wire type, and a value. Fields that hold their default value are
// left out, as protobuf's own writers do.
type wire []byte

// Protobuf wire types that ONNX uses.
const (
	wireVarint  = 0
	wireBytes   = 2
	wireFixed32 = 5
)

func (w *wire) tag(field, wireType int) {
	*w = binary.AppendUvarint(*w, uint64(field<<3|wireType))
}

func (w *wire) varint(field int, v int64) {
	w.tag(field, wireVarint)
	*w = binary.AppendUvarint(*w, uint64(v))
}

func (w *wire) bytes(field int, b []byte) {
	w.tag(field, wireBytes)
	*w = binary.AppendUvarint(*w, uint64(len(b)))
	*w = append(*w, b...)
}

func (w *wire) text(field int, s string) {
	w.tag(field, wireBytes)
	*w = binary.AppendUvarint(*w, uint64(len(s)))
	*w = append(*w, s...)
}

func (w *wire) float(field int, f float32) {
	w.tag(field, wireFixed32)
	*w = binary.LittleEndian.AppendUint32(*w, math.Float32bits(f))
}

// packed writes repeated integers as one length-delimited field.
func (w *wire) packed(field int, vs []int64) {
	var p wire
	for _, v := range vs {
		p = binary.AppendUvarint(p, uint64(v))
	}
	w.bytes(field, p)
}

// floats writes repeated float32 as one length-delimited field.
func (w *wire) floats(field int, vs []float32) {
	var p wire
	for _, v := range vs {
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(v))
	}
	w.bytes(field, p)
}
