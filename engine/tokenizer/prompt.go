package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// Token is one position of an encoder's input.
type Token struct {
	ID        int // -1 for a row of an embedding
	Weight    float32
	Embedding []float32 // the row, nil for an ordinary token
}

// Options are what encoders differ in.
type Options struct {
	Pad    int // the id after the end: End for CLIP-L, 0 for OpenCLIP
	Length int // tokens in a chunk, start and end included; below 3: 77
	// Width is the encoder's. Rows of embeddings that have another one are
	// dropped, and the chunk is padded. 0 keeps all rows.
	Width int
	// Embedding returns the rows of the embedding with that name, and whether
	// there is one. nil knows none.
	Embedding func(name string) ([][]float32, bool)
}

// Encode returns the chunks of a prompt, at least one, each of exactly
// o.Length tokens: start, text, end, padding. Start, end and padding have
// weight 1.
func (c *CLIP) Encode(text string, o Options) [][]Token {
	if o.Length < 3 {
		o.Length = 77
	}
	var groups [][]Token
	for _, s := range ParseWeights(text) {
		for _, piece := range splitReferences(s.Text) {
			groups = append(groups, c.group(piece, float32(s.Weight), o)...)
		}
	}
	chunks := o.chunks(groups)
	for i, chunk := range chunks {
		chunks[i] = o.fitWidth(chunk)
	}
	return chunks
}

// prefix begins a reference to an embedding.
const prefix = "embedding:"

// splitReferences cuts text in front of each reference that follows a blank or
// a line's end, which goes away.
func splitReferences(text string) []string {
	const mark = "\x00"
	cut := strings.NewReplacer(" "+prefix, mark+prefix, "\n"+prefix, mark+prefix)
	var pieces []string
	// The text's own zero bytes mean nothing to the tokenizer.
	for _, piece := range strings.Split(cut.Replace(strings.ReplaceAll(text, mark, "")), mark) {
		if piece != "" {
			pieces = append(pieces, piece)
		}
	}
	return pieces
}

// group returns the tokens of a piece: those of its embedding, if it is a
// reference, and those of its text, in groups of their own.
func (c *CLIP) group(piece string, weight float32, o Options) [][]Token {
	var groups [][]Token
	if reference, ok := strings.CutPrefix(piece, prefix); ok {
		var rows [][]float32
		rows, piece = o.lookUp(reference)
		var group []Token
		for _, row := range rows {
			group = append(group, Token{ID: -1, Weight: weight, Embedding: row})
		}
		groups = append(groups, group)
	}
	var group []Token
	for _, id := range c.ids(piece) {
		group = append(group, Token{ID: id, Weight: weight})
	}
	return append(groups, group)
}

// lookUp finds the rows that a reference (without its prefix) names, and the
// text that is left over: all after the name's first word, and commas around
// the name where it is unknown with them.
func (o Options) lookUp(reference string) (rows [][]float32, rest string) {
	words := strings.FieldsFunc(reference, isBlank)
	if len(words) == 0 {
		return nil, ""
	}
	known := func(name string) (ok bool) {
		if o.Embedding != nil {
			rows, ok = o.Embedding(name)
		}
		return ok
	}
	name, rest := words[0], strings.Join(words[1:], " ")
	if bare := strings.Trim(name, ","); !known(name) && bare != name {
		known(bare)
		// What is left over begins where a name of this length would end, also
		// when the commas were in front.
		rest = string([]rune(name)[utf8.RuneCountInString(bare):]) + " " + rest
	}
	return rows, rest
}

// wholeGroup is the length from which a group may be cut at a chunk's end.
const wholeGroup = 8

// chunks lays groups out in chunks. A group of fewer than wholeGroup tokens
// that does not fit moves to the next chunk as a whole.
func (o Options) chunks(groups [][]Token) [][]Token {
	var chunks [][]Token
	chunk := []Token{special(Start)}
	for _, group := range groups {
		large := len(group) >= wholeGroup
		for len(group) > o.Length-1-len(chunk) {
			// A whole group that fits no chunk at all must be cut, too.
			if large || len(group) > o.Length-2 {
				n := o.Length - 1 - len(chunk)
				chunk, group = append(chunk, group[:n]...), group[n:]
			}
			chunks = append(chunks, o.finish(chunk))
			chunk = []Token{special(Start)}
		}
		chunk = append(chunk, group...)
	}
	return append(chunks, o.finish(chunk))
}

// finish ends a chunk and pads it.
func (o Options) finish(chunk []Token) []Token {
	chunk = append(chunk, special(End))
	for len(chunk) < o.Length {
		chunk = append(chunk, special(o.Pad))
	}
	return chunk
}

func special(id int) Token { return Token{ID: id, Weight: 1} }

// fitWidth drops the rows of another width. Weights belong to positions: those
// of later tokens stay where they were.
func (o Options) fitWidth(chunk []Token) []Token {
	kept := make([]Token, 0, len(chunk))
	for _, t := range chunk {
		if o.Width == 0 || t.Embedding == nil || len(t.Embedding) == o.Width {
			kept = append(kept, t)
		}
	}
	for len(kept) < len(chunk) {
		kept = append(kept, special(o.Pad))
	}
	for i := range kept {
		kept[i].Weight = chunk[i].Weight
	}
	return kept
}
