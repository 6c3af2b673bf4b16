package nodes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
)

// addRegex declares the nodes that work with Python's regular expressions.
func addRegex(c *engine.Catalog) {
	const category = "utils/string"
	engine.Add(c, "RegexMatch", category, regexMatch{IgnoreCase: true}, matchRegex).V3().Module(stringsModule).
		OutputNames("matches").Title("Regex Match").Doc("Tells whether a pattern occurs in a text.")
	engine.Add(c, "RegexExtract", category, regexExtract{IgnoreCase: true, Group: 1}, extractRegex).V3().Module(stringsModule).
		Title("Regex Extract").Doc("Takes what a pattern matches out of a text; several matches become lines.")
	engine.Add(c, "RegexReplace", category, regexReplace{IgnoreCase: true}, replaceRegex).V3().Module(stringsModule).
		Title("Regex Replace").Doc(`Replaces what a pattern matches; \1 or \g<name> in the replacement stands for a group.`)
}

type regexMatch struct {
	String     string `in:"string" ui:"multiline"`
	Pattern    string `in:"regex_pattern" ui:"multiline"`
	IgnoreCase bool   `in:"case_insensitive"`
	Multiline  bool   `in:"multiline"`
	DotAll     bool   `in:"dotall"`
}

// matchRegex takes a pattern that is not valid for one that does not match, as
// ComfyUI does.
func matchRegex(_ context.Context, in regexMatch) (bool, error) {
	p, err := compilePattern(in.Pattern, patternFlags{in.IgnoreCase, in.Multiline, in.DotAll})
	if err != nil {
		return false, ignoreBadPattern(err)
	}
	found, err := p.matches(in.String, 1)
	return len(found) > 0, err
}

// ignoreBadPattern forgets that a pattern is invalid, but not that it uses
// what Python has and we lack.
func ignoreBadPattern(err error) error {
	if errors.Is(err, errBadPattern) {
		return nil
	}
	return err
}

type regexExtract struct {
	String     string    `in:"string" ui:"multiline"`
	Pattern    string    `in:"regex_pattern" ui:"multiline"`
	Mode       regexMode `in:"mode"`
	IgnoreCase bool      `in:"case_insensitive"`
	Multiline  bool      `in:"multiline"`
	DotAll     bool      `in:"dotall"`
	Group      int       `in:"group_index" range:"0,100"`
}

// extractRegex gives an empty text for a pattern that is not valid and for a
// group that the pattern lacks, as ComfyUI does.
func extractRegex(_ context.Context, in regexExtract) (string, error) {
	p, err := compilePattern(in.Pattern, patternFlags{in.IgnoreCase, in.Multiline, in.DotAll})
	if err != nil {
		return "", ignoreBadPattern(err)
	}
	limit, group := -1, 0
	if strings.HasPrefix(string(in.Mode), "First") {
		limit = 1
	}
	switch {
	case strings.Contains(string(in.Mode), "Group"):
		group = in.Group
	case in.Mode == "All Matches" && p.groups > 0:
		group = 1 // what Python's findall returns where there are groups
	}
	if group > p.groups || in.Mode == "All Groups" && p.groups == 0 {
		return "", nil
	}
	found, err := p.matches(in.String, limit)
	var lines []string
	for _, m := range found {
		lines = append(lines, m.group(group))
	}
	return strings.Join(lines, "\n"), err
}

type regexReplace struct {
	String     string `in:"string" ui:"multiline"`
	Pattern    string `in:"regex_pattern" ui:"multiline"`
	Replace    string `in:"replace" ui:"multiline"`
	IgnoreCase bool   `in:"case_insensitive,optional"`
	Multiline  bool   `in:"multiline,optional"`
	DotAll     bool   `in:"dotall,optional" doc:"Lets a dot match line ends too."`
	Count      int    `in:"count,optional" range:"0,100" doc:"How many matches to replace at most; 0 means all."`
}

func replaceRegex(_ context.Context, in regexReplace) (string, error) {
	p, err := compilePattern(in.Pattern, patternFlags{in.IgnoreCase, in.Multiline, in.DotAll})
	if err != nil {
		return "", err
	}
	with, err := p.template(in.Replace)
	if err != nil {
		return "", fmt.Errorf("replace %q with %q: %w", in.Pattern, in.Replace, err)
	}
	limit := in.Count
	if limit == 0 {
		limit = -1
	}
	found, err := p.matches(in.String, limit)
	letters := []rune(in.String)
	var b strings.Builder
	at := 0
	for _, m := range found {
		b.WriteString(string(letters[at:m.begin]))
		for _, part := range with {
			b.WriteString(part.text)
			if part.text == "" {
				b.WriteString(m.group(part.group))
			}
		}
		at = m.end
	}
	b.WriteString(string(letters[at:]))
	return b.String(), err
}
