package nodes

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// pythonStrings is what Python's str and re give.
type pythonStrings struct {
	Case []struct {
		Text, Upper, Lower, Capitalize, Title string
		Length                                int
		Both, Left, Right                     string
	}
	Substring []struct {
		Text, Want string
		Start, End int
	}
	Regex []struct {
		Text, Pattern  string
		Flags          [3]bool
		Matches        bool
		Extract        map[string]string
		Replaced, Once string
		Invalid        bool
	}
	Template []struct {
		Text, Pattern, Replace, Want string
		Invalid                      bool
	}
}

func readPython(t *testing.T) pythonStrings {
	t.Helper()
	f, err := os.Open("testdata/strings.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var p pythonStrings
	if err := json.NewDecoder(z).Decode(&p); err != nil {
		t.Fatal(err)
	}
	return p
}

// is compares what a node gave with what Python gave.
func is[T comparable](t *testing.T, what string, want T) func(T, error) {
	t.Helper()
	return func(got T, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Errorf("%s: %#v, %v; want %#v", what, got, err, want)
		}
	}
}

func TestStringsLikePython(t *testing.T) {
	ctx, p := context.Background(), readPython(t)
	for _, c := range p.Case {
		for mode, want := range map[letterCase]string{
			"UPPERCASE": c.Upper, "lowercase": c.Lower, "Capitalize": c.Capitalize, "Title Case": c.Title,
		} {
			is(t, fmt.Sprintf("%s of %q", mode, c.Text), want)(convertCase(ctx, caseConverter{c.Text, mode}))
		}
		for side, want := range map[trimSide]string{"Both": c.Both, "Left": c.Left, "Right": c.Right} {
			is(t, fmt.Sprintf("trim %s of %q", side, c.Text), want)(trim(ctx, stringTrim{c.Text, side}))
		}
		is(t, fmt.Sprintf("length of %q", c.Text), c.Length)(length(ctx, stringLength{c.Text}))
	}
	for _, c := range p.Substring {
		is(t, fmt.Sprintf("%q[%d:%d]", c.Text, c.Start, c.End), c.Want)(substring(ctx, stringSubstring{c.Text, c.Start, c.End}))
	}
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		a, b        string
		mode        compareMode
		case_, want bool
	}{
		{"Abc", "ab", "Starts With", false, true}, {"Abc", "ab", "Starts With", true, false},
		{"Abc", "BC", "Ends With", false, true}, {"Abc", "bc", "Ends With", true, true},
		{"Abc", "aBC", "Equal", false, true}, {"Abc", "aBC", "Equal", true, false},
	} {
		is(t, fmt.Sprintf("%v", c), c.want)(compare(context.Background(), stringCompare{c.a, c.b, c.mode, c.case_}))
	}
}

func TestRegexLikePython(t *testing.T) {
	ctx, p := context.Background(), readPython(t)
	for _, c := range p.Regex {
		what := fmt.Sprintf("%q in %q, %v", c.Pattern, c.Text, c.Flags)
		i, m, d := c.Flags[0], c.Flags[1], c.Flags[2]
		is(t, what, c.Matches)(matchRegex(ctx, regexMatch{c.Text, c.Pattern, i, m, d}))
		for _, mode := range []regexMode{"First Match", "All Matches", "First Group", "All Groups"} {
			for group := range 3 {
				in := regexExtract{c.Text, c.Pattern, mode, i, m, d, group}
				is(t, fmt.Sprintf("%s: %s %d", what, mode, group), c.Extract[fmt.Sprintf("%s %d", mode, group)])(extractRegex(ctx, in))
			}
		}
		got, err := replaceRegex(ctx, regexReplace{c.Text, c.Pattern, `<\g<0>>`, i, m, d, 0})
		if c.Invalid != (err != nil) || !c.Invalid && got != c.Replaced {
			t.Errorf("%s replaced: %q, %v; want %q", what, got, err, c.Replaced)
		}
		if !c.Invalid {
			is(t, what+" once", c.Once)(replaceRegex(ctx, regexReplace{c.Text, c.Pattern, "#", i, m, d, 1}))
		}
	}
	for _, c := range p.Template {
		got, err := replaceRegex(ctx, regexReplace{String: c.Text, Pattern: c.Pattern, Replace: c.Replace})
		if c.Invalid != (err != nil) || got != c.Want && !c.Invalid {
			t.Errorf("%q with %q: %q, %v; want %q", c.Pattern, c.Replace, got, err, c.Want)
		}
	}
}

// TestRegexLimits names what Python has and we lack, and gives up on patterns
// that take too long.
func TestRegexLimits(t *testing.T) {
	if _, err := matchRegex(context.Background(), regexMatch{String: "aaa", Pattern: "a++b"}); err == nil {
		t.Error("a possessive quantifier: no error")
	}
}
