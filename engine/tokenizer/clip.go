package tokenizer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

//go:embed merges.txt.gz
var mergesFile []byte

// CLIP's special tokens.
const (
	Start = 49406 // <|startoftext|>, in front of every chunk
	End   = 49407 // <|endoftext|>, after the text; CLIP-L pads with it too
)

const (
	startText  = "<|startoftext|>"
	endText    = "<|endoftext|>"
	mergeCount = 48894
)

// pair is two neighbouring symbols.
type pair struct{ left, right uint16 }

// CLIP is the byte-pair tokenizer of OpenAI's CLIP and of OpenCLIP. Ids 0 to
// 255 are bytes, 256 to 511 bytes that end a word, then come the merges in the
// order of their ranks. It is safe for concurrent use.
type CLIP struct {
	merges map[pair]uint16 // to the id of both together; a lower id merges first
	bytes  [256]uint16     // id of each byte inside a word
}

// NewCLIP builds the tokenizer from the merges that the program carries.
func NewCLIP() (*CLIP, error) {
	c, err := newCLIP(mergesFile)
	if err != nil {
		return nil, fmt.Errorf("load clip merges: %w", err)
	}
	return c, nil
}

func newCLIP(file []byte) (*CLIP, error) {
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	c := &CLIP{merges: make(map[pair]uint16, mergeCount)}
	ids := make(map[string]uint16, Start)
	for id, b := range byteOrder() {
		c.bytes[b] = uint16(id)
		ids[string(printable(b))] = uint16(id)
		ids[string(printable(b))+endOfWord] = uint16(id + 256)
	}
	lines := bufio.NewScanner(z)
	lines.Scan() // the version
	for n := 0; lines.Scan(); n++ {
		left, right, ok := strings.Cut(lines.Text(), " ")
		l, okLeft := ids[left]
		r, okRight := ids[right]
		if !ok || !okLeft || !okRight {
			return nil, fmt.Errorf("merge %d: %q does not join known symbols", n+1, lines.Text())
		}
		id := uint16(len(ids))
		ids[left+right] = id
		c.merges[pair{l, r}] = id
	}
	if lines.Err() == nil && (len(ids) != Start || len(c.merges) != mergeCount) {
		return nil, fmt.Errorf("%d merges make %d symbols, want %d and %d", len(c.merges), len(ids), mergeCount, Start)
	}
	return c, lines.Err()
}

// endOfWord marks symbols that end a word in the file of merges.
const endOfWord = "</w>"

// shown reports whether a byte stands for itself in the file of merges, as the
// Latin-1 characters do that one can see.
func shown(b byte) bool { return 33 <= b && b <= 126 || 161 <= b && b <= 172 || b >= 174 }

// byteOrder lists the bytes by id: first those that stand for themselves.
func byteOrder() []byte {
	var first, then []byte
	for i := range 256 {
		if b := byte(i); shown(b) {
			first = append(first, b)
		} else {
			then = append(then, b)
		}
	}
	return append(first, then...)
}

// printable returns the character that stands for a byte in the file of merges:
// itself, or the next free one from U+0100 on.
func printable(b byte) rune {
	if shown(b) {
		return rune(b)
	}
	n := rune(0)
	for i := range b {
		if !shown(i) {
			n++
		}
	}
	return 0x100 + n
}

// ids returns the tokens of a text without weights, without start and end.
func (c *CLIP) ids(text string) []int {
	var out []int
	for text != "" {
		at, special := nextSpecial(text)
		for words := normalize(text[:at]); words != ""; words = strings.TrimPrefix(words, " ") {
			var word string
			word, words = nextWord(words)
			switch word {
			case startText:
				out = append(out, Start)
			case endText:
				out = append(out, End)
			default:
				out = c.appendWord(out, word)
			}
		}
		text = text[at+len(special):]
		switch special {
		case startText:
			out = append(out, Start)
		case endText:
			out = append(out, End)
		}
	}
	return out
}

// nextSpecial finds the first special token written out in text; at is the
// text's length when there is none.
func nextSpecial(text string) (at int, special string) {
	at = len(text)
	for _, s := range []string{startText, endText} {
		if i := strings.Index(text, s); i >= 0 && i < at {
			at, special = i, s
		}
	}
	return at, special
}

// none is the id of pairs that do not merge: later than all that do.
const none = math.MaxUint16

// appendWord appends a word's tokens: its bytes, merged pair by pair, the pair
// of the lowest rank first, all its occurrences from left to right.
func (c *CLIP) appendWord(out []int, word string) []int {
	symbols := make([]uint16, len(word))
	for i := range len(word) {
		symbols[i] = c.bytes[word[i]]
	}
	symbols[len(symbols)-1] += 256
	joined := make([]uint16, len(symbols)) // what symbols i and i+1 make
	for i := range joined {
		joined[i] = c.join(symbols, i)
	}
	for best := slices.Min(joined); best != none; best = slices.Min(joined) {
		n := 0
		for i := 0; i < len(symbols); i++ {
			symbols[n], joined[n] = symbols[i], joined[i]
			if joined[i] == best {
				symbols[n] = best
				i++
			}
			n++
		}
		symbols, joined = symbols[:n], joined[:n]
		for i := range joined {
			if symbols[i] == best || i+1 < n && symbols[i+1] == best {
				joined[i] = c.join(symbols, i)
			}
		}
	}
	for _, s := range symbols {
		out = append(out, int(s))
	}
	return out
}

// join returns what symbol i makes with its right neighbour, or none.
func (c *CLIP) join(symbols []uint16, i int) uint16 {
	if i+1 < len(symbols) {
		if id, ok := c.merges[pair{symbols[i], symbols[i+1]}]; ok {
			return id
		}
	}
	return none
}

// firstRune is the rune that text begins with.
func firstRune(text string) rune {
	r, _ := utf8.DecodeRuneInString(text)
	return r
}
