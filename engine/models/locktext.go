package models

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// This file writes models.lock. What was read is kept as text: an entry that did not change is written as it stood, and of
// one that did only the keys that changed, with the comments around them.

const lockHeader = "# Model files by content, sorted by name.\n\nversion = 1\n\n"

// lockLayout is the text of a models.lock in parts.
type lockLayout struct {
	head   string            // everything before the first entry
	blocks []block           // in the order of the file
	byName map[string]*block // once the names are known
}

// block is the text of one entry, with the comments right above it and the empty lines that follow it cut off.
type block struct {
	line  int // of [[model]], from 1
	text  string
	entry Entry
}

var blockStart = regexp.MustCompile(`^\s*\[\[\s*(model|"model"|'model')\s*\]\]\s*(#.*)?$`)

// layoutOf takes a text apart. It gives up, with an empty layout, on one that it does not understand: a text whose lines
// do not show as many entries as TOML found.
func layoutOf(text string, entries int) lockLayout {
	lines := strings.SplitAfter(text, "\n")
	var starts []int
	for i, line := range lines {
		if blockStart.MatchString(strings.TrimRight(line, "\r\n")) {
			starts = append(starts, i)
		}
	}
	if len(starts) != entries || entries == 0 {
		return lockLayout{}
	}
	froms := make([]int, len(starts), len(starts)+1)
	for k, at := range starts {
		for froms[k] = at; froms[k] > 0 && isComment(lines[froms[k]-1]); {
			froms[k]--
		}
	}
	l := lockLayout{head: strings.Join(lines[:froms[0]], "")}
	froms = append(froms, len(lines))
	for k, at := range starts {
		text := strings.TrimRight(strings.Join(lines[froms[k]:froms[k+1]], ""), " \t\r\n") + "\n"
		l.blocks = append(l.blocks, block{line: at + 1, text: text})
	}
	return l
}

func isComment(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "#") }

func (l *lockLayout) line(i int) int {
	if i < len(l.blocks) {
		return l.blocks[i].line
	}
	return 0
}

// index ties the blocks to the entries that were read from them. A block that gives another entry on its own, as one
// could with brackets inside of a text, is not used.
func (l *lockLayout) index(entries []Entry) {
	l.byName = map[string]*block{}
	for i := range l.blocks {
		var alone lockText
		err := toml.Unmarshal([]byte(l.blocks[i].text), &alone)
		if err != nil || len(alone.Models) != 1 || alone.Models[0].Name != entries[i].Name {
			*l = lockLayout{}
			return
		}
		l.blocks[i].entry = entries[i]
		l.byName[entries[i].Name] = &l.blocks[i]
	}
}

// Encode writes the lock as TOML, sorted by name: equal locks that were not read from a file give equal bytes. A lock
// that was read keeps its comments and the form of all that did not change.
func (l *Lock) Encode() ([]byte, error) {
	sorted := Lock{Models: slices.Clone(l.Models)}
	sorted.sort()
	if err := sorted.check(); err != nil {
		return nil, fmt.Errorf("write model lock: %w", err)
	}
	parts := []string{l.text.head}
	if l.text.byName == nil || strings.TrimSpace(l.text.head) == "" {
		parts[0] = lockHeader
	}
	for i, e := range sorted.Models {
		if i > 0 {
			parts = append(parts, "\n")
		}
		if old := l.text.byName[e.Name]; old != nil {
			parts = append(parts, old.rewrite(e))
		} else {
			parts = append(parts, newBlock(e))
		}
	}
	return []byte(strings.Join(parts, "")), nil
}

// keys are the keys of an entry in the order in which they are written.
var keys = []string{"name", "size", "sha256", "pieces", "license", "labels", "sources"}

// values are the values of an entry by key, as TOML; "" for what is left out.
func values(e Entry) map[string]string {
	v := map[string]string{
		"name": quoted(e.Name), "size": fmt.Sprint(e.Size), "sha256": quoted(e.SHA256), "license": quoted(e.License), "sources": list(e.Sources),
	}
	if e.Pieces != "" {
		v["pieces"] = quoted(e.Pieces)
	}
	if len(e.Labels) > 0 {
		v["labels"] = list(e.Labels)
	}
	return v
}

func newBlock(e Entry) string {
	var b strings.Builder
	b.WriteString("[[model]]\n")
	v := values(e)
	for _, key := range keys {
		if v[key] != "" {
			fmt.Fprintf(&b, "%s = %s\n", key, v[key])
		}
	}
	return b.String()
}

