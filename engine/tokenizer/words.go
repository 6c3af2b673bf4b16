package tokenizer

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// normalize prepares text as the reference tokenizer does without ftfy:
// characters that show nothing go, CJK ideographs become words of their own,
// the rest is composed (NFC), lower-cased and joined with single blanks.
// Accents stay.
func normalize(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\t' || r == '\n' || r == '\r' || unicode.Is(unicode.Zs, r):
			b.WriteByte(' ')
		case r == unicode.ReplacementChar || !visible(r):
		case unicode.In(r, cjk):
			b.WriteString(" " + string(r) + " ")
		default:
			b.WriteRune(r)
		}
	}
	words := strings.Fields(norm.NFC.String(b.String()))
	for i, w := range words {
		words[i] = lower(w)
	}
	return strings.Join(words, " ")
}

// visible reports whether r is outside of the categories C*: control, format,
// private, surrogate and unassigned.
func visible(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z)
}

// cjk holds the blocks of ideographs that are split into single words.
var cjk = &unicode.RangeTable{
	R16: []unicode.Range16{{Lo: 0x3400, Hi: 0x4dbf, Stride: 1}, {Lo: 0x4e00, Hi: 0x9fff, Stride: 1}, {Lo: 0xf900, Hi: 0xfaff, Stride: 1}},
	R32: []unicode.Range32{
		{Lo: 0x20000, Hi: 0x2a6df, Stride: 1}, {Lo: 0x2a700, Hi: 0x2b73f, Stride: 1}, {Lo: 0x2b740, Hi: 0x2b81f, Stride: 1},
		{Lo: 0x2b820, Hi: 0x2ceaf, Stride: 1}, {Lo: 0x2f800, Hi: 0x2fa1f, Stride: 1},
	},
}

// lower is Python's str.lower, which differs from Go's for two letters: İ keeps
// its dot, and a Σ that ends a word becomes ς.
func lower(word string) string {
	if !strings.ContainsAny(word, "İΣ") {
		return strings.ToLower(word)
	}
	runes := []rune(word)
	var b strings.Builder
	for i, r := range runes {
		switch {
		case r == 'İ':
			b.WriteString("i\u0307")
		case r == 'Σ' && cased(runes[:i], true) && !cased(runes[i+1:], false):
			b.WriteRune('ς')
		default:
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// cased reports whether the nearest rune that counts, looked for from the end
// or from the start, is a letter with case.
func cased(runes []rune, fromEnd bool) bool {
	for i := range runes {
		r := runes[i]
		if fromEnd {
			r = runes[len(runes)-1-i]
		}
		if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk) || strings.ContainsRune("'.:·’․", r) {
			continue
		}
		return unicode.In(r, unicode.Lu, unicode.Ll, unicode.Lt)
	}
	return false
}

// suffixes are the ends of English contractions, which are words of their own.
var suffixes = []string{"'s", "'ſ", "'t", "'re", "'ve", "'m", "'ll", "'d"}

// nextWord cuts the first word off normalized text: a special token, the end of
// a contraction, a run of letters, one digit, or a run of anything else.
func nextWord(text string) (word, rest string) {
	for _, fixed := range [][]string{{startText, endText}, suffixes} {
		for _, s := range fixed {
			if strings.HasPrefix(text, s) {
				return s, text[len(s):]
			}
		}
	}
	first := kindOf(firstRune(text))
	for i, r := range text {
		if i > 0 && (first == digit || kindOf(r) != first) {
			return text[:i], text[i:]
		}
	}
	return text, ""
}

type kind int

const (
	other kind = iota
	letter
	digit
	blank
)

func kindOf(r rune) kind {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return digit
	case unicode.IsSpace(r):
		return blank
	}
	return other
}
