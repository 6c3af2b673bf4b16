package diffusion

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// eighths are all values of E4M3 by their bytes.
func eighths(t *testing.T) (values []float32) {
	t.Helper()
	bytes := make([]byte, 256)
	for i := range bytes {
		bytes[i] = byte(i)
	}
	values = make([]float32, 256)
	if err := tensor.Decode(values, bytes, tensor.F8E4M3); err != nil {
		t.Fatal(err)
	}
	return values
}

// writeScaled writes a file whose matrices of a denoiser are E4M3 with a scale
// each; b gets their values as they are then.
func (b bag) writeScaled(t *testing.T) string {
	t.Helper()
	byValue := map[float32]byte{}
	for i, v := range slices.Backward(eighths(t)) {
		byValue[v] = byte(i)
	}
	header, data := map[string]any{}, []byte{}
	put := func(name, dtype string, shape []int, raw []byte) {
		header[name] = map[string]any{"dtype": dtype, "shape": shape, "data_offsets": []int{len(data), len(data) + len(raw)}}
		data = append(data, raw...)
	}
	float := func(v float32) []byte { return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)) }
	for _, n := range slices.Sorted(maps.Keys(b)) {
		w := b[n]
		raw := []byte{}
		if stem, ok := strings.CutSuffix(n, ".weight"); ok && len(w.Shape) == 2 && strings.HasPrefix(n, modelPlace) {
			const scale = 0.0123
			for i, v := range w.Data {
				small := E4M3.round(v / scale)
				w.Data[i] = small * scale
				raw = append(raw, byValue[small])
			}
			put(n, "F8_E4M3", w.Shape, raw)
			put(stem+".scale_weight", "F32", []int{}, float(scale))
			put(stem+".scale_input", "F32", []int{}, float(1))
			continue
		}
		for _, v := range w.Data {
			raw = append(raw, float(v)...)
		}
		put(n, "F32", append([]int{}, w.Shape...), raw)
	}
	put(modelPlace+"scaled_fp8", "F8_E4M3", []int{2}, []byte{0, 0})
	head, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "scaled.safetensors")
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), append(head, data...)...)
	if err := os.WriteFile(path, file, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestScaledWeights compares a file of scaled 8-bit floats with one of the same
// values in float32: as they are, with a LoRA, and what would be saved.
func TestScaledWeights(t *testing.T) {
	r := testRuntime(t, nil)
	b := bagOf(t, weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"), "")
	scaled := tinyModel(t, r, b.writeScaled(t))
	plain := tinyModel(t, r, b.write(t, "plain.safetensors"))
	lora, err := r.LoadLoRA(t.Context(), weightstest.Write(t, t.TempDir(), "lora-kohya-sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	predicted := func(s steered, m *Model) *tensor.Tensor {
		den, err := m.outputs(t.Context(), s.evaluation)
		if err != nil {
			t.Fatal(err)
		}
		return den["out"]
	}
	compare(t, "as it is", predicted(scaled, scaled.Model), predicted(plain, plain.Model), 1e-6)
	one, err := scaled.WithLoRA(lora, 0.7)
	if err != nil {
		t.Fatal(err)
	}
	two, err := plain.WithLoRA(lora, 0.7)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "with a LoRA", predicted(scaled, one), predicted(plain, two), 1e-6)
	want := map[string]weights.Content{}
	for _, c := range plain.Contents() {
		want[c.Name] = c
	}
	saved := scaled.Contents()
	if len(saved) != len(want) {
		t.Fatalf("%d weights would be saved, want %d", len(saved), len(want))
	}
	for _, c := range saved {
		got, err := c.Values()
		if err != nil {
			t.Fatal(err)
		}
		exp, err := want[c.Name].Values()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Data, exp.Data) {
			t.Fatalf("%s would be saved with other values", c.Name)
		}
	}
	if err := applyScale(make([]float32, 2), []*tensor.Tensor{tensor.New(2), tensor.New(2)}); err == nil {
		t.Error("two scales are taken")
	}
}
