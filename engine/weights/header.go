package weights

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// maxHeader bounds the JSON header, as the format's reference library does.
const maxHeader = 100_000_000

// header is the decoded JSON object at the start of a file. Offsets are still
// those of the JSON: from the end of the header.
type header struct {
	metadata map[string]string
	tensors  []Info
}

// parseHeader reads the JSON object. It refuses whatever two readers could
// understand differently: keys that occur twice, unknown or missing fields,
// numbers that are not plain integers, text after the object.
func parseHeader(data []byte) (*header, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("header is not UTF-8")
	}
	if len(data) == 0 || data[0] != '{' {
		return nil, fmt.Errorf("header does not begin with {")
	}
	p := parser{json.NewDecoder(bytes.NewReader(data))}
	p.UseNumber()
	h := &header{}
	seen := map[string]bool{}
	err := p.object(func(key string) (err error) {
		if seen[key] {
			return fmt.Errorf("header names %q twice", key)
		}
		seen[key] = true
		if key == "__metadata__" {
			h.metadata, err = p.metadata()
			return err
		}
		info, err := p.info(key)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", key, err)
		}
		h.tensors = append(h.tensors, info)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if rest := bytes.TrimLeft(data[p.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, fmt.Errorf("header goes on after its JSON object, at byte %d", len(data)-len(rest))
	}
	return h, nil
}

// parser reads JSON token by token: the reflecting decoder would let duplicate
// keys and null pass.
type parser struct{ *json.Decoder }

// object reads {…} and calls field after each key.
func (p parser) object(field func(key string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	for p.More() {
		key, err := p.text()
		if err != nil {
			return err
		}
		if err := field(key); err != nil {
			return err
		}
	}
	return p.delim('}')
}

func (p parser) delim(want json.Delim) error {
	tok, err := p.Token()
	if err != nil {
		return fmt.Errorf("read header: %w", err)
	}
	if tok != want {
		return fmt.Errorf("header byte %d: %v where %v belongs", p.InputOffset(), tok, want)
	}
	return nil
}

func (p parser) text() (string, error) {
	tok, err := p.Token()
	if err != nil {
		return "", fmt.Errorf("read header: %w", err)
	}
	s, ok := tok.(string)
	if !ok {
		return "", fmt.Errorf("header byte %d: %v where text belongs", p.InputOffset(), tok)
	}
	return s, nil
}

// sizes reads a list of integers from 0 to 2^63-1.
func (p parser) sizes() ([]int64, error) {
	if err := p.delim('['); err != nil {
		return nil, err
	}
	out := []int64{}
	for p.More() {
		tok, err := p.Token()
		if err != nil {
			return nil, fmt.Errorf("read header: %w", err)
		}
		num, _ := tok.(json.Number)
		n, err := strconv.ParseUint(num.String(), 10, 63)
		if err != nil {
			return nil, fmt.Errorf("%v is not a size", tok)
		}
		out = append(out, int64(n))
	}
	return out, p.delim(']')
}

func (p parser) metadata() (map[string]string, error) {
	m := map[string]string{}
	err := p.object(func(key string) (err error) {
		if _, ok := m[key]; ok {
			return fmt.Errorf("names %q twice", key)
		}
		m[key], err = p.text()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("__metadata__: %w", err)
	}
	return m, nil
}

// info reads one tensor's {"dtype":…,"shape":…,"data_offsets":…}.
func (p parser) info(name string) (Info, error) {
	var dtype string
	var shape, offsets []int64
	var fields []string
	err := p.object(func(key string) (err error) {
		fields = append(fields, key)
		switch key {
		case "dtype":
			dtype, err = p.text()
		case "shape":
			shape, err = p.sizes()
		case "data_offsets":
			offsets, err = p.sizes()
		default:
			err = fmt.Errorf("unknown field %q", key)
		}
		return err
	})
	switch {
	case err != nil:
		return Info{}, err
	case dtype == "" || shape == nil || len(offsets) != 2 || len(fields) != 3:
		return Info{}, fmt.Errorf("needs dtype, shape and two data_offsets, each once; has %q", fields)
	case offsets[1] < offsets[0]:
		return Info{}, fmt.Errorf("data_offsets %d end before they begin", offsets)
	}
	i := Info{Name: name, DType: tensor.DType(dtype), Offset: offsets[0], Length: offsets[1] - offsets[0]}
	for _, d := range shape {
		i.Shape = append(i.Shape, int(d))
	}
	return i, i.check()
}

// check compares the length in bytes with what shape and type need.
func (i Info) check() error {
	size := i.DType.Size()
	if size == 0 {
		return fmt.Errorf("unknown dtype %q", i.DType)
	}
	need := int64(size)
	for _, d := range i.Shape {
		if d != 0 && need > math.MaxInt64/int64(d) {
			return fmt.Errorf("shape %v is too large", i.Shape)
		}
		need *= int64(d)
	}
	if need != i.Length {
		return fmt.Errorf("%s %v takes %d bytes, data_offsets cover %d", i.DType, i.Shape, need, i.Length)
	}
	return nil
}
