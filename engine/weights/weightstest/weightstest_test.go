package weightstest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

func TestFormula(t *testing.T) {
	data, err := os.ReadFile("testdata/formula_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Name  string
			Seed  uint64    `json:",string"`
			U     []float32 `json:"u"`
			U1e6  float32   `json:"u_1000000"`
			V     []float32 `json:"v_scale_0.3_offset_1"`
			Halfs []uint16  `json:"v_scale_0.102062076_offset_0_f16bits"`
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range file.Vectors {
		at := func(first int, scale, offset float32) float32 {
			e := entry{Name: v.Name, Scale: scale, Offset: offset}
			var out [1]float32
			e.values(out[:], v.Seed, first)
			return out[0]
		}
		for i := range v.U {
			if got := (at(i, 1, 0) + 1) / 2; got != v.U[i] {
				t.Errorf("%s: u %d is %g, want %g", v.Name, i, got, v.U[i])
			}
			if got := at(i, 0.3, 1); got != v.V[i] {
				t.Errorf("%s: v %d is %g, want %g", v.Name, i, got, v.V[i])
			}
			if got := tensor.F32ToF16(at(i, 0.102062076, 0)); got != v.Halfs[i] {
				t.Errorf("%s: half %d is %d, want %d", v.Name, i, got, v.Halfs[i])
			}
		}
		if got := (at(1000000, 1, 0) + 1) / 2; got != v.U1e6 {
			t.Errorf("%s: u 1000000 is %g, want %g", v.Name, got, v.U1e6)
		}
	}
}

// Write itself compares the sha256, so it is enough that it ends well.
func TestWriteEveryList(t *testing.T) {
	for _, name := range Lists() {
		if name == "sd15-full-fp16" {
			continue // 2.1 GB: TestWriteFull, with the build tag slow
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := Write(t, dir, name)
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			again, err := os.Stat(Write(t, dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if !os.SameFile(before, again) {
				t.Error("the second call made the file again")
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != 1 {
				t.Errorf("dir holds %v (%v), want one file", left, err)
			}
		})
	}
}

func TestWriteFileRepairs(t *testing.T) {
	path := Write(t, t.TempDir(), "emb-sd15-tiny")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	Write(t, strings.TrimSuffix(path, "emb-sd15-tiny.safetensors"), "emb-sd15-tiny")
	fixed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if fixed[len(fixed)-1] == data[len(data)-1] {
		t.Error("a damaged file was kept")
	}
}

func TestWrongDigestLeavesNothing(t *testing.T) {
	l, err := load("emb-sd15-tiny")
	if err != nil {
		t.Fatal(err)
	}
	l.SHA256 = strings.Repeat("0", 64)
	dir := t.TempDir()
	if err := l.writeTo(dir, dir+"/x.safetensors"); err == nil {
		t.Error("a wrong digest passed")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("dir holds %v (%v), want nothing", left, err)
	}
}

func TestUnknownList(t *testing.T) {
	_, err := WriteFile(t.TempDir(), "sd99")
	if err == nil || !strings.Contains(err.Error(), "sd15-tiny-fp16") {
		t.Errorf("error %v does not name the known lists", err)
	}
}
