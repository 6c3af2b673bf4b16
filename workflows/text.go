package workflows

import (
	"strings"
	"unicode/utf8"
)

// The functions of this file work on compact JSON that was checked before.

// appendRune writes a character of a string, escaped where JSON demands it.
func appendRune(b []byte, r rune) []byte {
	const short = "\"\\\b\f\n\r\t"
	if i := strings.IndexRune(short, r); i >= 0 {
		return append(b, '\\', `"\bfnrt`[i])
	}
	if r < 0x20 {
		return append(b, '\\', 'u', '0', '0', '0'+byte(r>>4), "0123456789abcdef"[r&15])
	}
	return utf8.AppendRune(b, r)
}

// appendQuoted writes valid UTF-8 as a JSON string.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		b = appendRune(b, r)
	}
	return append(b, '"')
}

func unquote(raw string) string {
	raw = raw[1 : len(raw)-1]
	if !strings.Contains(raw, `\`) {
		return raw
	}
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			b.WriteByte(raw[i])
			continue
		}
		if r, ok := hexEscape(raw[i:]); ok {
			b.WriteRune(r) // half a surrogate pair becomes U+FFFD
			i += 5
			continue
		}
		i++
		b.WriteByte("\"\\\b\f\n\r\t"[strings.IndexByte(`"\bfnrt`, raw[i])])
	}
	return b.String()
}

// skip returns the position after the value that starts at i.
func skip(raw string, i int) int {
	depth := 0
	for ; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = skipString(raw, i) - 1
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth < 0 {
				return i
			}
		case ',', ':':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

func skipString(raw string, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func splitList(raw string) []Value {
	items := []Value{}
	for i := 1; i < len(raw)-1; i++ {
		end := skip(raw, i)
		items = append(items, checked(raw[i:end]))
		i = end
	}
	return items
}

func splitObject(raw string) Object {
	members := Object{}
	for i := 1; i < len(raw)-1; i++ {
		colon := skip(raw, i)
		end := skip(raw, colon+1)
		members = append(members, Member{unquote(raw[i:colon]), checked(raw[colon+1 : end])})
		i = end
	}
	return members
}
