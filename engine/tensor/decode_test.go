package tensor

import (
	"encoding/binary"
	"math"
	"testing"
)

// Every half must come out the same, whatever its place in the blocks of four.
func TestDecodeF16EveryValue(t *testing.T) {
	src := make([]byte, 2*(1<<16+3))
	for i := range 1<<16 + 3 {
		binary.LittleEndian.PutUint16(src[2*i:], uint16(i))
	}
	dst := make([]float32, len(src)/2)
	if err := Decode(dst, src, F16); err != nil {
		t.Fatal(err)
	}
	for i, v := range dst {
		if want := halfByDefinition(uint16(i)); math.Float32bits(v) != math.Float32bits(want) && !(v != v && want != want) {
			t.Fatalf("half %#04x: got %g, want %g", uint16(i), v, want)
		}
	}
}

// halfByDefinition is IEEE 754's formula.
func halfByDefinition(h uint16) float32 {
	exp, frac := int(h>>10&0x1f), float64(h&0x3ff)
	v := math.Ldexp(1024+frac, exp-25)
	switch {
	case exp == 0x1f && frac == 0:
		v = math.Inf(1)
	case exp == 0x1f:
		v = math.NaN()
	case exp == 0:
		v = math.Ldexp(frac, -24)
	}
	return float32(math.Copysign(v, 1-2*float64(h>>15)))
}

func TestHalfRoundTrip(t *testing.T) {
	for i := range 1 << 16 {
		f := F16ToF32(uint16(i))
		if got := F32ToF16(f); got != uint16(i) && f == f {
			t.Fatalf("half %#04x: back as %#04x", i, got)
		}
		b := math.Float32frombits(uint32(i) << 16)
		if got := F32ToBF16(b); got != uint16(i) && b == b {
			t.Fatalf("bfloat16 %#04x: back as %#04x", i, got)
		}
	}
}

func TestRoundToEven(t *testing.T) {
	tests := []struct {
		in   float32
		f16  uint16
		bf16 uint16
	}{
		{1, 0x3c00, 0x3f80},
		{1 + 1.0/2048, 0x3c00, 0x3f80},
		{1 + 3.0/2048, 0x3c02, 0x3f80},
		{1 + 1.0/256, 0x3c04, 0x3f80},
		{1 + 3.0/256, 0x3c0c, 0x3f82},
		{65519, 0x7bff, 0x4780},
		{65520, 0x7c00, 0x4780},
		{-math.MaxFloat32, 0xfc00, 0xff80},
		{float32(math.Inf(-1)), 0xfc00, 0xff80},
		{float32(math.Ldexp(1, -25)), 0, 0x3300},
		{float32(math.Ldexp(3, -25)), 2, 0x33c0},
	}
	for _, tt := range tests {
		if got := F32ToF16(tt.in); got != tt.f16 {
			t.Errorf("half of %g: got %#04x, want %#04x", tt.in, got, tt.f16)
		}
		if got := F32ToBF16(tt.in); got != tt.bf16 {
			t.Errorf("bfloat16 of %g: got %#04x, want %#04x", tt.in, got, tt.bf16)
		}
	}
	for _, nan := range []uint32{0x7f800001, 0xffffffff} {
		f := math.Float32frombits(nan)
		if h := F16ToF32(F32ToF16(f)); h == h {
			t.Errorf("half of NaN %#x is %g", nan, h)
		}
		if b := math.Float32frombits(uint32(F32ToBF16(f)) << 16); b == b {
			t.Errorf("bfloat16 of NaN %#x is %g", nan, b)
		}
	}
}

func TestDecode(t *testing.T) {
	tests := []struct {
		d    DType
		src  []byte
		want float32
	}{
		{F32, []byte{0, 0, 0xc0, 0xbf}, -1.5},
		{F64, []byte{0, 0, 0, 0, 0, 0, 0xf8, 0xbf}, -1.5},
		{BF16, []byte{0xc0, 0xbf}, -1.5},
		{F8E4M3, []byte{0x7e}, 448},
		{F8E4M3, []byte{0x81}, -1.0 / 512},
		{F8E4M3, []byte{0x38}, 1},
		{F8E5M2, []byte{0x7b}, 57344},
		{F8E5M2, []byte{0xfc}, float32(math.Inf(-1))},
		{I64, []byte{0xfe, 255, 255, 255, 255, 255, 255, 255}, -2},
		{U64, []byte{0, 0, 0, 0, 0, 0, 0, 0x80}, 1 << 63},
		{I32, []byte{0xfe, 255, 255, 255}, -2},
		{U32, []byte{0, 0, 0, 0x80}, 1 << 31},
		{I16, []byte{0xfe, 255}, -2},
		{U16, []byte{0xfe, 255}, 65534},
		{I8, []byte{0xfe}, -2},
		{U8, []byte{0xfe}, 254},
		{Bool, []byte{1}, 1},
	}
	for _, tt := range tests {
		for n := 1; n <= 9; n++ {
			dst, src := make([]float32, n), make([]byte, 0, 72)
			for range n {
				src = append(src, tt.src...)
			}
			if err := Decode(dst, src, tt.d); err != nil {
				t.Fatal(err)
			}
			for i, v := range dst {
				if v != tt.want {
					t.Errorf("%s % x, element %d of %d: got %g, want %g", tt.d, tt.src, i, n, v, tt.want)
				}
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	if err := Decode(make([]float32, 2), make([]byte, 3), F16); err == nil {
		t.Error("3 bytes for 2 halves: no error")
	}
	if err := Decode(nil, nil, "F4"); err == nil {
		t.Error("unknown type: no error")
	}
	if err := Encode(make([]byte, 3), make([]float32, 2), F16); err == nil {
		t.Error("encode 2 halves into 3 bytes: no error")
	}
	if err := Encode(make([]byte, 2), make([]float32, 2), U8); err == nil {
		t.Error("encode as U8: no error")
	}
}

func TestEncode(t *testing.T) {
	in := []float32{0, 1, -2, 49406, 100}
	for _, d := range []DType{F32, F16, BF16, I64} {
		raw := make([]byte, len(in)*d.Size())
		back := make([]float32, len(in))
		if err := Encode(raw, in, d); err != nil {
			t.Fatal(err)
		}
		if err := Decode(back, raw, d); err != nil {
			t.Fatal(err)
		}
		for i, v := range back {
			want := in[i]
			if want == 49406 && d == F16 {
				want = 49408
			} else if want == 49406 && d == BF16 {
				want = 49408
			}
			if v != want {
				t.Errorf("%s: %g comes back as %g, want %g", d, in[i], v, want)
			}
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	src := make([]byte, 1<<20)
	for i := range src {
		src[i] = byte(i * 7)
	}
	for _, d := range []DType{F32, F16, BF16, F8E4M3} {
		b.Run(string(d), func(b *testing.B) {
			dst := make([]float32, len(src)/d.Size())
			b.SetBytes(int64(4 * len(dst)))
			for b.Loop() {
				if err := Decode(dst, src, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
