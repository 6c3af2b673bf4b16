package weightstest

import (
	"bufio"
	"encoding/json"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// WriteShapes makes a file of tensors of the given shapes and element type at
// path. Values are pseudo-random, of a size that keeps signals finite through
// any number of layers: weights spread by 1/√inputs, scales of norms are near 1.
func WriteShapes(t testing.TB, path string, shapes map[string]tensor.Shape, d tensor.DType) {
	t.Helper()
	if err := WriteRandom(path, shapes, d); err != nil {
		t.Fatal(err)
	}
}

// WriteRandom is WriteShapes outside of tests.
func WriteRandom(path string, shapes map[string]tensor.Shape, d tensor.DType) error {
	l := &list{File: filepath.Base(path), Seed: json.Number("1"), seed: 1}
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		e := entry{Name: name, Shape: shapes[name], DType: d, Scale: 0.02}
		switch inputs := e.Shape.Elements() / max(1, append(e.Shape, 1)[0]); {
		case len(e.Shape) > 1:
			e.Scale = float32(math.Sqrt(1 / float64(inputs)))
		case strings.HasSuffix(name, ".weight"):
			e.Offset = 1
		}
		l.Tensors = append(l.Tensors, e)
	}
	return l.writeBuffered(path)
}

func (l *list) writeBuffered(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := l.stream(io.Writer(w)); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
