package sampling

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"os"
	"strconv"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// golden reads a file of testdata.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func goldenJSON(t testing.TB, name string, v any) {
	t.Helper()
	if err := json.Unmarshal(golden(t, name), v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// goldenTensors reads a safetensors file of float32 tensors.
func goldenTensors(t testing.TB, name string) map[string]*tensor.Tensor {
	t.Helper()
	data := golden(t, name)
	n := binary.LittleEndian.Uint64(data)
	var header map[string]struct {
		DType   string
		Shape   []int
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(data[8:8+n], &header); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	out := map[string]*tensor.Tensor{}
	for key, e := range header {
		if e.DType != "F32" {
			continue
		}
		v := tensor.New(e.Shape...)
		body := bytes.NewReader(data[8+int(n)+e.Offsets[0] : 8+int(n)+e.Offsets[1]])
		if err := binary.Read(body, binary.LittleEndian, v.Data); err != nil {
			t.Fatalf("%s: %s: %v", name, key, err)
		}
		out[key] = v
	}
	return out
}

// num is a number, or one of the words that stand for what JSON cannot say.
type num float64

func (n *num) UnmarshalJSON(b []byte) error {
	if len(b) > 1 && b[0] == '"' {
		b = b[1 : len(b)-1]
	}
	v, err := strconv.ParseFloat(string(b), 64)
	*n = num(v)
	return err
}

func floats(list []num) []float32 {
	out := make([]float32, len(list))
	for i, v := range list {
		out[i] = float32(v)
	}
	return out
}

// seed is a 64-bit number written as a string.
func seed(t testing.TB, s string) uint64 {
	t.Helper()
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func digest(v []float32) string {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:])
}

// relative returns the largest difference in units of the wanted value; NaN
// equals NaN, and a different length is infinitely far.
func relative(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var worst float64
	for i, w := range want {
		g, w := float64(got[i]), float64(w)
		switch {
		case g == w || math.IsNaN(g) && math.IsNaN(w):
		case math.IsNaN(g) || math.IsNaN(w):
			return math.Inf(1)
		default:
			worst = max(worst, math.Abs(g-w)/max(math.Abs(w), 1e-30))
		}
	}
	return worst
}

// distance returns the largest difference in units of the largest wanted value.
func distance(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, size float64
	for i, w := range want {
		d := math.Abs(float64(got[i]) - float64(w))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		diff, size = max(diff, d), max(size, math.Abs(float64(w)))
	}
	return diff / max(size, 1e-30)
}
