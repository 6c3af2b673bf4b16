package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// raw puts a header and data bytes into the form of a file.
func raw(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, data)...)
}

func writeRaw(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpen(t *testing.T) {
	path := weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16")
	link := filepath.Join(t.TempDir(), "link.safetensors")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	f, err := Open(link)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := filepath.EvalSymlinks(path); f.Path != want {
		t.Errorf("path %s, want the canonical %s", f.Path, want)
	}
	if names := f.Names(); len(names) != 991 || !slices.IsSorted(names) {
		t.Errorf("%d names, sorted %v; want 991, sorted", len(names), slices.IsSorted(names))
	}
	if diff := cmp.Diff(map[string]string{"format": "pt"}, f.Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	const name = "model.diffusion_model.input_blocks.0.0.weight"
	i, ok := f.Tensor(name)
	want := Info{Name: name, DType: tensor.F16, Shape: tensor.Shape{32, 4, 3, 3}, Offset: i.Offset, Length: 2 * 32 * 4 * 9}
	if diff := cmp.Diff(want, i); !ok || diff != "" {
		t.Errorf("found %v (-want +got):\n%s", ok, diff)
	}
	if _, ok := f.Tensor("__metadata__"); ok {
		t.Error("the metadata counts as a tensor")
	}
}

func TestRead(t *testing.T) {
	path := weightstest.Write(t, t.TempDir(), "sd15-tiny-bf16")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := f.Read("cond_stage_model.transformer.text_model.embeddings.position_ids")
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range ids.Data {
		if v != float32(i) {
			t.Fatalf("position id %d is %g", i, v)
		}
	}
	// The token table is larger than one piece of reading.
	const table = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
	got, err := f.Read(table)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i, _ := f.Tensor(table)
	if !got.Shape.Equal(i.Shape) || len(got.Data) <= readPiece {
		t.Fatalf("shape %v of %d elements", got.Shape, len(got.Data))
	}
	for j, v := range got.Data {
		want := math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[i.Offset+2*int64(j):])) << 16)
		if v != want {
			t.Fatalf("element %d is %g, want %g", j, v, want)
		}
	}
	if _, err := f.Read("nowhere"); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("unknown tensor: %v", err)
	}
}

func TestReadNoticesAShorterFile(t *testing.T) {
	path := writeRaw(t, raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8))
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, f.Size-1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read("a"); err == nil {
		t.Error("no error")
	}
}

func TestOpenAccepts(t *testing.T) {
	tests := map[string][]byte{
		"no tensors":      raw(`{}`, 0),
		"scalar":          raw(`{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, 4),
		"empty tensor":    raw(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F16","shape":[0,3],"data_offsets":[4,4]}}`, 4),
		"empty in front":  raw(`{"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"c":{"dtype":"F16","shape":[0],"data_offsets":[0,0]}}`, 4),
		"padding":         raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}      `, 1),
		"any order":       raw(`{"b":{"data_offsets":[2,4],"shape":[2],"dtype":"U8"},"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}`, 4),
		"header of 640":   raw(`{}`+strings.Repeat(" ", 638), 0), // starts like a pickle
		"no format given": raw(`{"__metadata__":{}}`, 0),
	}
	for name, data := range tests {
		if _, err := Open(writeRaw(t, data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	const a = `"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	huge := binary.LittleEndian.AppendUint64(nil, 1<<62)
	tests := []struct {
		name string
		data []byte
		want string // part of the message
	}{
		{"empty", nil, "0 bytes are too few"},
		{"absurd header", append(huge, make([]byte, 100)...), "header of 4611686018427387904 bytes, at most 100000000 are allowed: not a .safetensors file"},
		{"pickle archive", []byte("PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00"), "convert it to .safetensors"},
		{"lfs pointer", []byte("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"},
		{"web page", []byte("<!DOCTYPE html><html>"), "the download failed"},
		{"header cut", raw("{"+a+"}", 8)[:30], "truncated: header of 54 bytes in a file of 30"},
		{"data cut", raw("{"+a+"}", 7), `truncated: tensor "a" ends at byte 70 of a file of 69`},
		{"data left over", raw("{"+a+"}", 9), "tensors end at byte 70 of a file of 71"},
		{"overlap", raw("{"+a+`,"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), `tensor "b" at data offset 4 overlaps "a", which ends at 8`},
		{"gap", raw("{"+a+`,"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}`, 16), `tensor "b" at data offset 12 leaves a gap after "a", which ends at 8`},
		{"gap at the start", raw(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), "leaves a gap after the header"},
		{"wrong length", raw(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8), `tensor "a": F32 [3] takes 12 bytes, data_offsets cover 8`},
		{"overflow", raw(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}`, 0), "too large"},
		{"duplicate", raw("{"+a+","+a+"}", 8), `names "a" twice`},
		{"duplicate field", raw(`{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}`, 8), "each once"},
		{"unknown field", raw(`{"a":{"DType":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), `unknown field "DType"`},
		{"missing field", raw(`{"a":{"dtype":"F32","data_offsets":[0,8]}}`, 8), "needs dtype, shape"},
		{"unknown type", raw(`{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`, 1), `tensor "a": unknown dtype "F4"`},
		{"negative", raw(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, 1), "-1 is not a size"},
		{"fraction", raw(`{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}`, 1), "1.0 is not a size"},
		{"beyond 63 bits", raw(`{"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]}}`, 1), "is not a size"},
		{"null", raw(`{"a":{"dtype":"U8","shape":null,"data_offsets":[0,1]}}`, 1), "where [ belongs"},
		{"backwards", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1), "end before they begin"},
		{"three offsets", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}`, 1), "two data_offsets"},
		{"not JSON", raw(`{"a":`, 4), "read header"},
		{"not an object", raw(`["a"]`, 4), "does not begin with {"},
		{"two objects", raw(`{}{}`, 0), "goes on after its JSON object, at byte 2"},
		{"not UTF-8", raw("{\"\xff\":{}}", 0), "not UTF-8"},
		{"metadata number", raw(`{"__metadata__":{"a":1}}`, 0), "__metadata__"},
		{"metadata twice", raw(`{"__metadata__":{"a":"","a":""}}`, 0), "__metadata__"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeRaw(t, tt.data)
			_, err := Open(path)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), filepath.Base(path)) {
				t.Errorf("got %q, want the path and %q", err, tt.want)
			}
		})
	}
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("folder: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// FuzzOpen checks that whatever is accepted describes the file to the byte.
func FuzzOpen(f *testing.F) {
	f.Add(raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"k":"v"}}`, 8))
	f.Add(raw(`{"b":{"dtype":"F16","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}} `, 1))
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parse(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		var total int64
		for _, name := range file.Names() {
			i, ok := file.Tensor(name)
			if !ok || i.Offset < 8 || i.Length < 0 || i.Offset+i.Length > int64(len(data)) {
				t.Fatalf("tensor %q: %v %+v", name, ok, i)
			}
			if int64(i.Shape.Elements()*i.DType.Size()) != i.Length {
				t.Fatalf("tensor %q: length %+v", name, i)
			}
			total += i.Length
			d := decoder{r: bytes.NewReader(data)}
			if err := d.read(make([]float32, i.Shape.Elements()), i, 0); err != nil {
				t.Fatal(err)
			}
		}
		if total != int64(len(data))-8-int64(binary.LittleEndian.Uint64(data)) {
			t.Fatalf("tensors cover %d of %d bytes", total, len(data))
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	path := weightstest.Write(b, b.TempDir(), "sd15-tiny-fp16")
	for b.Loop() {
		if _, err := Open(path); err != nil {
			b.Fatal(err)
		}
	}
}
