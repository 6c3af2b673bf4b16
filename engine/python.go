package engine

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/comfyrun/comfyrun/workflows"
)

// pythonString is Python's str() of a literal: what a number, a list or null
// becomes when a STRING wants it.
func pythonString(v workflows.Value) string {
	if s, ok := v.Str(); ok {
		return s
	}
	return pythonRepr(v)
}

// pythonRepr is Python's repr() of a literal.
func pythonRepr(v workflows.Value) string {
	switch v.Kind() {
	case workflows.KindNull:
		return "None"
	case workflows.KindBool:
		return strings.ToUpper(v.Raw()[:1]) + v.Raw()[1:]
	case workflows.KindNumber:
		if v.IsIntegerText() {
			return v.Raw()
		}
		f, _ := v.Float64()
		return pythonFloat(f)
	case workflows.KindString:
		s, _ := v.Str()
		return quote(s)
	}
	return reprItems(v)
}

func reprItems(v workflows.Value) string {
	var parts []string
	if items, ok := v.List(); ok {
		for _, item := range items {
			parts = append(parts, pythonRepr(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	members, _ := v.Object()
	for _, m := range members {
		parts = append(parts, quote(m.Key)+": "+pythonRepr(m.Value))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// reprNames is Python's repr() of a list of strings.
func reprNames(names []string) string {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = quote(n)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// quote is Python's repr() of a string: single quotes unless only these occur
// in it, escapes for what cannot be printed.
func quote(s string) string {
	q := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	var b strings.Builder
	b.WriteRune(q)
	for _, r := range s {
		b.WriteString(escape(r, q))
	}
	b.WriteRune(q)
	return b.String()
}

func escape(r, q rune) string {
	switch {
	case r == q || r == '\\':
		return `\` + string(r)
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case unicode.IsPrint(r):
		return string(r)
	case r < 0x100:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}