// quoted is a text as a TOML string: in single quotes where nothing needs escaping.
func quoted(text string) string {
	data, err := toml.Marshal(struct{ V string }{text})
	if err != nil {
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSpace(strings.TrimPrefix(string(data), "V = "))
}

// list is a list of texts, one on each line when there are several.
func list(texts []string) string {
	if len(texts) == 1 {
		return "[" + quoted(texts[0]) + "]"
	}
	var b strings.Builder
	b.WriteString("[\n")
	for _, text := range texts {
		b.WriteString("  " + quoted(text) + ",\n")
	}
	return b.String() + "]"
}

var statementStart = regexp.MustCompile(`^\s*(name|size|sha256|pieces|license|labels|sources)\s*=`)

// rewrite gives the block the values of an entry of the same name. New keys come after the last one.
func (b *block) rewrite(e Entry) string {
	was, now := values(b.entry), values(e)
	parts := statements(b.text)
	last := 0
	missing := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return now[key] == "" || was[key] == now[key] })
	for i, s := range parts {
		if s.key == "" {
			continue
		}
		last = i
		missing = slices.DeleteFunc(missing, func(key string) bool { return key == s.key })
		if was[s.key] != now[s.key] {
			parts[i].text = s.replaced(now[s.key])
		}
	}
	for _, key := range missing {
		parts[last].text += key + " = " + now[key] + "\n"
	}
	var out strings.Builder
	for _, s := range parts {
		out.WriteString(s.text)
	}
	if !says(out.String(), e) {
		return b.renewed(e)
	}
	return out.String()
}

// says reports whether the text of a block gives an entry. It may not where keys are written in ways that TOML allows and
// statements do not know, such as in quotes.
func says(text string, e Entry) bool {
	var lock lockText
	if err := toml.Unmarshal([]byte(text), &lock); err != nil || len(lock.Models) != 1 {
		return false
	}
	return maps.Equal(values(lock.Models[0].entry()), values(e))
}

// renewed is a block written anew, with all its comments above it.
func (b *block) renewed(e Entry) string {
	var out strings.Builder
	for _, comment := range comments(b.text) {
		out.WriteString(comment + "\n")
	}
	return out.String() + newBlock(e)
}

// statement is a key with its value, over one or more lines, or lines without a key.
type statement struct{ key, text string }

// statements takes a block apart. A line counts as the beginning of a statement when the one
// before it is complete.
func statements(text string) []statement {
	parts := []statement{{}}
	for _, line := range strings.SplitAfter(text, "\n") {
		last := &parts[len(parts)-1]
		open := last.key != "" && !last.complete()
		if m := statementStart.FindStringSubmatch(line); m != nil && !open {
			parts = append(parts, statement{key: m[1], text: line})
		} else if last.key == "" || open {
			last.text += line
		} else {
			parts = append(parts, statement{text: line})
		}
	}
	return parts
}

func (s statement) complete() bool { return toml.Unmarshal([]byte(s.text), &map[string]any{}) == nil }

// replaced is the statement with another value; without one it is only its comments. A comment behind a value on one line
// stays behind it, all others come before.
func (s statement) replaced(value string) string {
	line := s.key + " = " + value + "\n"
	if value == "" {
		line = ""
	}
	found := comments(s.text)
	if len(found) == 1 && strings.Count(strings.TrimRight(s.text, "\n"), "\n") == 0 && value != "" {
		return strings.TrimSuffix(line, "\n") + " " + found[0] + "\n"
	}
	for i := range found {
		found[i] += "\n"
	}
	return strings.Join(found, "") + line
}

// comments lists the comments of a statement.
func comments(text string) []string {
	var found []string
	for line := range strings.SplitSeq(text, "\n") {
		if at := commentAt(line); at >= 0 {
			found = append(found, strings.TrimSpace(line[at:]))
		}
	}
	return found
}

// commentAt is where the comment of a line begins, -1 without one. Quotes hide what looks like one.
func commentAt(line string) int {
	var quote rune
	escaped := false
	for i, r := range line {
		switch {
		case escaped:
			escaped = false
		case quote == '"' && r == '\\':
			escaped = true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
		case r == '"' || r == '\'':
			quote = r
		case r == '#':
			return i
		}
	}
	return -1
}
