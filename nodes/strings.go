package nodes

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/comfyrun/comfyrun/engine"
)

type (
	trimSide    string
	letterCase  string
	compareMode string
	regexMode   string
)

// stringKinds are the choice inputs of addStringTools.
func stringKinds() []engine.Kind {
	return []engine.Kind{
		engine.Combo[trimSide](engine.Choices("Both", "Left", "Right")),
		engine.Combo[letterCase](engine.Choices("UPPERCASE", "lowercase", "Capitalize", "Title Case")),
		engine.Combo[compareMode](engine.Choices("Starts With", "Ends With", "Equal")),
		engine.Combo[regexMode](engine.Choices("First Match", "All Matches", "First Group", "All Groups")),
	}
}

const stringsModule = "comfy_extras.nodes_string"

// addStringTools declares the nodes that measure, cut, compare and search
// texts. Lengths and positions count characters, as in Python.
func addStringTools(c *engine.Catalog) {
	const category = "utils/string"
	engine.Add(c, "StringSubstring", category, stringSubstring{}, substring).V3().Module(stringsModule).
		Title("Substring").Doc("Takes a part of a text; negative positions count from the end.")
	engine.Add(c, "StringLength", category, stringLength{}, length).V3().Module(stringsModule).
		OutputNames("length").Title("Length").Doc("Counts the characters of a text.")
	engine.Add(c, "CaseConverter", category, caseConverter{}, convertCase).V3().Module(stringsModule).
		Title("Case Converter").Doc("Changes letters to capital or small ones.")
	engine.Add(c, "StringTrim", category, stringTrim{}, trim).V3().Module(stringsModule).
		Title("Trim").Doc("Takes blanks and line ends away from the ends of a text.")
	engine.Add(c, "StringCompare", category, stringCompare{CaseSensitive: true}, compare).V3().Module(stringsModule).
		Title("Compare").Doc("Compares two texts.")
	addRegex(c)
}

type stringSubstring struct {
	String string `in:"string" ui:"multiline"`
	Start  int    `in:"start" ui:"nodefault"`
	End    int    `in:"end" ui:"nodefault"`
}

func substring(_ context.Context, in stringSubstring) (string, error) {
	letters := []rune(in.String)
	position := func(i int) int {
		if i < 0 {
			i += len(letters)
		}
		return min(max(i, 0), len(letters))
	}
	from, to := position(in.Start), position(in.End)
	return string(letters[min(from, to):to]), nil
}

type stringLength struct {
	String string `in:"string" ui:"multiline"`
}

func length(_ context.Context, in stringLength) (int, error) {
	return utf8.RuneCountInString(in.String), nil
}

type stringTrim struct {
	String string   `in:"string" ui:"multiline"`
	Side   trimSide `in:"mode"`
}

func trim(_ context.Context, in stringTrim) (string, error) {
	s := in.String
	if in.Side != "Right" {
		s = strings.TrimLeftFunc(s, isBlank)
	}
	if in.Side != "Left" {
		s = strings.TrimRightFunc(s, isBlank)
	}
	return s, nil
}

// isBlank is Python's str.isspace, which counts the four separators of ASCII
// too.
func isBlank(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }

type stringCompare struct {
	A             string      `in:"string_a" ui:"multiline"`
	B             string      `in:"string_b" ui:"multiline"`
	Mode          compareMode `in:"mode"`
	CaseSensitive bool        `in:"case_sensitive"`
}

func compare(_ context.Context, in stringCompare) (bool, error) {
	if !in.CaseSensitive {
		in.A, in.B = lower(in.A), lower(in.B)
	}
	switch in.Mode {
	case "Starts With":
		return strings.HasPrefix(in.A, in.B), nil
	case "Ends With":
		return strings.HasSuffix(in.A, in.B), nil
	}
	return in.A == in.B, nil
}
