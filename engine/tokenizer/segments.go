// Package tokenizer turns prompts into the token ids that text encoders take,
// with ComfyUI's syntax for weights and embeddings.
//
// Vocabulary: a Segment is a stretch of the prompt with one weight, written
// (like this) or (like this:1.3). A reference is the word embedding:NAME,
// which stands for rows of a textual-inversion file. A Token is an id, or one
// such row, with its weight. A chunk is a list of tokens of the length that
// the encoder was made for, 77; long prompts take several.
package tokenizer

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Segment is a stretch of text with one weight; 1 is neutral.
type Segment struct {
	Text   string
	Weight float64
}

// Marks for escaped parentheses while weights are parsed.
const (
	markClose = "\x00\x01"
	markOpen  = "\x00\x02"
)

var (
	escape   = strings.NewReplacer(`\)`, markClose, `\(`, markOpen)
	unescape = strings.NewReplacer(markClose, ")", markOpen, "(")
)

// maxDepth bounds nested parentheses; deeper ones are taken literally.
const maxDepth = 500

// ParseWeights splits a prompt by its weights. Parentheses multiply by 1.1,
// (text:1.3) sets the weight, whatever surrounds it; \( and \) are literal, and
// so is a parenthesis without its partner.
func ParseWeights(text string) []Segment {
	segments := appendSegments(nil, Segment{escape.Replace(text), 1}, 0)
	for i := range segments {
		segments[i].Text = unescape.Replace(segments[i].Text)
	}
	return segments
}

func appendSegments(out []Segment, s Segment, depth int) []Segment {
	for _, item := range topLevel(s.Text) {
		if depth >= maxDepth || len(item) < 2 || item[0] != '(' || item[len(item)-1] != ')' {
			out = append(out, Segment{item, s.Weight})
			continue
		}
		inner := Segment{item[1 : len(item)-1], s.Weight * 1.1}
		if p := strings.LastIndexByte(inner.Text, ':'); p > 0 {
			if w, ok := parseFloat(inner.Text[p+1:]); ok {
				inner = Segment{inner.Text[:p], w}
			}
		}
		out = appendSegments(out, inner, depth+1)
	}
	return out
}

// topLevel splits text into stretches outside of parentheses and whole
// outermost pairs. A closing parenthesis too many makes the count negative, and
// all is literal until it is 0 again.
func topLevel(text string) []string {
	var items []string
	start, depth := 0, 0
	flush := func(end int) {
		if start < end {
			items = append(items, text[start:end])
		}
		start = end
	}
	for i := range len(text) {
		switch text[i] {
		case '(':
			if depth == 0 {
				flush(i)
			}
			depth++
		case ')':
			depth--
			if depth == 0 {
				flush(i + 1)
			}
		}
	}
	flush(len(text))
	return items
}

// floatForm is what Python's float() reads, blanks and underscores apart.
var floatForm = regexp.MustCompile(`^[+-]?(\d+(_\d+)*\.?(\d+(_\d+)*)?|\.\d+(_\d+)*)([eE][+-]?\d+(_\d+)*)?$|^[+-]?(?i:inf|infinity|nan)$`)

// parseFloat reads a number as Python's float() does: blanks around it,
// underscores between digits, digits of any script, inf and nan.
func parseFloat(text string) (float64, bool) {
	text = strings.Map(asciiDigit, strings.TrimFunc(text, isBlank))
	if !floatForm.MatchString(text) {
		return 0, false
	}
	// A range error comes with the infinity that Python returns.
	v, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	return v, err == nil || v > 1 || v < -1
}

// asciiDigit maps decimal digits of all scripts, which Unicode lists in runs of
// ten, to 0 to 9.
func asciiDigit(r rune) rune {
	if r < 0x80 {
		return r
	}
	for _, t := range unicode.Nd.R16 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return '0' + (r-rune(t.Lo))%10
		}
	}
	for _, t := range unicode.Nd.R32 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return '0' + (r-rune(t.Lo))%10
		}
	}
	return r
}

// isBlank reports what Python's strip() and split() take for white space.
func isBlank(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }
