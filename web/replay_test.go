package web

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/web/webtest"
)

// recorded starts a server on a copy of the folders that the recorded one had.
func recorded(t testing.TB, o Options) (s *Server, url, base string) {
	t.Helper()
	base = webtest.Base(t)
	q, err := queue.Open(t.Context(), queue.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	catalog := webtest.Catalog(t, base)
	o.Queue, o.Catalog, o.Models = q, func() *engine.Catalog { return catalog }, models.NewFolders([]string{filepath.Join(base, "models")})
	o.Models.AddOutput(filepath.Join(base, "output"))
	o.Dirs = Dirs{
		Input: filepath.Join(base, "input"), Output: filepath.Join(base, "output"),
		Temp: filepath.Join(base, "temp"), User: filepath.Join(base, "user"),
	}
	s, err = New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	return s, h.URL, base
}

// differing are the places where our answers differ from the recorded ones, each with its reason.
var differing = slices.Concat(
	known("empty_server", "json", "the editor of the test has two scripts", 64, 65),
	known("empty_server", "json/system/comfyrun_version", "ours", 66, 67),
	known("empty_server", "json/system/installed_templates_version", "there is no such package", 66, 67),
	known("empty_server", "json/system/required_templates_version", "there is no such package", 66, 67),
	known("empty_server", "status", "newer versions have the route, and newer editors ask for it", 89, 90, 91, 92, 93),
	known("empty_server", "headers/content-type", "newer versions have the route", 89, 90, 91, 92, 93),
	known("empty_server", "text", "newer versions have the route", 89, 90, 91, 92, 93),
	known("empty_server", "json/KSampler/output_tooltips", "tooltips are in words of our own", 72, 73),
	known("empty_server", "json/CheckpointLoaderSimple/output_tooltips", "tooltips are in words of our own", 78, 79),
	known("users_settings_userdata", "json", "a random id that the recording has as it was", 14),
	known("users_settings_userdata", "json", "names are sorted; the recording has the order of its disk", 33),
	known("cors_limit_gzip", "json/max_upload_size", "the limit is a whole number of bytes", 3),
)

// known are the differences of one kind.
func known(transcript, path, reason string, steps ...int) []webtest.Known {
	var out []webtest.Known
	for _, step := range steps {
		out = append(out, webtest.Known{Transcript: transcript, Step: step, Path: path, Reason: reason})
	}
	return out
}

func TestRecorded(t *testing.T) {
	for name, o := range map[string]Options{
		"view": {}, "upload": {}, "users_settings_userdata": {}, "multi_user": {MultiUser: true}, "origin": {},
		"cors_limit_gzip": {CORS: "*", MaxUpload: 10486, Compress: true}, "empty_server": {Frontend: filepath.Join("testdata", "editor")},
	} {
		t.Run(name, func(t *testing.T) {
			s, url, base := recorded(t, o)
			tr := webtest.Load(t, filepath.Join("testdata", "http", name+".json"))
			asPython(t, tr)
			age(t, base)
			player := webtest.Player{URL: url, Folders: map[string]string{base: "/base"}}
			switch name {
			case "multi_user":
				player.After = func(t testing.TB, step int) { nameUser(t, s, tr) }
			case "empty_server":
				if err := os.Remove(filepath.Join(base, "user", "default")); err != nil {
					t.Fatal(err)
				}
			case "origin":
				for i := range tr.Steps {
					r := &tr.Steps[i].Request
					r.Headers = maps.Clone(r.Headers)
					r.Headers["Host"] = "127.0.0.1:8188" // that of the recording
				}
			}
			player.Play(t, tr, differing)
		})
	}
}

// age gives the files of the input folder the order in time that the recorded ones had.
func age(t *testing.T, base string) {
	t.Helper()
	newestFirst := []string{
		"data.json", "odd.zzz", "rgba.png", "style.css", "photo.jpg", "pic.webp", "notes.txt", "script.js", "gray.png",
		"with text.png", "page.html", "noext", "rgb.png", "vector.svg",
	}
	for i, name := range newestFirst {
		when := time.Now().Add(-time.Duration(i+1) * time.Hour)
		if err := os.Chtimes(filepath.Join(base, "input", name), when, when); err != nil {
			t.Fatal(err)
		}
	}
}

// asPython writes the bodies of requests as the recorded client did, with a space behind each comma and colon: their
// sizes come back in answers.
func asPython(t *testing.T, tr *webtest.Transcript) {
	t.Helper()
	for i := range tr.Steps {
		body := &tr.Steps[i].Request.JSON
		if *body == nil {
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, *body); err != nil {
			t.Fatal(err)
		}
		*body = separators.ReplaceAll(compact.Bytes(), []byte("$1 "))
	}
}

// separators are the commas and colons of compact JSON. The recorded bodies have none within strings.
var separators = regexp.MustCompile(`([,:])`)

// nameUser puts the id of the user that was made in the place of the recording's.
func nameUser(t testing.TB, s *Server, tr *webtest.Transcript) {
	const recorded = "Ann-B-_<uuid>"
	root, err := s.users.open()
	if err != nil {
		t.Fatal(err)
	}
	users, err := readUsers(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(users) == 0 {
		return
	}
	for i := range tr.Steps {
		step := &tr.Steps[i]
		step.Response.JSON = bytes.ReplaceAll(step.Response.JSON, []byte(recorded), []byte(users[0].Key))
		if step.Request.Headers[userHeader] == recorded {
			step.Request.Headers[userHeader] = users[0].Key
		}
	}
}
