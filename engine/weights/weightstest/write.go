package weightstest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Write makes the named synthetic checkpoint in dir and returns its path.
func Write(t testing.TB, dir, list string) string {
	t.Helper()
	path, err := WriteFile(dir, list)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// WriteFile makes the named synthetic checkpoint (one of Lists) in dir, checks
// its sha256 and returns its path. A file that already stands there with the
// right digest is kept.
func WriteFile(dir, list string) (string, error) {
	l, err := load(list)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, l.File)
	if l.standsAt(path) {
		return path, nil
	}
	if err := l.writeTo(dir, path); err != nil {
		return "", fmt.Errorf("write synthetic checkpoint %s: %w", list, err)
	}
	return path, nil
}

func (l *list) standsAt(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	if s, err := f.Stat(); err != nil || s.Size() != l.Bytes {
		return false
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return err == nil && hex.EncodeToString(h.Sum(nil)) == l.SHA256
}

func (l *list) writeTo(dir, path string) error {
	tmp, err := os.CreateTemp(dir, l.File+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	h := sha256.New()
	if err := l.stream(io.MultiWriter(tmp, h)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != l.SHA256 {
		return fmt.Errorf("sha256 %s, want %s", got, l.SHA256)
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// stream writes the whole file, computing the pieces of data on all cores and
// keeping a few of them in memory.
func (l *list) stream(w io.Writer) error {
	head, err := l.header()
	if err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	stop := make(chan struct{})
	defer close(stop)
	for piece := range l.pieces(stop) {
		p := <-piece
		if p.err != nil {
			return p.err
		}
		if _, err := w.Write(*p.bytes); err != nil {
			return err
		}
		buffers.Put(p.bytes)
	}
	return nil
}

// piece is a stretch of a tensor's bytes.
type piece struct {
	bytes *[]byte
	err   error
}

// pieceLength is the number of elements in a piece.
const pieceLength = 1 << 18

// buffers keeps byte slices of pieces for the next ones.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8*pieceLength); return &b }}

// pieces sends the file's data in order; each piece is computed by a goroutine
// of its own, two for every core at a time.
func (l *list) pieces(stop <-chan struct{}) <-chan chan piece {
	queue := make(chan chan piece, 2*runtime.GOMAXPROCS(0))
	go func() {
		defer close(queue)
		for i := range l.Tensors {
			e := &l.Tensors[i]
			for first := 0; first < e.Shape.Elements(); first += pieceLength {
				out := make(chan piece, 1)
				select {
				case queue <- out:
				case <-stop:
					return
				}
				go func() { out <- e.piece(l.seed, first) }()
			}
		}
	}()
	return queue
}

func (e *entry) piece(seed uint64, first int) piece {
	n := min(pieceLength, e.Shape.Elements()-first)
	values := make([]float32, n)
	e.values(values, seed, first)
	b := buffers.Get().(*[]byte)
	*b = (*b)[:n*e.DType.Size()]
	return piece{b, tensor.Encode(*b, values, e.DType)}
}

// header returns the length and the JSON object, padded with blanks to a
// multiple of 8 bytes.
func (l *list) header() ([]byte, error) {
	type place struct {
		DType   tensor.DType `json:"dtype"`
		Shape   tensor.Shape `json:"shape"`
		Offsets [2]int       `json:"data_offsets"`
	}
	var fields []string
	field := func(key string, value any) error {
		k, err := json.Marshal(key)
		if err != nil {
			return err
		}
		v, err := json.Marshal(value)
		fields = append(fields, string(k)+":"+string(v))
		return err
	}
	if l.Metadata != nil {
		if err := field("__metadata__", l.Metadata); err != nil {
			return nil, err
		}
	}
	end := 0
	for _, e := range l.Tensors {
		begin := end
		end += e.Shape.Elements() * e.DType.Size()
		if err := field(e.Name, place{e.DType, e.Shape, [2]int{begin, end}}); err != nil {
			return nil, err
		}
	}
	text := "{" + strings.Join(fields, ",") + "}"
	text += strings.Repeat(" ", -len(text)&7)
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), nil
}
