package weights

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Content is a tensor that Write puts into a file.
type Content struct {
	Name  string
	DType tensor.DType // F32, F16, BF16 or I64
	Shape tensor.Shape
	// Values makes the tensor when its turn comes.
	Values func() (*tensor.Tensor, error)
}

// Write writes a .safetensors file, its tensors in the order of their names.
// No more than one of them is in memory at a time. Without any metadata the
// header has none.
func Write(w io.Writer, metadata map[string]string, tensors []Content) error {
	tensors = slices.SortedFunc(slices.Values(tensors), func(a, b Content) int { return strings.Compare(a.Name, b.Name) })
	header, err := contentHeader(metadata, tensors)
	if err != nil {
		return fmt.Errorf("write weights: %w", err)
	}
	if _, err := w.Write(header); err != nil {
		return fmt.Errorf("write weights: %w", err)
	}
	for _, c := range tensors {
		if err := c.write(w); err != nil {
			return fmt.Errorf("write weights: %s: %w", c.Name, err)
		}
	}
	return nil
}

// contentHeader returns the length of the header and the header, filled up with
// spaces to a multiple of 8.
func contentHeader(metadata map[string]string, tensors []Content) ([]byte, error) {
	entries := map[string]any{}
	if len(metadata) > 0 {
		entries["__metadata__"] = metadata
	}
	at := 0
	for _, c := range tensors {
		if _, twice := entries[c.Name]; twice || c.DType.Size() == 0 {
			return nil, fmt.Errorf("%s (%s) is there twice or of no known type", c.Name, c.DType)
		}
		end := at + c.Shape.Elements()*c.DType.Size()
		entries[c.Name] = map[string]any{"dtype": c.DType, "shape": append([]int{}, c.Shape...), "data_offsets": []int{at, end}}
		at = end
	}
	text, err := json.Marshal(entries)
	if err != nil {
		return nil, err
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), nil
}

func (c Content) write(w io.Writer) error {
	t, err := c.Values()
	if err != nil {
		return err
	}
	if len(t.Data) != c.Shape.Elements() {
		return fmt.Errorf("got %v, want %v", t.Shape, c.Shape)
	}
	raw := make([]byte, len(t.Data)*c.DType.Size())
	if err := tensor.Encode(raw, t.Data, c.DType); err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}
