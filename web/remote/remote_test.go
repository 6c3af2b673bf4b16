package remote

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// loopback lets tests call servers on this machine.
func loopback() netip.Prefix { return netip.MustParsePrefix("127.0.0.0/8") }

func allow(t *testing.T, patterns []string, exempt ...netip.Prefix) *Allow {
	t.Helper()
	a, err := NewAllow(patterns, exempt...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestPatterns(t *testing.T) {
	a := allow(t, []string{"https://*.example.com/pictures/*", "http://plain.org:8080", "https://one.net/a.png", "https://Folder.net./*"})
	for raw, want := range map[string]bool{
		"https://a.example.com/pictures/x.png":          true,
		"https://a.b.EXAMPLE.com:443/pictures/x?y=z#f":  true,
		"https://example.com/pictures/x":                false,
		"https://evilexample.com/pictures/x":            false,
		"https://a.example.com.evil.org/pictures/x":     false,
		"https://a.example.com/other/x":                 false,
		"https://a.example.com/pictures/../other/x":     false,
		"https://a.example.com/pictures/%2e%2e/other/x": false,
		"https://a.example.com/pictures/..%5cother":     false,
		"http://a.example.com/pictures/x":               false,
		"https://a.example.com:8443/pictures/x":         false,
		"https://u:p@a.example.com/pictures/x":          false,
		"http://plain.org:8080":                         true,
		"http://plain.org:8080/any/":                    true,
		"http://plain.org/":                             false,
		"https://one.net/a.png":                         true,
		"https://one.net/a.png/b":                       false,
		"https://folder.net/":                           true,
		"https://folder.net./x":                         true,
		"file:///etc/passwd":                            false,
		"https:one.net/a.png":                           false,
		"ftp://plain.org:8080/":                         false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		err = a.Check(u)
		if (err == nil) != want || err != nil && !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s: %v", raw, err)
		}
		if err != nil && strings.Contains(err.Error(), ":p@") {
			t.Errorf("tells a password: %v", err)
		}
	}
	for _, text := range []string{"", "*", "example.com", "https://*", "https://a*.com", "https://*.*.com", "https://h/a*b", "https://u@h/", "https://h/?q", "ftp://h/", "https://"} {
		if _, err := NewAllow([]string{text}); err == nil {
			t.Errorf("pattern %q is accepted", text)
		}
	}
}

func TestSpecialAddresses(t *testing.T) {
	for text, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "10.1.2.3": true, "172.16.0.1": true, "192.168.1.1": true, "169.254.169.254": true, "0.0.0.0": true, "0.1.2.3": true,
		"100.64.0.1": true, "192.0.0.8": true, "198.18.0.1": true, "224.0.0.1": true, "255.255.255.255": true, "240.0.0.1": true,
		"::1": true, "::": true, "::ffff:127.0.0.1": true, "::ffff:169.254.169.254": true, "::7f00:1": true, "64:ff9b::7f00:1": true, "2002:7f00:1::": true,
		"2001:0:1::": true, "fc00::1": true, "fd00:ec2::254": true, "fe80::1": true, "fe80::1%eth0": true, "ff02::1": true, "fec0::1": true,
		"8.8.8.8": false, "1.1.1.1": false, "172.32.0.1": false, "100.128.0.1": false, "2606:4700::1111": false, "2a00:1450::1": false, "::ffff:8.8.8.8": false,
	} {
		if got := special(netip.MustParseAddr(text)); (got != "") != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// The guard sees where a connection goes, whatever the name said, and redirects are no way around.
func TestGuard(t *testing.T) {
	secret := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("internal")) }))
	defer secret.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(secret.URL, "http://"), ":")
	for name, raw := range map[string]string{"address": secret.URL, "name": "http://localhost:" + port, "mapped": "http://[::ffff:127.0.0.1]:" + port} {
		a := allow(t, []string{raw})
		answer, err := a.Client(time.Minute).Get(raw)
		if err == nil {
			answer.Body.Close()
			t.Errorf("%s: reached", name)
		} else if !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A server on an exempt address that redirects to one that is not: another loopback address, and a URL that fits no pattern.
	hop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
	}))
	defer hop.Close()
	a := allow(t, []string{hop.URL, "http://localhost:" + port}, netip.MustParsePrefix("127.0.0.1/32"))
	if answer, err := a.Client(time.Minute).Get(hop.URL + "/?to=" + url.QueryEscape(secret.URL)); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("redirect to another URL: %v, %v", answer, err)
	}
	b := allow(t, []string{hop.URL, "http://127.0.0.2:" + port}, netip.MustParsePrefix("127.0.0.1/32"))
	if answer, err := b.Client(time.Minute).Get(hop.URL + "/?to=" + url.QueryEscape("http://127.0.0.2:"+port)); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("redirect to a private address: %v, %v", answer, err)
	}
	if answer, err := a.Client(time.Minute).Get(hop.URL + "/?to=" + url.QueryEscape(hop.URL+"/?to="+url.QueryEscape(hop.URL+"?to=/"))); err == nil {
		answer.Body.Close()
		t.Error("redirects without an end")
	}
}

