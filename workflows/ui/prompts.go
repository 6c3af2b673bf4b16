package ui

import (
	"regexp"
	"strings"
	"time"

	"github.com/comfyrun/comfyrun/workflows"
)

// maxPromptNesting bounds {a|{b|…}}; what is nested deeper stays as it is.
const maxPromptNesting = 64

var comments = regexp.MustCompile(`/\*[\s\S]*?\*/|//.*`)

// ExpandPrompt replaces each {a|b|c} of a text by one of the alternatives, outermost first, from left to right, as the
// editor does: comments are cut first, a backslash keeps the next character from meaning anything. Random returns
// numbers from 0 up to 1.
func ExpandPrompt(s string, random func() float64) string {
	s = expandPrompt(comments.ReplaceAllString(s, ""), random, 0)
	return strings.NewReplacer(`\{`, "{", `\}`, "}").Replace(s)
}

func expandPrompt(s string, random func() float64, depth int) string {
	if depth > maxPromptNesting {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			end := min(i+2, len(s))
			b.WriteString(s[i:end])
			i = end - 1
		case '{':
			alternatives, end := alternatives(s, i)
			chosen := alternatives[min(int(random()*float64(len(alternatives))), len(alternatives)-1)]
			b.WriteString(expandPrompt(chosen, random, depth+1))
			i = end
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// alternatives splits what stands in the braces that open at a position, and returns where they close. A brace without
// its fellow closes at the end.
func alternatives(s string, open int) (parts []string, end int) {
	depth, start := 0, open+1
	for i := open; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return append(parts, s[start:i]), i
			}
		case '|':
			if depth == 1 {
				parts = append(parts, s[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, s[start:]), len(s)
}

var replaceable = regexp.MustCompile(`%([^%]+)%`)

// replaceText replaces %Node.widget% in a file name by the value of another node's widget, and %date:…%. What means
// nothing here, such as %width%, stays: it is the server's.
func (c *conversion) replaceText(r *record, s string) (string, error) {
	var err error
	replaced := replaceable.ReplaceAllStringFunc(s, func(found string) string {
		inner := found[1 : len(found)-1]
		if format, ok := strings.CutPrefix(inner, "date:"); ok && !c.options.Now.IsZero() {
			return formatDate(format, c.options.Now)
		}
		name, widget, ok := strings.Cut(inner, ".")
		if !ok || err != nil {
			return found
		}
		if err = c.spend(c.count); err != nil {
			return found
		}
		v, ok := c.valueOf(r, name, widget)
		if !ok {
			c.warn(r, "filename_prefix", found+" names no value of a node")
			return found
		}
		return fileName(javaText(v))
	})
	return replaced, err
}

// valueOf finds the value that %Node.widget% means: of the node that is called so for this purpose, else by its title.
func (c *conversion) valueOf(r *record, name, input string) (workflows.Value, bool) {
	for _, called := range []func(*record) string{
		func(r *record) string { return r.n.properties.Text("Node name for S&R") },
		(*record).title,
	} {
		for in := r.in; ; in = in.owner.in {
			for _, other := range in.records {
				if called(other) != name {
					continue
				}
				if w := other.widget(input); w != nil && w.has {
					return w.value, true
				}
			}
			if in.owner == nil {
				break
			}
		}
	}
	return workflows.Value{}, false
}

// fileName replaces what cannot be in the name of a file.
func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || strings.ContainsRune(`/?<>\:*|"`, r) {
			return '_'
		}
		return r
	}, s)
}

var dateWords = regexp.MustCompile(`d{1,2}|h{1,2}|m{1,2}|s{1,2}|M{1,2}|yyyy|yy`)

// formatDate writes a time in the editor's way: yyyy-MM-dd hh:mm:ss. A word of one letter has no leading zero.
func formatDate(format string, t time.Time) string {
	layouts := map[string]string{"yyyy": "2006", "yy": "06", "MM": "01", "M": "1", "dd": "02", "d": "2", "hh": "15", "mm": "04", "m": "4", "ss": "05", "s": "5"}
	written := dateWords.ReplaceAllStringFunc(format, func(word string) string {
		if word == "h" {
			return strings.TrimPrefix(t.Format("15"), "0")
		}
		return t.Format(layouts[word])
	})
	return written
}

// trimSample takes off what very old files put before the names of samplers.
func trimSample(s string) string { return strings.TrimPrefix(s, "sample_") }
