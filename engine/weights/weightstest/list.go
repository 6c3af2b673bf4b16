// Package weightstest makes synthetic checkpoints for tests and benchmarks:
// files with the names, shapes and types of real ones and with values from a
// formula. They are not stored but generated, and checked by their sha256.
//
// Element i (row-major, from 0) of a tensor is
//
//	s = FNV-1a-64(name) XOR seed
//	z = splitmix64(s + (i+1)·9E3779B97F4A7C15)
//	u = float32(z>>40)·2^-24                    in [0, 1)
//	v = float32(float32((2u-1)·scale) + offset) two roundings
//
// except for the kinds arange (v = i) and const (v = offset); then runs of
// elements may be set to other values (fill), and v is cast to the tensor's
// type, rounding to nearest even.
package weightstest

import (
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

//go:embed testdata/*.json.gz
var lists embed.FS

// list is one synthetic file.
type list struct {
	File     string            `json:"file"`
	Seed     json.Number       `json:"seed"`
	Metadata map[string]string `json:"metadata"`
	SHA256   string            `json:"sha256"`
	Bytes    int64             `json:"bytes"`
	Tensors  []entry           `json:"tensors"`

	seed uint64
}

// entry is one tensor of a list. Each fill is [start, count, value].
type entry struct {
	Name   string       `json:"name"`
	Shape  tensor.Shape `json:"shape"`
	DType  tensor.DType `json:"dtype"`
	Kind   string       `json:"kind"`
	Scale  float32      `json:"scale"`
	Offset float32      `json:"offset"`
	Fill   [][3]float64 `json:"fill"`
}

// Lists returns the names that Write knows, sorted.
func Lists() []string {
	dir, err := lists.ReadDir("testdata")
	if err != nil {
		return nil
	}
	var names []string
	for _, f := range dir {
		names = append(names, strings.TrimSuffix(f.Name(), ".json.gz"))
	}
	slices.Sort(names)
	return names
}

func load(name string) (*list, error) {
	f, err := lists.Open("testdata/" + name + ".json.gz")
	if err != nil {
		return nil, fmt.Errorf("synthetic checkpoint %q is not one of %v", name, Lists())
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", name, err)
	}
	l := &list{}
	if err := json.NewDecoder(z).Decode(l); err != nil {
		return nil, fmt.Errorf("list %s: %w", name, err)
	}
	l.seed, err = strconv.ParseUint(l.Seed.String(), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("list %s: seed: %w", name, err)
	}
	return l, nil
}

// start returns s of the formula.
func (e *entry) start(seed uint64) uint64 {
	h := fnv.New64a()
	h.Write([]byte(e.Name))
	return h.Sum64() ^ seed
}

// values sets dst to the elements from first on.
func (e *entry) values(dst []float32, seed uint64, first int) {
	switch e.Kind {
	case "arange":
		for i := range dst {
			dst[i] = float32(first + i)
		}
	case "const":
		for i := range dst {
			dst[i] = e.Offset
		}
	default:
		random(dst, e.start(seed)+uint64(first)*golden, e.Scale, e.Offset)
	}
	for _, f := range e.Fill {
		lo, hi := max(int(f[0])-first, 0), min(int(f[0]+f[1])-first, len(dst))
		for i := lo; i < hi; i++ {
			dst[i] = float32(f[2])
		}
	}
}

// golden is splitmix64's step, 2^64 divided by the golden ratio.
const golden = 0x9E3779B97F4A7C15

func random(dst []float32, s uint64, scale, offset float32) {
	for i := range dst {
		s += golden
		z := (s ^ s>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		z ^= z >> 31
		u := float32(z>>40) * (1.0 / (1 << 24))
		// The conversion keeps the compiler from fusing the two roundings.
		dst[i] = float32((2*u-1)*scale) + offset
	}
}
