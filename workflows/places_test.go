package workflows

import (
	"fmt"
	"strings"
	"testing"
)

func (s Span) text() string {
	return fmt.Sprintf("%d:%d-%d:%d", s.Line, s.Column, s.EndLine, s.EndColumn)
}

func TestPlaces(t *testing.T) {
	const text = "\xef\xbb\xbf{\"é\": [1, {\"a\\u00e9\" : \"x\\\"]\"}],\n \"b\":{ } , \"c\": [\n  -1.5e3\n , NaN],\"7\":[]}\n"
	p, err := NewPlaces([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, value, key string }{
		{"", "1:1-3:16", ""},
		{"é", "1:7-1:32", "1:2-1:5"},
		{"é/0", "1:8-1:9", ""},
		{"é/1", "1:11-1:31", ""},
		{"é/1/aé", "1:24-1:30", "1:12-1:21"},
		{"b", "2:6-2:9", "2:2-2:5"},
		{"c/0", "3:3-3:9", ""},
		{"c/1", "4:4-4:7", ""},
		{"7", "4:13-4:15", "4:9-4:12"},
		{"c/2", "", ""},
		{"c/x", "", ""},
		{"b/x", "", ""},
		{"é/0/x", "", ""},
	} {
		var path []string
		if c.path != "" {
			path = strings.Split(c.path, "/")
		}
		got, key := "", ""
		if s, ok := p.Value(path...); ok {
			got = s.text()
		}
		if s, ok := p.Key(path...); ok {
			key = s.text()
		}
		if c.path == "" {
			c.value = "1:1-4:16"
		}
		if got != c.value || key != c.key {
			t.Errorf("%q: %s, key %s; want %s, %s", c.path, got, key, c.value, c.key)
		}
	}
}

// In a long line places are as right as in a short one, and they agree with Position.
func TestPlacesOfLongLine(t *testing.T) {
	text := `{"x": "` + strings.Repeat("é", 10_000) + `", "y": {"z": 5}}`
	p, err := NewPlaces([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := p.Value("y", "z")
	line, column := Position([]byte(text), "y", "z")
	if s.Line != line || s.Column != column || column != 10_022 || s.EndColumn != column+1 {
		t.Errorf("%+v, Position says %d:%d", s, line, column)
	}
}

func FuzzPlaces(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbf{\"é\": [1, {\"a\" : \"x\\\"]\"}],\n \"b\":{ } }"), "é/1/a")
	f.Add([]byte(` [[],{},"",-0.0e1,NaN,null]`), "3")
	f.Fuzz(func(t *testing.T, data []byte, path string) {
		p, err := NewPlaces(data)
		if err != nil {
			return
		}
		parts := strings.Split(path, "/")
		v, err := ParseValue(data)
		if err != nil {
			t.Fatal(err)
		}
		want, ok := at(v, parts)
		s, found := p.Value(parts...)
		if ok != found {
			t.Fatalf("%q of %s: found %t, want %t", path, data, found, ok)
		}
		if !ok {
			return
		}
		lines := strings.SplitAfter(strings.TrimPrefix(string(data), "\ufeff"), "\n")
		if s.Line < 1 || s.EndLine > len(lines) || s.Line > s.EndLine {
			t.Fatalf("%q of %s: %+v is outside of %d lines", path, data, s, len(lines))
		}
		rest := string([]rune(lines[s.Line-1])[s.Column-1:]) + strings.Join(lines[s.Line:], "")
		end := []rune(lines[s.EndLine-1])[s.EndColumn-1:]
		rest = strings.TrimSuffix(rest, string(end)+strings.Join(lines[s.EndLine:], ""))
		if got, err := ParseValue([]byte(rest)); err != nil || got != want {
			t.Fatalf("%q of %s: %q, want %s (%v)", path, data, rest, want.Raw(), err)
		}
	})
}

// at is the value at a path.
func at(v Value, path []string) (Value, bool) {
	for _, key := range path {
		if o, ok := v.Object(); ok {
			if v, ok = o.Get(key); !ok {
				return v, false
			}
			continue
		}
		items, _ := v.List()
		i := -1
		if _, err := fmt.Sscanf(key, "%d", &i); err != nil || fmt.Sprint(i) != key || i < 0 || i >= len(items) {
			return v, false
		}
		v = items[i]
	}
	return v, true
}
