package workflows

import (
	"errors"
	"testing"
)

func TestParseMember(t *testing.T) {
	const text = "{\"a\": 1,\n \"in\": {\"w\": {\"3\": {\"class_type\": \"X\", \"inputs\": {\"n\": 7.0}}}}}"
	g, err := ParseMember([]byte(text), "in", "w")
	if err != nil || g.Len() != 1 || g.Node("3").Class != "X" {
		t.Fatalf("%v, %v", g, err)
	}
	for _, tt := range []struct {
		text string
		path []string
		line int
	}{
		{text, []string{"in", "v"}, 2},
		{text, []string{"a", "b"}, 1},
		{"{\"w\":\n {\"3\":\n 5}}", []string{"w"}, 3},
		{"{\"w\":\n {]}", []string{"w"}, 2},
	} {
		_, err := ParseMember([]byte(tt.text), tt.path...)
		var at *SyntaxError
		if !errors.As(err, &at) || at.Line != tt.line {
			t.Errorf("%s at %v: %v, want line %d", tt.text, tt.path, err, tt.line)
		}
	}
	if line, column := Position([]byte(text), "in", "w", "3"); line != 2 || column != 20 {
		t.Errorf("position %d:%d, want 2:20", line, column)
	}
}
