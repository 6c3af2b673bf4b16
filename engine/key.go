package engine

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Key names the results of a step: a hash of its class, its literals and the
// keys of what it is linked to. Two nodes with one key give the same results,
// in any workflow and under any id. The zero Key names nothing.
type Key [sha256.Size]byte

// String is the key in hexadecimal.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// nonce is a key that occurs once.
func nonce() (k Key) {
	rand.Read(k[:])
	return k
}

// setKeys keys all steps, sources first, each once.
func (p *Plan) setKeys() {
	var h hasher
	for _, s := range p.Steps {
		if s.valid {
			s.Key = h.key(s)
		}
	}
}

// hasher writes what a key is made of into one buffer, every part with its
// length, so that different steps never write the same bytes.
type hasher struct{ buf []byte }

func (h *hasher) key(s *Step) Key {
	if s.Type.Volatile {
		return nonce()
	}
	h.buf = h.buf[:0]
	h.text('c', s.Type.Class)
	for i := range s.Inputs {
		h.source(&s.Inputs[i], &s.Type.Inputs[i])
	}
	slices.SortFunc(s.Rest, func(a, b Source) int { return strings.Compare(a.Name, b.Name) })
	for i := range s.Rest {
		h.source(&s.Rest[i], nil)
	}
	if s.Type.hides(HiddenUniqueID) {
		h.text('u', s.ID)
	}
	if !h.fingerprint(s) {
		return nonce()
	}
	return sha256.Sum256(h.buf)
}

// fingerprint adds what the node's type says it depends on; false: it cannot
// say, so the node counts as changed.
func (h *hasher) fingerprint(s *Step) bool {
	if s.Type.Fingerprint == nil {
		return true
	}
	args, _ := s.literalArgs(func(string) bool { return true })
	text := ""
	err := catch(func() (err error) { text, err = s.Type.Fingerprint(args); return err })
	h.text('f', text)
	return err == nil
}

func (h *hasher) text(tag byte, s string) {
	h.buf = append(h.buf, tag)
	h.buf = binary.AppendUvarint(h.buf, uint64(len(s)))
	h.buf = append(h.buf, s...)
}

func (h *hasher) source(src *Source, in *Input) {
	if !src.Given() {
		return
	}
	h.text('i', src.Name)
	if src.From == nil {
		h.value(src.Values[0])
		return
	}
	h.buf = append(h.buf, 'l')
	h.buf = append(h.buf, src.From.Key[:]...)
	h.buf = binary.AppendVarint(h.buf, int64(src.Slot))
	if in != nil && in.RawLink { // the node sees the id itself
		h.text('n', src.From.ID)
	}
}

// value writes a literal. Go values that an expansion passed along are known
// by their digest; without one the step is never the same twice.
func (h *hasher) value(v any) {
	switch v := v.(type) {
	case int64:
		h.text('d', strconv.FormatInt(v, 10))
	case uint64:
		h.text('d', strconv.FormatUint(v, 10))
	case float64:
		h.text('e', strconv.FormatUint(math.Float64bits(v), 16))
	case string:
		h.text('s', v)
	case bool, nil, []any, map[string]any:
		raw, err := json.Marshal(v)
		if err != nil {
			raw = []byte(nonce().String())
		}
		h.text('j', string(raw))
	case digester:
		h.text('g', v.Digest())
	default:
		h.text('x', nonce().String())
	}
}

// digester is a result that can name its own content, for receipts.
type digester interface{ Digest() string }

// sketcher is a result that can summarise its numbers, for receipts.
type sketcher interface{ Sketch() string }
