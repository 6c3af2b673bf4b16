package weights

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// half is same as a half.
func half(t *testing.T, f *File, name string) Part {
	t.Helper()
	p := same(t, f, name)
	p.Name, p.DType = "half/"+name, tensor.F16
	return p
}

func (l Location) readHalves(t *testing.T) []float32 {
	t.Helper()
	raw := l.bytes(t)
	out := make([]float32, len(raw)/2)
	for i := range out {
		out[i] = tensor.F16ToF32(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	return out
}

// TestHalvesInPlace maps the halves of a file as they lie there, and its other
// types not.
func TestHalvesInPlace(t *testing.T) {
	f := openTiny(t, "sd15-tiny-fp16")
	dir := t.TempDir()
	l := locate(t, &Cache{Dir: dir}, f, half(t, f, conv), half(t, f, bias))
	for _, name := range []string{conv, bias} {
		i, _ := f.Tensor(name)
		if diff := cmp.Diff(Location{f.Path, i.Offset, i.Length}, l.ByName["half/"+name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("converted without need: %v", left)
	}
}

// TestHalvesAreMade rounds other types to halves, in files that other types do
// not share.
func TestHalvesAreMade(t *testing.T) {
	for _, list := range []string{"sd15-tiny-fp32", "sd15-tiny-bf16", "sd15-tiny-fp16"} {
		for _, dir := range []string{"", t.TempDir()} {
			f := openTiny(t, list)
			added := Part{Name: "sum", Shape: tensor.Shape{32, 4, 3, 3}, From: []string{conv, bias}, Transform: &sum, DType: tensor.F16}
			l := locate(t, &Cache{Dir: dir}, f, same(t, f, tokens), half(t, f, tokens), added)
			want := map[string][]float32{}
			for _, name := range []string{tokens, conv, bias} {
				v, err := f.Read(name)
				if err != nil {
					t.Fatal(err)
				}
				want[name] = v.Data
			}
			if !slices.Equal(want[tokens], l.ByName["graph/"+tokens].read(t)) {
				t.Errorf("%s: floats differ", list)
			}
			if !slices.Equal(rounded(want[tokens]), l.ByName["half/"+tokens].readHalves(t)) {
				t.Errorf("%s: halves differ", list)
			}
			for i := range want[conv] {
				want[conv][i] += want[bias][i/36]
			}
			if !slices.Equal(rounded(want[conv]), l.ByName["sum"].readHalves(t)) {
				t.Errorf("%s: a transform's halves differ", list)
			}
		}
	}
}

func rounded(data []float32) []float32 {
	out := make([]float32, len(data))
	for i, v := range data {
		out[i] = tensor.F16ToF32(tensor.F32ToF16(v))
	}
	return out
}

// TestKeysTellTypesApart pins the names of cache files: those of floats are the
// same as before halves were made.
func TestKeysTellTypesApart(t *testing.T) {
	f := openTiny(t, "sd15-tiny-bf16")
	keys := map[tensor.DType]string{}
	for _, d := range []tensor.DType{"", tensor.F32, tensor.F16} {
		part := same(t, f, tokens)
		part.DType = d
		p, err := newPlan(f, []Part{part})
		if err != nil {
			t.Fatal(err)
		}
		keys[d] = p.key()
	}
	want := map[tensor.DType]string{"": "d7af2ed930968a5b", tensor.F32: "d7af2ed930968a5b", tensor.F16: "7d86be5d197bb9ba"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	part := same(t, f, tokens)
	part.DType = tensor.BF16
	if _, err := newPlan(f, []Part{part}); err == nil || !strings.Contains(err.Error(), "BF16") {
		t.Errorf("a part in bfloat16: error %v", err)
	}
}
