package workflows

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The limits of a workflow file. The largest workflows that people share have a
// few thousand nodes and a few megabytes.
const (
	MaxBytes = 64 << 20
	MaxDepth = 64
	MaxNodes = 100_000
)

// SyntaxError says what is wrong with a workflow's text, and where.
type SyntaxError struct {
	// Line and Column count from 1; columns count characters.
	Line, Column int
	// Offset counts bytes from 0.
	Offset int64
	// Msg says what is wrong.
	Msg string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Msg)
}

// scanner checks JSON text and writes it compactly to out.
type scanner struct {
	data  []byte
	pos   int
	depth int
	out   []byte
	half  bool // half a surrogate pair was met
}

// byteOrderMark may start a file and counts for nothing.
var byteOrderMark = []byte("\xef\xbb\xbf")

func syntaxError(data []byte, pos int, format string, args ...any) *SyntaxError {
	pos = min(pos, len(data))
	start := bytes.LastIndexByte(data[:pos], '\n') + 1
	if start == 0 && bytes.HasPrefix(data[:pos], byteOrderMark) {
		start = len(byteOrderMark)
	}
	return &SyntaxError{
		Line:   bytes.Count(data[:pos], []byte{'\n'}) + 1,
		Column: utf8.RuneCount(data[start:pos]) + 1,
		Offset: int64(pos),
		Msg:    fmt.Sprintf(format, args...),
	}
}

func (s *scanner) fail(pos int, format string, args ...any) error {
	return syntaxError(s.data, pos, format, args...)
}

// compact checks data to be one JSON value and returns it compactly.
func compact(data []byte) (Value, error) {
	if len(data) > MaxBytes {
		return Value{}, syntaxError(data, MaxBytes, "more than %d MiB", MaxBytes>>20)
	}
	s := scanner{data: data, out: make([]byte, 0, len(data))}
	s.mark()
	if err := s.value(); err != nil {
		return Value{}, err
	}
	if s.space(); s.pos < len(data) {
		return Value{}, s.fail(s.pos, "%s after the end of the value", s.found())
	}
	return checked(string(s.out)), nil
}

// mark passes over a byte order mark at the start.
func (s *scanner) mark() {
	if bytes.HasPrefix(s.data, byteOrderMark) {
		s.pos = len(byteOrderMark)
	}
}

func (s *scanner) space() {
	for s.pos < len(s.data) && strings.IndexByte(" \t\r\n", s.data[s.pos]) >= 0 {
		s.pos++
	}
}

func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// found describes what stands at the position, for messages.
func (s *scanner) found() string {
	if s.pos >= len(s.data) {
		return "end of file"
	}
	r, size := utf8.DecodeRune(s.data[s.pos:])
	if r == utf8.RuneError && size == 1 {
		return fmt.Sprintf("byte 0x%02x", s.data[s.pos])
	}
	return fmt.Sprintf("%q", r)
}

func (s *scanner) value() error {
	s.space()
	switch c := s.peek(); {
	case c == '{':
		return s.nested(s.object)
	case c == '[':
		return s.nested(s.list)
	case c == '"':
		return s.quoted()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if s.word(word) {
			s.out = append(s.out, word...)
			return nil
		}
	}
	// Python writes NaN, for example in the "is_changed" of pictures; ComfyUI's
	// page reads it as null.
	if s.word("NaN") {
		s.out = append(s.out, "null"...)
		return nil
	}
	return s.fail(s.pos, "%s where a value should be", s.found())
}

func (s *scanner) word(w string) bool {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(w)) {
		return false
	}
	s.pos += len(w)
	return true
}

func (s *scanner) nested(f func() error) error {
	if s.depth++; s.depth > MaxDepth {
		return s.fail(s.pos, "nested more than %d deep", MaxDepth)
	}
	err := f()
	s.depth--
	return err
}

func (s *scanner) list() error {
	s.copyByte()
	if s.space(); s.peek() == ']' {
		s.copyByte()
		return nil
	}
	for {
		if err := s.value(); err != nil {
			return err
		}
		if done, err := s.separator(']'); done || err != nil {
			return err
		}
	}
}

func (s *scanner) object() error {
	s.copyByte()
	seen := map[string]bool{}
	if s.space(); s.peek() == '}' {
		s.copyByte()
		return nil
	}
	for {
		if err := s.key(seen); err != nil {
			return err
		}
		if err := s.value(); err != nil {
			return err
		}
		if done, err := s.separator('}'); done || err != nil {
			return err
		}
	}
}

