package charts

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// This file writes YAML. It writes what it is given in the order that it is given in, texts of several lines as such
// wherever YAML can hold them unchanged, so that a difference between two versions shows as one of the workflow. No
// release of a library decides about the bytes.

// object is a mapping in order; a value is a string, bool, int, nil, object or list.
type object []member

type member struct {
	key   string
	value any
}

type list []any

func writeObject(b *bytes.Buffer, o object, depth int) {
	for _, m := range o {
		if bytes.HasSuffix(b.Bytes(), []byte("\n")) { // else the first member stands beside a list's hyphen
			b.WriteString(strings.Repeat("  ", depth))
		}
		writeScalar(b, m.key)
		b.WriteByte(':')
		writeValue(b, m.value, depth+1)
	}
}

// writeValue writes what follows a colon, up to the end of the line or lines.
func writeValue(b *bytes.Buffer, v any, depth int) {
	switch v := v.(type) {
	case object:
		if len(v) == 0 {
			b.WriteString(" {}\n")
			return
		}
		b.WriteByte('\n')
		writeObject(b, v, depth)
	case list:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return
		}
		b.WriteByte('\n')
		writeList(b, v, depth)
	case string:
		b.WriteByte(' ')
		writeText(b, v, depth)
	case nil:
		b.WriteString(" null\n")
	default:
		fmt.Fprintf(b, " %v\n", v)
	}
}

func writeList(b *bytes.Buffer, l list, depth int) {
	for _, item := range l {
		b.WriteString(strings.Repeat("  ", depth) + "-")
		if o, ok := item.(object); ok && len(o) > 0 {
			b.WriteByte(' ')
			writeObject(b, o, depth+1)
			continue
		}
		writeValue(b, item, depth+1)
	}
}

func writeText(b *bytes.Buffer, text string, depth int) {
	if !fitsBlock(text) {
		writeScalar(b, text)
		b.WriteByte('\n')
		return
	}
	body := strings.TrimSuffix(text, "\n")
	if body == text {
		b.WriteString("|-\n")
	} else {
		b.WriteString("|\n")
	}
	indent := strings.Repeat("  ", depth)
	for line := range strings.SplitSeq(body, "\n") {
		if line != "" {
			b.WriteString(indent + line)
		}
		b.WriteByte('\n')
	}
}

// fitsBlock says whether a text of several lines can stand as it is: nothing in it that YAML takes for the end of a line or
// forbids, no blank at its very beginning, and no empty line or blank at its end, which readers have been seen to drop.
func fitsBlock(text string) bool {
	body := strings.TrimSuffix(text, "\n")
	if !strings.Contains(text, "\n") || body == "" || strings.ContainsAny(body[len(body)-1:], " \t\n") || strings.ContainsRune(" \t\n", rune(body[0])) {
		return false
	}
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !printable(r) })
}

// printable are the characters that need no escape anywhere. The table is YAML's own, less what ends a line: it must not
// change with the Unicode version that a compiler knows.
func printable(r rune) bool {
	if r == '\u2028' || r == '\u2029' || r == '\ufeff' {
		return false
	}
	return r >= 0x20 && r < 0x7f || r >= 0xa0 && r < 0xd800 || r >= 0xe000 && r < 0xfffd || r >= 0x10000
}

var (
	plainText = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9._/-]*$`)
	notPlain  = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
)

// writeScalar writes a text on one line: as it is, or in double quotes.
func writeScalar(b *bytes.Buffer, text string) {
	if plainText.MatchString(text) && !slices.Contains(notPlain, strings.ToLower(text)) {
		b.WriteString(text)
		return
	}
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case printable(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(b, `\U%08X`, r)
		default:
			fmt.Fprintf(b, `\u%04X`, r)
		}
	}
	b.WriteByte('"')
}
