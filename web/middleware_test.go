package web

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
)

func TestForeign(t *testing.T) {
	for _, c := range []struct {
		host, origin string
		want         bool
	}{
		{"127.0.0.1:8188", "", false},
		{"127.0.0.1:8188", "null", false},
		{"127.0.0.1:8188", "http://127.0.0.1:8188", false},
		{"127.0.0.1:8188", "https://127.0.0.1:8188", false},
		{"127.0.0.1:8188", "http://localhost:8188", true},
		{"127.0.0.1:8188", "http://127.0.0.1:9999", true},
		{"127.0.0.1:8188", "http://127.0.0.1", false},
		{"127.0.0.1", "http://127.0.0.1:9999", false},
		{"LOCALHOST:8188", "http://localhost:8188", false},
		{"localhost:8188", "HTTP://LocalHost:8188", false},
		{"a.localhost:8188", "http://b.localhost:8188", true},
		{"[::1]:8188", "http://[::1]:8188", false},
		{"[::1]:8188", "http://example.com", true},
		{"[::ffff:127.0.0.1]:8188", "http://example.com", true},
		{"127.9.9.9", "http://example.com", true},
		{"localhost", "http://localhost.example.com", true},
		{"localhost", "http://localhost@example.com", true},
		{"localhost", "http://[", true},
		{"localhost:port", "http://example.com", true},
		{"10.0.0.5:8188", "http://example.com", false},
		{"comfy.test", "http://example.com", false},
	} {
		r := httptest.NewRequest("GET", "/prompt", nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		if got := foreign(r); got != c.want {
			t.Errorf("host %q, origin %q: %v", c.host, c.origin, got)
		}
	}
}

func TestCacheControl(t *testing.T) {
	got := map[string]string{}
	for _, c := range []struct {
		path   string
		status int
	}{
		{"/assets/a.js", 200}, {"/assets/a.js", 404}, {"/user.css", 200}, {"/templates/index.json", 200}, {"/templates/index.en.json", 404},
		{"/templates/other.json", 200}, {"/a.png", 200}, {"/a.PNG", 206}, {"/a.webp", 404}, {"/a.jpeg", 301}, {"/a.jpg", 302}, {"/a.tiff", 307},
		{"/a.png", 304}, {"/a.png", 500}, {"/view", 200}, {"/a.gif", 200},
	} {
		got[fmt.Sprintf("%s %d", c.path, c.status)] = cacheControl(c.path, c.status)
	}
	const day, hour = "public, max-age=86400", "public, max-age=3600"
	want := map[string]string{
		"/assets/a.js 200": noCache, "/assets/a.js 404": noCache, "/user.css 200": noCache, "/templates/index.json 200": noCache,
		"/templates/index.en.json 404": noCache, "/templates/other.json 200": "", "/a.png 200": day, "/a.PNG 206": day, "/a.webp 404": hour,
		"/a.jpeg 301": day, "/a.jpg 302": noCache, "/a.tiff 307": noCache, "/a.png 304": "", "/a.png 500": "", "/view 200": "", "/a.gif 200": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// withRoutes is a server with a few routes more, which do what handlers do wrong.
func withRoutes(t *testing.T, o Options) *Server {
	t.Helper()
	s, _, _ := recorded(t, o)
	s.api().get("/test/panic", open, func(*gin.Context) { panic("a handler's mistake: token=abcdef") })
	s.api().get("/test/late", open, func(c *gin.Context) {
		c.Writer.WriteString("begun")
		c.Writer.Flush()
		panic("too late")
	})
	s.api().post("/test/deaf", open, func(c *gin.Context) {
		io.Copy(io.Discard, c.Request.Body) // and no look at the error
		c.String(http.StatusOK, "fine")
	})
	s.api().get("/test/text", open, func(c *gin.Context) { c.String(http.StatusOK, strings.Repeat("text ", 1000)) })
	s.api().get("/test/echo/:a/*rest", open, func(c *gin.Context) { c.String(http.StatusOK, "%q %q", c.Param("a"), c.Param("rest")) })
	return s
}

func ask(s *Server, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://comfy.test"+path, nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestPanics(t *testing.T) {
	s := withRoutes(t, Options{})
	if w := ask(s, "GET", "/test/panic"); w.Code != 500 || w.Body.String() != trouble {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	log := fmt.Sprint(s.logs.Entries())
	if !strings.Contains(log, "a handler's mistake") || strings.Contains(log, "abcdef") {
		t.Errorf("the log says %s", log)
	}
	h := httptest.NewServer(s.Handler())
	defer h.Close()
	response, err := http.Get(h.URL + "/test/late")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if data, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("an answer that was cut off looks whole: %q", data)
	}
}

// The answer is about the body although the handler took no notice.
func TestBodyLimitOfDeafHandler(t *testing.T) {
	s := withRoutes(t, Options{MaxUpload: 10, Compress: true})
	h := httptest.NewServer(s.Handler())
	defer h.Close()
	for size, want := range map[int]string{10: "200 fine", 11: "413 Maximum request body size 10 exceeded."} {
		// A reader of unknown length is sent in chunks.
		response, err := http.Post(h.URL+"/test/deaf", "text/plain", io.MultiReader(strings.NewReader(strings.Repeat("x", size))))
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if got := fmt.Sprintf("%d %s", response.StatusCode, data); got != want {
			t.Errorf("%d bytes: %q, want %q", size, got, want)
		}
	}
}

func TestCompression(t *testing.T) {
	s := withRoutes(t, Options{Compress: true})
	for _, c := range []struct{ path, accept, want string }{
		{"/test/text", "gzip, deflate, br", "deflate"}, {"/test/text", "gzip", "gzip"}, {"/test/text", "deflate", ""}, {"/test/text", "", ""},
		{"/view?filename=rgb.png&type=input", "gzip", ""}, {"/view?filename=notes.txt&type=input", "gzip", "gzip"}, {"/models", "gzip", "gzip"},
	} {
		w := ask(s, "GET", c.path, "Accept-Encoding: "+c.accept)
		if got := w.Header().Get("Content-Encoding"); got != c.want || w.Code != 200 {
			t.Errorf("%s for %q: %d, encoding %q", c.path, c.accept, w.Code, got)
		}
		if c.path == "/test/text" && inflate(t, w) != strings.Repeat("text ", 1000) {
			t.Errorf("%s for %q has another text", c.path, c.accept)
		}
	}
	if w := ask(s, "GET", "/view?filename=notes.txt&type=input", "Accept-Encoding: gzip", "Range: bytes=0-4"); w.Code != 206 || w.Body.String() != "plain" {
		t.Errorf("a range: %d %q", w.Code, w.Body)
	}
	if w := ask(s, "HEAD", "/models", "Accept-Encoding: gzip"); w.Header().Get("Content-Encoding") != "" {
		t.Errorf("HEAD: %v", w.Header())
	}
}

func inflate(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var plain io.Reader = w.Body
	var err error
	switch w.Header().Get("Content-Encoding") {
	case "gzip":
		plain, err = gzip.NewReader(w.Body)
	case "deflate":
		plain, err = zlib.NewReader(w.Body)
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestPathsAndMethods(t *testing.T) {
	s := withRoutes(t, Options{})
	for _, c := range []struct {
		method, path, want string
	}{
		{"GET", "/test/echo/a%2Fb/c%2Fd/e", `200 "a/b" "/c/d/e"`},
		{"GET", "/test/echo/a+b%2Fc+d/x", `200 "a+b/c+d" "/x"`},
		{"GET", "/test/echo/a%20b/%25", `200 "a b" "/%"`},
		{"GET", "/test/echo/a%2525%2F/x", `200 "a%25/" "/x"`},
		{"GET", "/%6dodels/%6coras", `200 ["style.safetensors"]`},
		{"GET", "/api/%6dodels/loras", `200 ["style.safetensors"]`},
		{"GET", "/models%2Floras", "404 "},
		{"GET", "/models/", "404 "},
		{"GET", "/models/loras/", "404 "},
		{"GET", "/userdata/a/b", "404 "},
		{"POST", "/nothing", "405 405: Method Not Allowed [GET,HEAD]"},
		{"POST", "/models", "405 405: Method Not Allowed [GET,HEAD]"},
		{"GET", "/upload/image", "404 "},
		{"DELETE", "/upload/image", "405 405: Method Not Allowed [GET,HEAD,POST]"},
		{"PUT", "/userdata/x", "405 405: Method Not Allowed [DELETE,GET,HEAD,POST]"},
		{"GET", "/internal/logs/subscribe", "405 405: Method Not Allowed [PATCH]"},
		{"POST", "/internal/none", "404 404: Not Found"},
		{"GET", "/internal/none", "404 404: Not Found"},
		{"GET", "/api/internal/logs", "404 "},
		{"GET", "//models", "404 404: Not Found"},
		{"OPTIONS", "/models", "200 "},
		{"OPTIONS", "/nothing/at/all", "200 "},
		{"HEAD", "/models/loras", `200 `},
	} {
		h := httptest.NewServer(s.Handler())
		r, err := http.NewRequest(c.method, h.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		body.ReadFrom(response.Body)
		response.Body.Close()
		h.Close()
		got := fmt.Sprintf("%d %s", response.StatusCode, body.String())
		if allow := response.Header.Get("Allow"); allow != "" {
			got += " [" + allow + "]"
		}
		if got != c.want {
			t.Errorf("%s %s: %s, want %s", c.method, c.path, got, c.want)
		}
	}
}

func TestRequestID(t *testing.T) {
	s, _, _ := recorded(t, Options{})
	if id := ask(s, "GET", "/models", "X-Request-Id: abc-1_2.3").Header().Get("X-Request-Id"); id != "abc-1_2.3" {
		t.Errorf("the client's own id became %q", id)
	}
	for _, bad := range []string{"", "a b", strings.Repeat("x", 65), "ä", "<script>"} {
		if id := ask(s, "GET", "/models", "X-Request-Id: "+bad).Header().Get("X-Request-Id"); id == bad || !plainID(id) {
			t.Errorf("%q became %q", bad, id)
		}
	}
}
