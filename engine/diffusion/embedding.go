package diffusion

import (
	"fmt"
	"strings"

	"github.com/comfyrun/comfyrun/engine/weights"
)

// embedding reads the rows of a textual inversion.
func (t *tower) embedding(name string) ([][]float32, bool, error) {
	if t.runtime.options.Embedding == nil {
		return nil, false, nil
	}
	path, ok := t.runtime.options.Embedding(name)
	if !ok {
		return nil, false, nil
	}
	if !strings.HasSuffix(path, ".safetensors") && !strings.HasSuffix(path, ".sft") {
		return nil, false, fmt.Errorf("embedding %s: %s is no .safetensors file; pickled files can run code and are refused", name, path)
	}
	f, err := weights.Open(path)
	if err != nil {
		return nil, false, err
	}
	key := t.embeddingKey(f)
	if key == "" {
		return nil, false, fmt.Errorf("embedding %s: %s holds no tensor", name, path)
	}
	rows, err := f.Read(key)
	if err != nil {
		return nil, false, err
	}
	var out [][]float32
	width := rows.Dim(-1)
	for i := 0; i < len(rows.Data); i += width {
		out = append(out, rows.Data[i:i+width])
	}
	return out, true, nil
}

// embeddingKey chooses the tensor of an embedding file: the one for this
// encoder, else the first.
func (t *tower) embeddingKey(f *weights.File) string {
	if _, ok := f.Tensor(t.Name); ok {
		return t.Name
	}
	if names := f.Names(); len(names) > 0 {
		return names[0]
	}
	return ""
}
