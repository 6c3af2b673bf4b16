// Package weights finds tensors in checkpoint files and brings them into the
// form that a graph wants, without copying where it can.
//
// Vocabulary: a File is the header of one .safetensors file; an Info is the
// place, type and shape of one of its tensors. A Part is one tensor
// that a graph needs, made from source tensors by a Transform. A Location is a
// byte range of a file, which ONNX Runtime maps. Parts that are stored as a
// graph needs them are located in the checkpoint itself; the others are
// converted once into a file of the Cache and located there.
//
// The .safetensors format: 8 bytes little-endian length N, N bytes of JSON
// {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {…}}, then
// the data; offsets count from the end of the header and cover the data
// without gaps.
package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Info describes one tensor of a file. Offset counts bytes from the start of
// the file, Length is in bytes.
type Info struct {
	Name           string
	DType          tensor.DType
	Shape          tensor.Shape
	Offset, Length int64
}

// File is the checked header of a .safetensors file. It holds no descriptor:
// there is nothing to close.
type File struct {
	Path     string            // canonical: absolute, without symbolic links
	Size     int64             // bytes
	Metadata map[string]string // the header's __metadata__, nil without one

	names   []string // sorted
	tensors map[string]Info
}

// ErrFormat marks a file that is no sound .safetensors file.
var ErrFormat = errors.New("not a sound .safetensors file")

// Open reads and checks the header of the .safetensors file at path. It
// refuses a file whose header and size do not agree to the byte: truncated or
// too long, tensors that overlap or leave gaps, lengths that do not fit shape
// and type, names that occur twice. Reading costs no more than the header.
func Open(path string) (*File, error) {
	canonical, err := canonicalPath(path)
	if err != nil {
		return nil, fmt.Errorf("open weights: %w", err)
	}
	r, err := os.Open(canonical)
	if err != nil {
		return nil, fmt.Errorf("open weights: %w", err)
	}
	defer r.Close()
	stat, err := r.Stat()
	if err != nil {
		return nil, fmt.Errorf("open weights: %w", err)
	}
	if !stat.Mode().IsRegular() {
		return nil, fmt.Errorf("open weights %s: not a regular file", canonical)
	}
	f, err := parse(r, stat.Size())
	if err != nil {
		return nil, fmt.Errorf("open weights %s: %w: %w", canonical, ErrFormat, err)
	}
	f.Path = canonical
	return f, nil
}

func canonicalPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// parse reads the header of a file of size bytes and checks it against size.
func parse(r io.ReaderAt, size int64) (*File, error) {
	start := make([]byte, min(size, 16))
	if _, err := r.ReadAt(start, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if size < 10 {
		return nil, fmt.Errorf("%d bytes are too few for a .safetensors file%s", size, foreign(start))
	}
	n := binary.LittleEndian.Uint64(start)
	if n > maxHeader {
		return nil, fmt.Errorf("header of %d bytes, at most %d are allowed%s", n, maxHeader, foreign(start))
	}
	if int64(n) > size-8 {
		return nil, fmt.Errorf("truncated: header of %d bytes in a file of %d", n, size)
	}
	data := make([]byte, n)
	if _, err := r.ReadAt(data, 8); err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	h, err := parseHeader(data)
	if err != nil {
		return nil, err
	}
	return layout(h, size, 8+int64(n))
}

// layout turns offsets into those of the file and checks that the tensors
// cover the data, bytes begin to size, exactly once.
func layout(h *header, size, begin int64) (*File, error) {
	f := &File{Size: size, Metadata: h.metadata, tensors: make(map[string]Info, len(h.tensors))}
	slices.SortFunc(h.tensors, func(a, b Info) int {
		if a.Offset != b.Offset {
			return sign(a.Offset - b.Offset)
		}
		// An empty tensor may share its offset with its neighbour.
		if a.Length != b.Length {
			return sign(a.Length - b.Length)
		}
		return strings.Compare(a.Name, b.Name)
	})
	var end int64
	last := "the header"
	for _, t := range h.tensors {
		switch {
		case t.Offset < end:
			return nil, fmt.Errorf("tensor %q at data offset %d overlaps %s, which ends at %d", t.Name, t.Offset, last, end)
		case t.Offset > end:
			return nil, fmt.Errorf("tensor %q at data offset %d leaves a gap after %s, which ends at %d", t.Name, t.Offset, last, end)
		case t.Length > size-begin-end:
			return nil, fmt.Errorf("truncated: tensor %q ends at byte %d of a file of %d", t.Name, begin+end+t.Length, size)
		}
		end, last = end+t.Length, strconv.Quote(t.Name)
		t.Offset += begin
		f.tensors[t.Name] = t
		f.names = append(f.names, t.Name)
	}
	if begin+end != size {
		return nil, fmt.Errorf("tensors end at byte %d of a file of %d", begin+end, size)
	}
	slices.Sort(f.names)
	return f, nil
}

func sign(n int64) int {
	if n < 0 {
		return -1
	}
	return 1
}

// foreign guesses what a file is that cannot be .safetensors from how it
// starts, for the end of an error message.
func foreign(start []byte) string {
	kinds := []struct{ start, what string }{
		{"PK\x03\x04", "a pickle archive (.ckpt or .pt): convert it to .safetensors first"},
		{"\x80\x02", "a pickle (.ckpt or .pt): convert it to .safetensors first"},
		{"GGUF", "a GGUF file"},
		{"version https:", "a Git LFS pointer: the file itself was not fetched"},
		{"<!DOCTYPE", "a web page: the download failed"},
		{"<html", "a web page: the download failed"},
	}
	for _, k := range kinds {
		if bytes.HasPrefix(start, []byte(k.start)) {
			return ": this is " + k.what
		}
	}
	return ": not a .safetensors file"
}

// Tensor returns the description of a tensor and whether the file has it.
func (f *File) Tensor(name string) (Info, bool) {
	i, ok := f.tensors[name]
	return i, ok
}

// Names returns the names of all tensors, sorted.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Read returns a tensor as float32, whatever its type in the file.
func (f *File) Read(name string) (*tensor.Tensor, error) {
	i, ok := f.tensors[name]
	if !ok {
		return nil, fmt.Errorf("read weights %s: no tensor %q", f.Path, name)
	}
	r, err := os.Open(f.Path)
	if err != nil {
		return nil, fmt.Errorf("read weights: %w", err)
	}
	defer r.Close()
	t := tensor.New(i.Shape...)
	d := decoder{r: r}
	if err := d.read(t.Data, i, 0); err != nil {
		return nil, fmt.Errorf("read weights %s: %w", f.Path, err)
	}
	return t, nil
}

// readPiece is how many elements are read at once while a tensor is decoded.
const readPiece = 1 << 18

// decoder reads tensors as float32, holding no more than a piece of undecoded
// bytes, which it keeps for the next tensor.
type decoder struct {
	r   io.ReaderAt
	raw []byte
}

// read decodes len(dst) elements of tensor i, beginning with the given one.
func (d *decoder) read(dst []float32, i Info, first int) error {
	size := i.DType.Size()
	d.raw = grow(d.raw, min(len(dst), readPiece)*size)
	at := i.Offset + int64(first)*int64(size)
	for len(dst) > 0 {
		n := min(len(dst), readPiece)
		raw := d.raw[:n*size]
		if _, err := d.r.ReadAt(raw, at); err != nil {
			return fmt.Errorf("tensor %q, %d bytes at %d: %w", i.Name, len(raw), at, err)
		}
		if err := tensor.Decode(dst[:n], raw, i.DType); err != nil {
			return fmt.Errorf("tensor %q: %w", i.Name, err)
		}
		dst, at = dst[n:], at+int64(len(raw))
	}
	return nil
}
