package nodes

import (
	"context"
	"strings"
	"unicode"
)

type caseConverter struct {
	String string     `in:"string" ui:"multiline"`
	Mode   letterCase `in:"mode"`
}

// convertCase does what Python's upper, lower, capitalize and title do: a word
// begins after anything that has no case, and one letter may become several.
func convertCase(_ context.Context, in caseConverter) (string, error) {
	switch in.Mode {
	case "UPPERCASE":
		return mapLetters(in.String, func([]rune, int) int { return toUpper }), nil
	case "lowercase":
		return lower(in.String), nil
	case "Capitalize":
		return mapLetters(in.String, func(_ []rune, i int) int {
			if i == 0 {
				return toTitle
			}
			return toLower
		}), nil
	case "Title Case":
		return mapLetters(in.String, func(letters []rune, i int) int {
			if i == 0 || !isCased(letters[i-1]) {
				return toTitle
			}
			return toLower
		}), nil
	}
	return in.String, nil
}

func lower(s string) string { return mapLetters(s, func([]rune, int) int { return toLower }) }

// What a letter becomes.
const (
	toUpper = unicode.UpperCase
	toLower = unicode.LowerCase
	toTitle = unicode.TitleCase
)

// mapLetters changes each letter to the case that pick says.
func mapLetters(s string, pick func(letters []rune, i int) int) string {
	special := specialCases()
	letters := []rune(s)
	var b strings.Builder
	for i, r := range letters {
		to := pick(letters, i)
		more, found := special[r]
		switch {
		case to == toLower && r == '\u03a3' && endsWord(letters, i):
			b.WriteRune('\u03c2')
		case to == toLower && r == '\u0130':
			b.WriteString("i\u0307")
		case to == toUpper && found:
			b.WriteString(more.upper)
		case to == toTitle && found:
			b.WriteString(more.title)
		default:
			b.WriteRune(unicode.To(to, r))
		}
	}
	return b.String()
}

