package web

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// names are the seeds of the fuzz tests: every way out that the table of hostile requests knows.
var names = []string{
	"rgb.png", "", ".", "..", "../secret.txt", "/etc/passwd", `..\secret.txt`, "a\x00b", "sub/../..", "x [input]", "[output]", "....//x",
	"%2e%2e", "updir/secret.txt", "\xff\xfe", "a//b", "sub/inner.png", " ", "con", "a:b", strings.Repeat("d/", 600), "ä b [x].png",
}

func FuzzInside(f *testing.F) {
	for _, name := range names {
		f.Add(name, name)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		name, err := inside(a, b)
		if err != nil {
			return
		}
		if !filepath.IsLocal(name) || strings.ContainsRune(name, 0) || name != filepath.Clean(name) {
			t.Errorf("inside(%q, %q) = %q", a, b, name)
		}
	})
}

func FuzzView(f *testing.F) {
	s, _, base := recorded(f, Options{})
	if err := os.WriteFile(filepath.Join(base, "secret.txt"), []byte(secret), 0o644); err != nil {
		f.Fatal(err)
	}
	if err := os.Symlink("..", filepath.Join(base, "input", "updir")); err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		f.Add(name, "", "input", "")
		f.Add("secret.txt", name, "input", "rgb")
		f.Add("rgb.png", "", name, name)
	}
	f.Fuzz(func(t *testing.T, filename, subfolder, kind, channel string) {
		query := url.Values{"filename": {filename}, "subfolder": {subfolder}, "type": {kind}, "channel": {channel}}
		w := ask(s, "GET", "/view?"+query.Encode())
		if strings.Contains(w.Body.String(), secret) || w.Code == 500 && channel != "rgb" && channel != "a" {
			t.Errorf("%v: %d %q", query, w.Code, w.Body)
		}
	})
}

func FuzzUploadName(f *testing.F) {
	s, _, base := recorded(f, Options{})
	for _, name := range names {
		f.Add(name, "")
		f.Add("evil", name)
	}
	f.Fuzz(func(t *testing.T, name, subfolder string) {
		send(t, s, name, "evil", "subfolder", subfolder)
		entries, err := os.ReadDir(base)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			switch e.Name() {
			case "input", "output", "temp", "user", "models", "custom_nodes":
			default:
				t.Errorf("%q in %q made %s", name, subfolder, e.Name())
			}
		}
	})
}

func FuzzUserData(f *testing.F) {
	s, _, base := recorded(f, Options{})
	if err := os.MkdirAll(filepath.Join(base, "user", "other"), 0o755); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "user", "other", "secret.txt"), []byte(secret), 0o644); err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		f.Add(name)
		f.Add("../other/" + name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		path := "/userdata/" + url.PathEscape(name)
		post(s, path, "evil")
		if w := ask(s, "GET", path); strings.Contains(w.Body.String(), secret) {
			t.Errorf("%q: %d", name, w.Code)
		}
		ask(s, "GET", "/userdata?recurse=true&dir="+url.QueryEscape(name))
		ask(s, "GET", "/v2/userdata?path="+url.QueryEscape(name))
		entries, err := os.ReadDir(filepath.Join(base, "user"))
		if err != nil || len(entries) != 2 {
			t.Errorf("%q: %v %v", name, entries, err)
		}
	})
}

func FuzzObject(f *testing.F) {
	for _, text := range []string{`{}`, `{"a":1,"b":[1,2],"a":2}`, `{"ä":"\ud83d\ude00","n":1e400}`, `[]`, `{"a":`, `{"a":{"b":{}}}x`, "null"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var o object
		if json.Unmarshal([]byte(text), &o) != nil {
			return
		}
		out, err := asciiJSON(o)
		if err != nil {
			t.Fatal(err)
		}
		var again, want map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatalf("%q was read: %v", text, err)
		}
		if err := json.Unmarshal(out, &again); err != nil || len(again) != len(want) || len(o) != len(want) {
			t.Errorf("%q became %q: %v", text, out, err)
		}
	})
}