func (s *scanner) key(seen map[string]bool) error {
	s.space()
	if s.peek() != '"' {
		return s.fail(s.pos, "%s where a key in quotes should be", s.found())
	}
	pos, from := s.pos, len(s.out)
	s.half = false
	if err := s.quoted(); err != nil {
		return err
	}
	if s.half {
		return s.fail(pos, "half a surrogate pair in a key")
	}
	key := string(s.out[from:])
	if seen[key] {
		return s.fail(pos, "key %s occurs twice", key)
	}
	seen[key] = true
	if s.space(); s.peek() != ':' {
		return s.fail(s.pos, "%s where a colon should be", s.found())
	}
	s.copyByte()
	return nil
}

// separator reads the comma or the bracket after an item.
func (s *scanner) separator(end byte) (done bool, err error) {
	s.space()
	switch c := s.peek(); c {
	case ',', end:
		s.copyByte()
		return c == end, nil
	}
	return false, s.fail(s.pos, "%s where ',' or '%c' should be", s.found(), end)
}

func (s *scanner) copyByte() {
	s.out = append(s.out, s.data[s.pos])
	s.pos++
}

func (s *scanner) number() error {
	start := s.pos
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return s.fail(s.pos, "%s where a digit should be", s.found())
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return s.fail(s.pos, "%s where a digit should be", s.found())
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.fail(s.pos, "%s where a digit should be", s.found())
		}
	}
	s.out = append(s.out, s.data[start:s.pos]...)
	return nil
}

func (s *scanner) digits() bool {
	start := s.pos
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.pos++
	}
	return s.pos > start
}

// quoted reads a string and writes it with as few escapes as possible.
func (s *scanner) quoted() error {
	start := s.pos
	s.pos++
	s.out = append(s.out, '"')
	for {
		switch c := s.peek(); {
		case s.pos >= len(s.data):
			return s.fail(start, "string without end")
		case c == '"':
			s.pos++
			s.out = append(s.out, '"')
			return nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		case c < 0x20:
			return s.fail(s.pos, "control character 0x%02x in a string", c)
		case c < utf8.RuneSelf:
			s.copyByte()
		default:
			r, size := utf8.DecodeRune(s.data[s.pos:])
			if r == utf8.RuneError && size == 1 {
				return s.fail(s.pos, "byte 0x%02x is not UTF-8", c)
			}
			s.out = append(s.out, s.data[s.pos:s.pos+size]...)
			s.pos += size
		}
	}
}

func (s *scanner) escape() error {
	start := s.pos
	s.pos++
	c := s.peek()
	if c == 'u' {
		s.pos--
		return s.unicodeEscape()
	}
	i := strings.IndexByte(`"\/bfnrt`, c)
	if i < 0 || c == 0 {
		return s.fail(start, "unknown escape in a string")
	}
	s.pos++
	s.out = appendRune(s.out, rune("\"\\/\b\f\n\r\t"[i]))
	return nil
}

// unicodeEscape reads \uXXXX or a surrogate pair of them. Half a pair, which
// JavaScript can write, has no UTF-8 and keeps its escape.
func (s *scanner) unicodeEscape() error {
	r, ok := s.hex()
	if !ok {
		return s.fail(s.pos, `\u without four hexadecimal digits`)
	}
	s.pos += 6
	if utf16.IsSurrogate(r) {
		if low, ok := s.hex(); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				s.pos += 6
				s.out = utf8.AppendRune(s.out, pair)
				return nil
			}
		}
		s.half = true
		s.out = fmt.Appendf(s.out, `\u%04x`, r)
		return nil
	}
	s.out = appendRune(s.out, r)
	return nil
}

// hex reads the \uXXXX at the position without moving.
func (s *scanner) hex() (rune, bool) { return hexEscape(s.data[s.pos:]) }

func hexEscape[T string | []byte](t T) (rune, bool) {
	if len(t) < 6 || t[0] != '\\' || t[1] != 'u' {
		return 0, false
	}
	var r rune
	for i := 2; i < 6; i++ {
		d := strings.IndexByte("0123456789abcdef", t[i]|0x20)
		if d < 0 || t[i] < '0' {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}
