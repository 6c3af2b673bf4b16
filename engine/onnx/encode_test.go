package onnx

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// field is one decoded protobuf field: Number, then Int for varint and
// fixed 32 bit values, Bytes for the others.
type field struct {
	Number int
	Int    uint64
	Bytes  []byte
}

// decode splits one protobuf message into its fields.
func decode(t *testing.T, b []byte) []field {
	t.Helper()
	var fields []field
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			t.Fatalf("bad varint at %x", b)
		}
		b = b[n:]
		return v
	}
	for len(b) > 0 {
		tag := next()
		f := field{Number: int(tag >> 3)}
		switch tag & 7 {
		case wireVarint:
			f.Int = next()
		case wireFixed32:
			f.Int = uint64(binary.LittleEndian.Uint32(b))
			b = b[4:]
		case wireBytes:
			n := next()
			f.Bytes, b = b[:n], b[n:]
		default:
			t.Fatalf("wire type %d", tag&7)
		}
		fields = append(fields, f)
	}
	return fields
}

// path follows field numbers down through nested messages, taking the first
// field of each number, and returns the last one.
func path(t *testing.T, b []byte, numbers ...int) field {
	t.Helper()
	for i, number := range numbers {
		found := false
		for _, f := range decode(t, b) {
			if f.Number != number {
				continue
			}
			if i == len(numbers)-1 {
				return f
			}
			b, found = f.Bytes, true
			break
		}
		if !found {
			t.Fatalf("no field %d in %v", number, numbers)
		}
	}
	return field{}
}

func sample() *Model {
	return &Model{
		Producer: "comfyrun",
		Opset:    map[string]int64{"": 21, "com.microsoft": 1},
		Graph: Graph{
			Name:    "sample",
			Inputs:  []ValueInfo{{Name: "x", Type: Float, Dims: []Dim{{Name: "n"}, {Size: 3}}}},
			Outputs: []ValueInfo{{Name: "y", Type: Float, Dims: []Dim{{Name: "n"}, {Size: 2}}}},
			Initializers: []Initializer{
				{Name: "w", Type: Float, Dims: []int64{2, 3}, External: &External{Path: "/models/a.safetensors", Offset: 70, Length: 24}},
				{Name: "axes", Type: Int64, Dims: []int64{1}, Raw: []byte{1, 0, 0, 0, 0, 0, 0, 0}},
			},
			Nodes: []Node{
				{Name: "n0", Op: "FusedMatMul", Domain: "com.microsoft", Inputs: []string{"x", "w"}, Outputs: []string{"h"},
					Attrs: []Attr{{"transB", int64(1)}, {"alpha", float32(0.5)}}},
				{Name: "n1", Op: "Resize", Inputs: []string{"h", "", "axes"}, Outputs: []string{"y"},
					Attrs: []Attr{{"mode", "nearest"}, {"pads", []int64{-1, 2}}, {"fs", []float32{1.5}}}},
			},
		},
	}
}

func TestEncodeFields(t *testing.T) {
	b, err := Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	ints := []struct {
		name string
		path []int
		want uint64
	}{
		{"ir version", []int{1}, 10},
		{"attr int", []int{7, 1, 5, 3}, 1},
		{"attr type", []int{7, 1, 5, 20}, attrInt},
		{"input elem type", []int{7, 11, 2, 1, 1}, uint64(Float)},
		{"initializer type", []int{7, 5, 2}, uint64(Float)},
		{"external", []int{7, 5, 14}, 1},
	}
	for _, c := range ints {
		if got := path(t, b, c.path...).Int; got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	texts := []struct {
		name string
		path []int
		want string
	}{
		{"producer", []int{2}, "comfyrun"},
		{"graph", []int{7, 2}, "sample"},
		{"op", []int{7, 1, 4}, "FusedMatMul"},
		{"domain", []int{7, 1, 7}, "com.microsoft"},
		{"dim name", []int{7, 11, 2, 1, 2, 1, 2}, "n"},
		{"initializer dims", []int{7, 5, 1}, "\x02\x03"},
		{"location key", []int{7, 5, 13, 1}, "location"},
		{"location", []int{7, 5, 13, 2}, "models/a.safetensors"},
	}
	for _, c := range texts {
		if got := string(path(t, b, c.path...).Bytes); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// all returns the fields of one number, in order.
func all(t *testing.T, b []byte, number int) []field {
	var out []field
	for _, f := range decode(t, b) {
		if f.Number == number {
			out = append(out, f)
		}
	}
	return out
}

func TestEncodeNodeAttrs(t *testing.T) {
	b, err := Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	node := all(t, path(t, b, 7).Bytes, 1)[1].Bytes
	var inputs []string
	for _, f := range all(t, node, 1) {
		inputs = append(inputs, string(f.Bytes))
	}
	if diff := cmp.Diff([]string{"h", "", "axes"}, inputs); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	attrs := all(t, node, 5)
	if got := string(path(t, attrs[0].Bytes, 4).Bytes); got != "nearest" {
		t.Errorf("mode: %q", got)
	}
	// -1 is ten bytes of varint, sign extended.
	if got, want := path(t, attrs[1].Bytes, 8).Bytes, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02"; string(got) != want {
		t.Errorf("pads: %x", got)
	}
	if got := binary.LittleEndian.Uint32(path(t, attrs[2].Bytes, 7).Bytes); got != math.Float32bits(1.5) {
		t.Errorf("fs: %x", got)
	}
}

func TestEncodeRefuses(t *testing.T) {
	cases := map[string]struct {
		change func(*Model)
		want   string
	}{
		"opset":    {func(m *Model) { m.Opset[""] = 9 }, "operator set 9"},
		"attr":     {func(m *Model) { m.Graph.Nodes[0].Attrs[0].Value = 1 }, `attribute "transB": int`},
		"relative": {func(m *Model) { m.Graph.Initializers[0].External.Path = "a" }, `"a" is not absolute`},
		"empty":    {func(m *Model) { m.Graph.Initializers[1].Raw = nil }, `initializer "axes"`},
	}
	for name, c := range cases {
		m := sample()
		c.change(m)
		if _, err := Encode(m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestDump(t *testing.T) {
	var b strings.Builder
	if err := Dump(&b, sample()); err != nil {
		t.Fatal(err)
	}
	want := `opset ai.onnx 21
opset com.microsoft 1
graph sample
input x float[n,3]
init axes int64[1] raw 0100000000000000
init w float[2,3] external 70+24
node h = com.microsoft.FusedMatMul(x, w) alpha=0.5 transB=1
node y = Resize(h, _, axes) fs=[1.5] mode="nearest" pads=[-1,2]
output y float[n,2]
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("dump (-want +got):\n%s", diff)
	}
}
