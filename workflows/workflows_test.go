package workflows

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, text string) *Graph {
	t.Helper()
	g, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return g
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTrip(t *testing.T) {
	files, err := filepath.Glob("testdata/[^u]*.json")
	if err != nil || len(files) < 7 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, path := range files {
		g := parse(t, string(readFile(t, path)))
		text := Encode(g)
		h := parse(t, string(text))
		if !g.Equal(h) {
			t.Errorf("%s: reads back as another graph:\n%s", path, text)
		}
		if again := Encode(h); string(again) != string(text) {
			t.Errorf("%s: second encoding differs", path)
		}
		if Digest(g) != Digest(h) {
			t.Errorf("%s: digest changes", path)
		}
	}
}

func TestSamples(t *testing.T) {
	for _, path := range []string{"default.json", "hires-fix.json", "image-to-image.json", "inpaint.json"} {
		data := readFile(t, path)
		g := parse(t, string(data))
		if got := string(Encode(g)); got != string(data) {
			t.Errorf("%s is not written as Encode writes it: %s", path, cmp.Diff(string(data), got))
		}
		for _, n := range g.Nodes() {
			for _, m := range n.Inputs {
				if l, ok := m.Value.Link(); ok && g.Node(l.Node) == nil {
					t.Errorf("%s: node %s input %s: no node %s", path, n.ID, m.Key, l.Node)
				}
			}
			if n.Class == "LoadImage" {
				name, _ := n.Inputs.Get("image")
				file, _ := name.Str()
				readFile(t, filepath.Join("input", file))
			}
		}
	}
}

func TestParse(t *testing.T) {
	g := parse(t, `{
		"12:7": {"class_type": "KSampler", "is_changed": [NaN], "_meta": {"title": "A \u00e9 \ud83d\ude00", "x": 1},
			"inputs": {"seed": 18446744073709551615, "cfg": 7.0, "model": ["4", 0], "e": 1E+2}},
		"4": {"class_type": "L"}}`)
	n := g.Node("12:7")
	if n.Class != "KSampler" || n.Title != "A é 😀" || g.Node("4").Inputs != nil {
		t.Errorf("node = %+v", n)
	}
	want := Object{{"seed", UintValue(1<<64 - 1)}, {"cfg", FloatValue(7)}, {"model", LinkValue(Link{"4", 0})}, {"e", Value{"1E+2"}}}
	if diff := cmp.Diff(want, n.Inputs, cmp.Comparer(func(a, b Value) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if v, _ := n.Extra.Get("is_changed"); v.Raw() != "[null]" {
		t.Errorf("is_changed = %s", v.Raw())
	}
	if first := g.Nodes()[0].ID; first != "12:7" {
		t.Errorf("first node = %s", first)
	}
}

func TestParseWrapped(t *testing.T) {
	g := parse(t, `{"client_id": "x", "prompt": {"1": {"class_type": "A", "inputs": {}}}}`)
	if g.Len() != 1 || g.Node("1").Class != "A" {
		t.Errorf("graph = %s", Encode(g))
	}
	g = parse(t, `{"prompt": {"class_type": "A", "inputs": {}}}`)
	if g.Len() != 1 || g.Node("prompt").Class != "A" {
		t.Errorf("a node called prompt: %s", Encode(g))
	}
	_, err := Parse([]byte("{\"prompt\":\n {\"1\": 5}}"))
	checkPosition(t, err, "2:8", "node \"1\" is a number")
}

func checkPosition(t *testing.T, err error, at, msg string) {
	t.Helper()
	var syntax *SyntaxError
	if !errors.As(err, &syntax) {
		t.Errorf("error = %v, want a SyntaxError", err)
		return
	}
	if got := fmt.Sprintf("%d:%d", syntax.Line, syntax.Column); got != at || !strings.Contains(syntax.Msg, msg) {
		t.Errorf("error at %s: %s; want %s: %s", got, syntax.Msg, at, msg)
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, at, msg string }{
		{"", "1:1", "end of file where a value"},
		{"{", "1:2", "end of file where a key"},
		{"[]", "1:1", "a list where an object of nodes"},
		{`{"1": {}} x`, "1:11", "'x' after the end"},
		{"{\"1\": {\n\"a\": 1,}}", "2:8", "'}' where a key"},
		{"{\"1\": {\n  \"é\": 1,\n  \"b\": 2, \"\\u00e9\": 3}}", "3:11", `key "é" occurs twice`},
		{`{"1": {}, "1": {}}`, "1:11", `key "1" occurs twice`},
		{`{"1": "x"}`, "1:7", `node "1" is a string`},
		{"{\"1\": {\"inputs\":\n{}, \"class_type\" :  5}}", "2:21", `class_type of node "1" is a number`},
		{"\xef\xbb\xbf{\"0\": {\"x\": \"}\"}, \"1\": {\"inputs\": []}}", "1:35", `inputs of node "1" are a list`},
		{`{"1": {"a": "` + "\xff" + `"}}`, "1:14", "byte 0xff is not UTF-8"},
		{"{\"1\": {\"a\": \"\n\"}}", "1:14", "control character 0x0a"},
		{`{"1": {"a": "\x"}}`, "1:14", "unknown escape"},
		{`{"1": {"a": "\u12g4"}}`, "1:14", `\u without four`},
		{`{"1": {"a": "abc`, "1:13", "string without end"},
		{`{"1": {"a": 01}}`, "1:14", "'1' where ',' or '}'"},
		{`{"1": {"a": 1.}}`, "1:15", "'}' where a digit"},
		{`{"1": {"a": -}}`, "1:14", "'}' where a digit"},
		{`{"1": {"a": 1e}}`, "1:15", "'}' where a digit"},
		{`{"1": {"a": Infinity}}`, "1:13", "'I' where a value"},
		{`{"1" {}}`, "1:6", "'{' where a colon"},
		{`{"\ud800": {}}`, "1:2", "half a surrogate pair in a key"},
		{`{"1": {"a": [1 2]}}`, "1:16", "'2' where ',' or ']'"},
		{strings.Repeat("[", 65), "1:65", "nested more than 64 deep"},
	} {
		_, err := Parse([]byte(c.text))
		t.Run(c.text, func(t *testing.T) { checkPosition(t, err, c.at, c.msg) })
	}
}

func TestParseLimits(t *testing.T) {
	_, err := Parse(make([]byte, MaxBytes+1))
	if err == nil || !strings.Contains(err.Error(), "more than 64 MiB") {
		t.Errorf("too large: %v", err)
	}
	var b strings.Builder
	for i := range MaxNodes + 1 {
		fmt.Fprintf(&b, `,"%d":{}`, i)
	}
	_, err = Parse([]byte("{" + b.String()[1:] + "}"))
	checkPosition(t, err, "1:1", "100001 nodes are more than 100000")
}

func TestParseUIFormat(t *testing.T) {
	if _, err := Parse(readFile(t, "testdata/ui-txt2img.json")); !errors.Is(err, ErrUIFormat) {
		t.Errorf("error = %v", err)
	}
}

func TestCanonical(t *testing.T) {
	a := parse(t, `{"b": {"class_type": "B", "inputs": {"y": 7.0, "x": {"q": 1, "p": [1, {"d":0,"c":0}]}}}, "a": {"class_type": "A", "inputs": {}}}`)
	b := parse(t, `{"a": {"inputs": {}, "class_type": "A", "_meta": {"title": "t"}}, "b": {"inputs": {"x": {"p": [1,{"c":0,"d":0}], "q": 1}, "y": 7.0}, "class_type": "B"}}`)
	want := `{"a":{"class_type":"A","inputs":{}},"b":{"class_type":"B","inputs":{"x":{"p":[1,{"c":0,"d":0}],"q":1},"y":7.0}}}`
	for _, g := range []*Graph{a, b} {
		if got := string(Canonical(g)); got != want {
			t.Errorf("Canonical = %s, want %s", got, want)
		}
	}
	if err := a.Set("b", "y", "7"); err != nil || Digest(a) == Digest(b) {
		t.Errorf("7 and 7.0 have one digest, %v", err)
	}
}

func TestCloneAndEdit(t *testing.T) {
	g := parse(t, `{"1": {"class_type": "A", "inputs": {"x": 1}}, "2": {"class_type": "B", "inputs": {}}}`)
	c := g.Clone()
	if err := c.Set("A", "x", "2"); err != nil {
		t.Fatal(err)
	}
	if c.Equal(g) || g.Node("1").Inputs[0].Value != IntValue(1) {
		t.Error("the clone shares inputs with the graph")
	}
	c.Remove("1")
	if c.Len() != 1 || c.Node("1") != nil || g.Len() != 2 {
		t.Error("Remove left something or took too much")
	}
	if err := c.Add(&Node{ID: "2"}); err == nil {
		t.Error("Add took an id twice")
	}
	if err := new(Graph).Add(&Node{ID: "2"}); err != nil {
		t.Error(err)
	}
}

const findGraph = `{
	"1": {"class_type": "Load", "inputs": {"name": "m"}, "_meta": {"title": "v1.5 model"}},
	"2": {"class_type": "Text", "inputs": {"text": "a"}, "_meta": {"title": "Prompt"}},
	"3": {"class_type": "Text", "inputs": {"text": "b"}, "_meta": {"title": "Negative"}},
	"4": {"class_type": "KSampler", "inputs": {"seed": 5, "cfg": 8.0, "on": true, "model": ["1", 0], "none": null,
		"list": {"__value__": [1]}, "a.b": 1}, "_meta": {"title": "Load"}},
	"5": {"class_type": "Same", "inputs": {}, "_meta": {"title": "twin"}},
	"6": {"class_type": "Other", "inputs": {}, "_meta": {"title": "twin"}},
	"Prompt": {"class_type": "X", "inputs": {}}}`

func TestFind(t *testing.T) {
	g := parse(t, findGraph)
	for _, c := range []struct{ ref, id, err string }{
		{"4", "4", ""},
		{"Negative", "3", ""},
		{"KSampler", "4", ""},
		{"Prompt", "Prompt", ""},
		{"Load", "4", ""},
		{"Text", "", `2 nodes have this class (ids "2", "3")`},
		{"twin", "", `2 nodes have this title (ids "5", "6")`},
		{"nobody", "", `no node has this id, title or class (there are "1" Load, "2" Text`},
		{"", "", "no node"},
	} {
		n, err := g.Find(c.ref)
		switch {
		case c.err == "" && (err != nil || n.ID != c.id):
			t.Errorf("Find(%q) = %v, %v; want %s", c.ref, n, err, c.id)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("Find(%q): %v, want %s", c.ref, err, c.err)
		}
	}
}

func TestResolve(t *testing.T) {
	g := parse(t, findGraph)
	for _, c := range []struct{ target, id, input, err string }{
		{"KSampler.cfg", "4", "cfg", ""},
		{"KSampler.a.b", "4", "a.b", ""},
		{"v1.5 model.name", "1", "name", ""},
		{"KSampler", "", "", "not of the form NODE.INPUT"},
		{"KSampler.x", "", "", `node "4" (KSampler) has no input "x", only "a.b", "cfg"`},
		{"Nobody.x", "", "", `find node "Nobody"`},
		{"Text.text", "", "", `2 nodes have this class`},
	} {
		n, input, err := g.Resolve(c.target)
		switch {
		case c.err == "" && (err != nil || n.ID != c.id || input != c.input):
			t.Errorf("Resolve(%q) = %v, %q, %v", c.target, n, input, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("Resolve(%q): %v, want %s", c.target, err, c.err)
		}
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct{ ref, input, text, want string }{
		{"4", "seed", "18446744073709551615", "18446744073709551615"},
		{"4", "seed", " 7 ", "7"},
		{"4", "seed", "abc", `"abc"`},
		{"4", "cfg", "7.0", "7.0"},
		{"4", "cfg", "true", `"true"`},
		{"4", "on", "false", "false"},
		{"4", "model", `["2", 1]`, `["2",1]`},
		{"4", "model", "9", "9"},
		{"4", "model", "nine", `"nine"`},
		{"4", "none", "1.50", "1.50"},
		{"4", "list", "[1, 2]", `{"__value__":[1,2]}`},
		{"2", "text", "42", `"42"`},
		{"2", "text", `"42"`, `"42"`},
		{"2", "text", `say "hi"`, `"say \"hi\""`},
		{"2", "text", "", `""`},
	} {
		g := parse(t, findGraph)
		if err := g.Set(c.ref, c.input, c.text); err != nil {
			t.Errorf("Set(%s.%s, %s): %v", c.ref, c.input, c.text, err)
			continue
		}
		if v, _ := g.Node(c.ref).Inputs.Get(c.input); v.Raw() != c.want {
			t.Errorf("Set(%s.%s, %s) = %s, want %s", c.ref, c.input, c.text, v.Raw(), c.want)
		}
	}
}

func TestSetErrors(t *testing.T) {
	for _, c := range []struct{ ref, input, text, err string }{
		{"4", "on", "0", `"0" is neither true nor false`},
		{"4", "sead", "1", `has no input "sead"`},
		{"9", "sead", "1", `find node "9"`},
		{"2", "text", "\xff", "not UTF-8"},
	} {
		g := parse(t, findGraph)
		if err := g.Set(c.ref, c.input, c.text); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("Set(%s.%s, %q): %v, want %s", c.ref, c.input, c.text, err, c.err)
		}
		if !g.Equal(parse(t, findGraph)) {
			t.Errorf("Set(%s.%s, %q) failed and changed the graph", c.ref, c.input, c.text)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.json")
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(findGraph))
	f.Add([]byte(`{"prompt":{"1":{"a":"\ud800\udc00\ud800x\u0000\"\\","_meta":5,"b":[-0.0E+9,{"__value__":[]}]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := Parse(data)
		if err != nil {
			return
		}
		text := Encode(g)
		h, err := Parse(text)
		if err != nil {
			t.Fatalf("encoded text is refused: %v\n%s", err, text)
		}
		if !g.Equal(h) || string(Encode(h)) != string(text) || Digest(g) != Digest(h) {
			t.Fatalf("not stable:\n%s\n%s", text, Encode(h))
		}
		if !slices.Equal(Canonical(g.Clone()), Canonical(h)) {
			t.Fatal("clone differs")
		}
	})
}
