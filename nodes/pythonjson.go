package nodes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
)

// pythonJSON writes a JSON text as Python's json.dumps does: ", " and ": "
// between the parts, everything beyond ASCII escaped, floats in Python's
// form. Members keep their order. ComfyUI's pictures hold such texts.
func pythonJSON(raw []byte) (string, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	w := &pythonWriter{d: d}
	if err := w.value(); err != nil {
		return "", fmt.Errorf("read JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New("read JSON: text after the value")
	}
	return w.out.String(), nil
}

type pythonWriter struct {
	d   *json.Decoder
	out strings.Builder
}

func (w *pythonWriter) value() error {
	t, err := w.d.Token()
	if err != nil {
		return err
	}
	switch t := t.(type) {
	case json.Delim:
		return w.compound(t)
	case string:
		w.out.WriteString(pythonQuote(t))
	case json.Number:
		w.out.WriteString(pythonNumber(t.String()))
	case bool:
		w.out.WriteString(strconv.FormatBool(t))
	default:
		w.out.WriteString("null")
	}
	return nil
}

func (w *pythonWriter) compound(open json.Delim) error {
	w.out.WriteString(open.String())
	for i := 0; w.d.More(); i++ {
		if i > 0 {
			w.out.WriteString(", ")
		}
		if open == '{' {
			if err := w.value(); err != nil {
				return err
			}
			w.out.WriteString(": ")
		}
		if err := w.value(); err != nil {
			return err
		}
	}
	end, err := w.d.Token()
	if err != nil {
		return err
	}
	w.out.WriteString(end.(json.Delim).String())
	return nil
}

// pythonQuote escapes a string down to printable ASCII.
func pythonQuote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// pythonNumber keeps integers as they are and prints others as the shortest
// float, with an exponent below 1e-4 and from 1e16 on.
func pythonNumber(s string) string {
	if !strings.ContainsAny(s, ".eE") {
		return s
	}
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil && f < 0: // out of range
		return "-Infinity"
	case err != nil:
		return "Infinity"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