func picture(t *testing.T, w, h int) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// pictures serves a few files, good and bad ones.
func pictures(t *testing.T) (url string, hits *atomic.Int64) {
	t.Helper()
	hits = new(atomic.Int64)
	good := picture(t, 8, 8)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		switch r.URL.Path {
		case "/good.png":
			w.Write(good)
		case "/wide.png":
			w.Write(picture(t, 100, 100))
		case "/long.png":
			w.Write(append(good, make([]byte, 5000)...))
		case "/slow.png":
			select {
			case <-r.Context().Done():
			case <-time.After(time.Minute):
			}
		case "/page":
			w.Write([]byte("<html>"))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, hits
}

func graph(t *testing.T, urls ...string) *workflows.Graph {
	t.Helper()
	g := &workflows.Graph{}
	for i, u := range urls {
		if err := g.Add(&workflows.Node{ID: string(rune('1' + i)), Class: "LoadImage", Inputs: workflows.Object{{Key: "image", Value: workflows.StringValue(u)}}}); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func TestReplace(t *testing.T) {
	at, hits := pictures(t)
	var words []string
	in := &Inputs{Allow: allow(t, []string{at}, loopback()), Dir: t.TempDir(), MaxBytes: 4096, MaxPixels: 1000, Timeout: time.Minute,
		Outcome: func(w string) { words = append(words, w) }}
	g := graph(t, at+"/good.png?sig=1", "plain.png", at+"/good.png?sig=1")
	if changed, err := in.Replace(t.Context(), g); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if changed, err := in.Replace(t.Context(), g); err != nil || changed {
		t.Errorf("a second time: %v, %v", changed, err)
	}
	name, _ := g.Node("1").Inputs.Get("image")
	file, _ := name.Str()
	data, err := os.ReadFile(filepath.Join(in.Dir, file))
	if err != nil || !bytes.Equal(data, picture(t, 8, 8)) || !strings.HasPrefix(file, "remote/") || !strings.HasSuffix(file, ".png") {
		t.Errorf("%s: %v", file, err)
	}
	second, _ := g.Node("3").Inputs.Get("image")
	if plain, _ := g.Node("2").Inputs.Get("image"); second != name || plain != workflows.StringValue("plain.png") || hits.Load() != 1 {
		t.Errorf("second %v, plain %v, %d requests", second, plain, hits.Load())
	}
	if _, err := in.Replace(t.Context(), graph(t, at+"/good.png")); err != nil || strings.Join(words, " ") != "fetched cached" {
		t.Errorf("again: %v, %v", err, words)
	}
	for path, want := range map[string]string{
		"/missing": "answers 404", "/wide.png": "1000 pixels", "/long.png": "more than 4096 bytes", "/page": "not a PNG",
		"/slow.png?sig=secret": "deadline exceeded",
	} {
		if in.Timeout = time.Minute; strings.HasPrefix(path, "/slow") {
			in.Timeout = 200 * time.Millisecond
		}
		_, err := in.Replace(t.Context(), graph(t, at+path))
		var invalid *engine.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(want)) || invalid.Errors[0].Input != "image" || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(in.Dir, "remote", "*")); len(left) != 1 {
		t.Errorf("files %v", left)
	}
}

// By default, and for URLs that fit no pattern, nothing is called.
func TestReplaceRefuses(t *testing.T) {
	at, hits := pictures(t)
	var none *Inputs
	for name, in := range map[string]*Inputs{"nil": none, "empty": {Dir: t.TempDir()}, "no pattern": {Allow: allow(t, nil), Dir: t.TempDir()},
		"other": {Allow: allow(t, []string{"https://example.com"}, loopback()), Dir: t.TempDir()}, "guard": {Allow: allow(t, []string{at}), Dir: t.TempDir()}} {
		_, err := in.Replace(context.Background(), graph(t, "HTTP"+strings.TrimPrefix(at, "http")+"/good.png"))
		if !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if hits.Load() != 0 {
		t.Errorf("%d requests", hits.Load())
	}
	in := &Inputs{Allow: allow(t, []string{at}, loopback()), Dir: t.TempDir(), MaxURLs: 1}
	if _, err := in.Replace(t.Context(), graph(t, at+"/good.png?1", at+"/good.png?2")); err == nil {
		t.Error("more pictures than allowed")
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("https://*.example.com/a/*", "https://x.example.com/a/b")
	f.Add("http://h:80/", "http://h/")
	f.Fuzz(func(t *testing.T, text, raw string) {
		a, err := NewAllow([]string{text})
		if err != nil {
			return
		}
		u, err := url.Parse(raw)
		if err != nil || a.Check(u) != nil {
			return
		}
		if u.User != nil || u.Scheme != "http" && u.Scheme != "https" || strings.Contains(u.Path, "/../") {
			t.Errorf("%q allows %q", text, raw)
		}
	})
}
