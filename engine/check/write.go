package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// WriteText writes a line for each finding, as compilers do: file:line:column: severity: what is wrong (kind).
func WriteText(w io.Writer, findings []Finding) error {
	var b bytes.Buffer
	for i := range findings {
		f := &findings[i]
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
		}
		fmt.Fprintf(&b, ": %s: %s (%s)\n", f.Severity, oneLine(f.Text()), f.Kind)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// oneLine keeps a text that a file has a part in from making lines, or a terminal do anything, of its own.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
}

// WriteJSON writes an object a line for each finding.
func WriteJSON(w io.Writer, findings []Finding) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i := range findings {
		if err := enc.Encode(&findings[i]); err != nil {
			return fmt.Errorf("write finding: %w", err)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// WriteGitHub writes workflow commands of GitHub Actions, which shows them as annotations of the files.
func WriteGitHub(w io.Writer, findings []Finding) error {
	var b bytes.Buffer
	for i := range findings {
		f := &findings[i]
		fmt.Fprintf(&b, "::%s file=%s", f.Severity, property(slashed(f.File)))
		if f.Line > 0 {
			fmt.Fprintf(&b, ",line=%d,endLine=%d", f.Line, f.EndLine)
			if f.Line == f.EndLine { // columns of several lines are refused
				fmt.Fprintf(&b, ",col=%d,endColumn=%d", f.Column, f.EndColumn)
			}
		}
		fmt.Fprintf(&b, ",title=%s::%s\n", property(string(f.Kind)), message(f.Text()))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// message escapes what would end a workflow command.
func message(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.ReplaceAll(oneLine(lines[i]), "%", "%25")
	}
	return strings.Join(lines, "%0A")
}

// property escapes what would end a property of a workflow command.
func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(message(s))
}

// slashed is a path as URLs and GitHub have it.
func slashed(file string) string {
	return strings.TrimPrefix(strings.ReplaceAll(file, `\`, "/"), "./")
}

// Strict makes errors of all warnings.
func Strict(findings []Finding) {
	for i := range findings {
		findings[i].Severity = Error
	}
}
