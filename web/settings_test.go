package web

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func post(s *Server, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("POST", "http://comfy.test"+path, strings.NewReader(body)))
	return w
}

// Settings that are set at the same time are all kept.
func TestConcurrentSettings(t *testing.T) {
	s, _, _ := recorded(t, Options{})
	const n = 30
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { post(s, fmt.Sprintf("/settings/key%d", i), fmt.Sprint(i)) })
	}
	all.Wait()
	for i := range n {
		if got := ask(s, "GET", fmt.Sprintf("/settings/key%d", i)).Body.String(); got != fmt.Sprint(i) {
			t.Errorf("key%d is %s", i, got)
		}
	}
}

// The file is as Python writes it: order, indent, numbers and escapes.
func TestSettingsFile(t *testing.T) {
	s, _, base := recorded(t, Options{})
	post(s, "/settings", `{"z":18446744073709551615,"ä":"é<\u00e9\ud83d\ude00>","list":[],"map":{},"deep":{"x":[1.50,null]}}`)
	post(s, "/settings/z", `1e400`)
	post(s, "/settings", `{"a":true,"a":false}`)
	data, err := os.ReadFile(filepath.Join(base, "user", "default", settingsFile))
	if err != nil {
		t.Fatal(err)
	}
	want := `{
    "z": 1e400,
    "\u00e4": "\u00e9<\u00e9\ud83d\ude00>",
    "list": [],
    "map": {},
    "deep": {
        "x": [
            1.50,
            null
        ]
    },
    "a": false
}`
	if string(data) != want {
		t.Errorf("the file is\n%s\nwant\n%s", data, want)
	}
}

// A file that somebody broke holds no settings, and is no error.
func TestBrokenSettings(t *testing.T) {
	s, _, base := recorded(t, Options{})
	name := filepath.Join(base, "user", "default", settingsFile)
	for _, text := range []string{"", "{", "[]", "null", `{"a":1}x`} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if w := ask(s, "GET", "/settings"); w.Code != 200 || w.Body.String() != "{}" {
			t.Errorf("%q: %d %s", text, w.Code, w.Body)
		}
	}
}

func TestUserNames(t *testing.T) {
	s, _, base := recorded(t, Options{MultiUser: true})
	for name, want := range map[string]string{"Ann B.": "Ann-B-_", "../../x": "------x_", "ü/": "--_", strings.Repeat("n", 500): strings.Repeat("n", 100) + "_"} {
		w := post(s, "/users", fmt.Sprintf(`{"username":%q}`, name))
		if id := strings.Trim(w.Body.String(), `"`); w.Code != 200 || !strings.HasPrefix(id, want) || len(id) != len(want)+36 {
			t.Errorf("%q: %d %s", name, w.Code, w.Body)
		}
	}
	if w := post(s, "/users", `{"username":"  ü/ "}`); w.Code != 400 {
		t.Errorf("the same name again: %d %s", w.Code, w.Body)
	}
	if err := os.WriteFile(filepath.Join(base, "user", usersFile), []byte("broken"), 0o644); err != nil {
		t.Fatal(err)
	}
	if w := post(s, "/users", `{"username":"new"}`); w.Code != 500 {
		t.Errorf("a broken table of users must not be replaced: %d", w.Code)
	}
}
