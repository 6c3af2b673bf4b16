package workflows

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the expected texts of testdata/format anew")

// The test vectors of docs/format.md.
func TestFormat(t *testing.T) {
	files, err := filepath.Glob("testdata/format/*.in.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		in, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Format(in)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out := strings.TrimSuffix(file, ".in.json") + ".out.json"
		if *update {
			if err := os.WriteFile(out, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(out)
		if diff := cmp.Diff(string(want), string(got)); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", file, err, diff)
		}
	}
}

// Every order of members, blanks, line ends and escapes gives the same bytes.
func TestFormatForgetsHowItWasWritten(t *testing.T) {
	for _, name := range []string{"testdata/format/api.out.json", "testdata/format/ui.out.json", "default.json", "testdata/ui-txt2img.json"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Format(data)
		if err != nil {
			t.Fatal(err)
		}
		v, err := ParseValue(data)
		if err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(20) {
			text := strings.ReplaceAll(shuffled(v, rand.New(rand.NewPCG(seed, 0)), ""), "é", `\u00e9`)
			if got, err := Format([]byte("\xef\xbb\xbf" + text + "\r\n")); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: another text of %s (%v):\n%s", name, text, err, cmp.Diff(string(want), string(got)))
			}
		}
	}
}

// shuffled writes a value with the members of its objects in any order, except where order means something.
func shuffled(v Value, r *rand.Rand, key string) string {
	if items, ok := v.List(); ok {
		texts := make([]string, len(items))
		for i, item := range items {
			texts[i] = shuffled(item, r, key)
		}
		return "[" + strings.Join(texts, " ,\r\n") + "]"
	}
	members, ok := v.Object()
	if !ok || key == "widgets_values" || key == "widgets_values_named" || key == "groupNodes" || key == "o" {
		return v.Raw()
	}
	r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	texts := make([]string, len(members))
	for i, m := range members {
		texts[i] = StringValue(m.Key).Raw() + " :\t" + shuffled(m.Value, r, m.Key)
	}
	return "{" + strings.Join(texts, ",") + "}"
}

func TestFormatErrors(t *testing.T) {
	if _, err := Format([]byte(`{"prompt": {"1": {"class_type": "A"}}, "client_id": "x"}`)); !errors.Is(err, ErrBody) {
		t.Errorf("error %v, want ErrBody", err)
	}
	var syntax *SyntaxError
	for _, text := range []string{"{", `{"1": 5}`, "[]"} {
		if _, err := Format([]byte(text)); !errors.As(err, &syntax) {
			t.Errorf("%s: error %v, want a *SyntaxError", text, err)
		}
	}
}

func TestCompareIDs(t *testing.T) {
	order := []string{"", "0", "00", "07", "7", "12", "12:3", "12:10", "12:a", "99999999999999999999", "100000000000000000000", "-10", "a", "a:1", "b"}
	order = append(order[1:], order[0])
	for i, a := range order[:len(order)-1] {
		for j, b := range order[:len(order)-1] {
			if got := CompareIDs(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("CompareIDs(%q, %q) = %d", a, b, got)
			}
		}
	}
}

func FuzzFormat(f *testing.F) {
	for _, name := range []string{"testdata/format/api.in.json", "testdata/format/ui.in.json", "default.json"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		once, err := Format(data)
		if err != nil {
			return
		}
		if twice, err := Format(once); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("formatted twice it is another text (%v):\n%s\n%s", err, once, twice)
		}
		before, err := Parse(data)
		if err != nil {
			return
		}
		after, err := Parse(once)
		if err != nil || !bytes.Equal(Canonical(before), Canonical(after)) {
			t.Fatalf("it means something else (%v):\n%s\n%s", err, data, once)
		}
	})
}
