package weights

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

func content(name string, d tensor.DType, values []float32, shape ...int) Content {
	return Content{name, d, shape, func() (*tensor.Tensor, error) { return tensor.Of(values, shape...), nil }}
}

// TestWrite reads back what was written.
func TestWrite(t *testing.T) {
	var b bytes.Buffer
	err := Write(&b, map[string]string{"prompt": "{}"}, []Content{
		content("z", tensor.F32, []float32{1, 2, 3.25}, 3), content("a", tensor.F16, []float32{0.5, 0.1}, 2, 1),
		content("mark", tensor.F32, nil, 0), content("b", tensor.BF16, []float32{-2}, 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "w.safetensors")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.Names(), []string{"a", "b", "mark", "z"}) || f.Metadata["prompt"] != "{}" {
		t.Errorf("%v, %v", f.Names(), f.Metadata)
	}
	for name, want := range map[string][]float32{"z": {1, 2, 3.25}, "a": {0.5, 0.0999755859375}, "b": {-2}, "mark": {}} {
		if got, err := f.Read(name); err != nil || !slices.Equal(got.Data, want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	broken := errors.New("broken")
	failing := Content{"a", tensor.F32, tensor.Shape{1}, func() (*tensor.Tensor, error) { return nil, broken }}
	if err := Write(&bytes.Buffer{}, nil, []Content{failing}); !errors.Is(err, broken) {
		t.Errorf("a tensor that cannot be made: %v", err)
	}
	one := content("a", tensor.F32, []float32{1}, 1)
	longer := content("b", tensor.F32, []float32{1, 2}, 2)
	longer.Shape = tensor.Shape{1}
	for name, list := range map[string][]Content{
		"twice": {one, one}, "another shape": {longer}, "unknown type": {content("a", "F7", []float32{1}, 1)},
		"type that cannot be written": {content("a", tensor.I8, []float32{1}, 1)},
	} {
		if err := Write(&bytes.Buffer{}, nil, list); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