// isCased is Unicode's property Cased.
func isCased(r rune) bool {
	return unicode.In(r, unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

// ignoresCase is Unicode's property Case_Ignorable: marks, and punctuation
// that stands within words.
func ignoresCase(r rune) bool {
	return strings.ContainsRune("'.:^`\u00a8\u00ad\u00af\u00b4\u00b7\u00b8\u2018\u2019\u2024\u2027", r) ||
		unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk)
}

// endsWord is Unicode's condition Final_Sigma: a cased letter before, and none
// behind.
func endsWord(letters []rune, i int) bool {
	before, after := i-1, i+1
	for before >= 0 && ignoresCase(letters[before]) {
		before--
	}
	for after < len(letters) && ignoresCase(letters[after]) {
		after++
	}
	return before >= 0 && isCased(letters[before]) && (after == len(letters) || !isCased(letters[after]))
}

type specialCase struct{ upper, title string }

// specialCases are the letters that become several: groups of letter, upper
// case and title case, from Unicode's SpecialCasing.txt.
func specialCases() map[rune]specialCase {
	words := strings.Fields(specialCasing)
	out := make(map[rune]specialCase, len(words)/3)
	for i := 0; i+2 < len(words); i += 3 {
		out[[]rune(words[i])[0]] = specialCase{words[i+1], words[i+2]}
	}
	return out
}

const specialCasing = "" +
	"\u00DF SS Ss \u0149 \u02BCN \u02BCN \u01F0 J\u030C J\u030C " +
	"\u0390 \u0399\u0308\u0301 \u0399\u0308\u0301 \u03B0 \u03A5\u0308\u0301 \u03A5\u0308\u0301 " +
	"\u0587 \u0535\u0552 \u0535\u0582 \u1E96 H\u0331 H\u0331 \u1E97 T\u0308 T\u0308 " +
	"\u1E98 W\u030A W\u030A \u1E99 Y\u030A Y\u030A \u1E9A A\u02BE A\u02BE " +
	"\u1F50 \u03A5\u0313 \u03A5\u0313 \u1F52 \u03A5\u0313\u0300 \u03A5\u0313\u0300 " +
	"\u1F54 \u03A5\u0313\u0301 \u03A5\u0313\u0301 \u1F56 \u03A5\u0313\u0342 \u03A5\u0313\u0342 " +
	"\u1F80 \u1F08\u0399 \u1F88 \u1F81 \u1F09\u0399 \u1F89 \u1F82 \u1F0A\u0399 \u1F8A " +
	"\u1F83 \u1F0B\u0399 \u1F8B \u1F84 \u1F0C\u0399 \u1F8C \u1F85 \u1F0D\u0399 \u1F8D " +
	"\u1F86 \u1F0E\u0399 \u1F8E \u1F87 \u1F0F\u0399 \u1F8F \u1F88 \u1F08\u0399 \u1F88 " +
	"\u1F89 \u1F09\u0399 \u1F89 \u1F8A \u1F0A\u0399 \u1F8A \u1F8B \u1F0B\u0399 \u1F8B " +
	"\u1F8C \u1F0C\u0399 \u1F8C \u1F8D \u1F0D\u0399 \u1F8D \u1F8E \u1F0E\u0399 \u1F8E " +
	"\u1F8F \u1F0F\u0399 \u1F8F \u1F90 \u1F28\u0399 \u1F98 \u1F91 \u1F29\u0399 \u1F99 " +
	"\u1F92 \u1F2A\u0399 \u1F9A \u1F93 \u1F2B\u0399 \u1F9B \u1F94 \u1F2C\u0399 \u1F9C " +
	"\u1F95 \u1F2D\u0399 \u1F9D \u1F96 \u1F2E\u0399 \u1F9E \u1F97 \u1F2F\u0399 \u1F9F " +
	"\u1F98 \u1F28\u0399 \u1F98 \u1F99 \u1F29\u0399 \u1F99 \u1F9A \u1F2A\u0399 \u1F9A " +
	"\u1F9B \u1F2B\u0399 \u1F9B \u1F9C \u1F2C\u0399 \u1F9C \u1F9D \u1F2D\u0399 \u1F9D " +
	"\u1F9E \u1F2E\u0399 \u1F9E \u1F9F \u1F2F\u0399 \u1F9F \u1FA0 \u1F68\u0399 \u1FA8 " +
	"\u1FA1 \u1F69\u0399 \u1FA9 \u1FA2 \u1F6A\u0399 \u1FAA \u1FA3 \u1F6B\u0399 \u1FAB " +
	"\u1FA4 \u1F6C\u0399 \u1FAC \u1FA5 \u1F6D\u0399 \u1FAD \u1FA6 \u1F6E\u0399 \u1FAE " +
	"\u1FA7 \u1F6F\u0399 \u1FAF \u1FA8 \u1F68\u0399 \u1FA8 \u1FA9 \u1F69\u0399 \u1FA9 " +
	"\u1FAA \u1F6A\u0399 \u1FAA \u1FAB \u1F6B\u0399 \u1FAB \u1FAC \u1F6C\u0399 \u1FAC " +
	"\u1FAD \u1F6D\u0399 \u1FAD \u1FAE \u1F6E\u0399 \u1FAE \u1FAF \u1F6F\u0399 \u1FAF " +
	"\u1FB2 \u1FBA\u0399 \u1FBA\u0345 \u1FB3 \u0391\u0399 \u1FBC \u1FB4 \u0386\u0399 \u0386\u0345 " +
	"\u1FB6 \u0391\u0342 \u0391\u0342 \u1FB7 \u0391\u0342\u0399 \u0391\u0342\u0345 " +
	"\u1FBC \u0391\u0399 \u1FBC \u1FC2 \u1FCA\u0399 \u1FCA\u0345 \u1FC3 \u0397\u0399 \u1FCC " +
	"\u1FC4 \u0389\u0399 \u0389\u0345 \u1FC6 \u0397\u0342 \u0397\u0342 " +
	"\u1FC7 \u0397\u0342\u0399 \u0397\u0342\u0345 \u1FCC \u0397\u0399 \u1FCC " +
	"\u1FD2 \u0399\u0308\u0300 \u0399\u0308\u0300 \u1FD3 \u0399\u0308\u0301 \u0399\u0308\u0301 " +
	"\u1FD6 \u0399\u0342 \u0399\u0342 \u1FD7 \u0399\u0308\u0342 \u0399\u0308\u0342 " +
	"\u1FE2 \u03A5\u0308\u0300 \u03A5\u0308\u0300 \u1FE3 \u03A5\u0308\u0301 \u03A5\u0308\u0301 " +
	"\u1FE4 \u03A1\u0313 \u03A1\u0313 \u1FE6 \u03A5\u0342 \u03A5\u0342 " +
	"\u1FE7 \u03A5\u0308\u0342 \u03A5\u0308\u0342 \u1FF2 \u1FFA\u0399 \u1FFA\u0345 " +
	"\u1FF3 \u03A9\u0399 \u1FFC \u1FF4 \u038F\u0399 \u038F\u0345 \u1FF6 \u03A9\u0342 \u03A9\u0342 " +
	"\u1FF7 \u03A9\u0342\u0399 \u03A9\u0342\u0345 \u1FFC \u03A9\u0399 \u1FFC \uFB00 FF Ff \uFB01 FI Fi " +
	"\uFB02 FL Fl \uFB03 FFI Ffi \uFB04 FFL Ffl \uFB05 ST St \uFB06 ST St " +
	"\uFB13 \u0544\u0546 \u0544\u0576 \uFB14 \u0544\u0535 \u0544\u0565 \uFB15 \u0544\u053B \u0544\u056B " +
	"\uFB16 \u054E\u0546 \u054E\u0576 \uFB17 \u0544\u053D \u0544\u056D"
