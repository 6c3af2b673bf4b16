package web

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/comfyrun/comfyrun/engine/metrics"
	"github.com/comfyrun/comfyrun/web/auth"
)

// locked is a server with a token for each scope, named after it.
type locked struct {
	*Server
	url    string
	tokens map[auth.Scope]string
	log    *writtenLog
}

// writtenLog is what handlers have written into a log; the line about a request comes after its answer.
type writtenLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *writtenLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *writtenLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newLocked(t *testing.T, o Options) *locked {
	t.Helper()
	l := &locked{tokens: map[auth.Scope]string{}, log: &writtenLog{}}
	var file strings.Builder
	for _, s := range []auth.Scope{auth.Read, auth.Submit, auth.Admin} {
		token, hash := auth.NewToken()
		l.tokens[s] = token
		file.WriteString(s.String() + " " + s.String() + " " + hash + "\n")
	}
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if o.Tokens, err = auth.Open(path, nil); err != nil {
		t.Fatal(err)
	}
	o.Log = slog.New(slog.NewJSONHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l.Server, l.url, _ = recorded(t, o)
	return l
}

// ask sends a request with a token, unless it is empty.
func (l *locked) ask(t *testing.T, method, path, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, l.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body)
}

// Every route has a scope that somebody decided on, and those without are few.
func TestRoutesHaveScopes(t *testing.T) {
	l := newLocked(t, Options{Metrics: metrics.New(metrics.Options{})})
	open := []string{"/login", "/logout", "/healthz", "/readyz", "/", "/comfyrun", "/comfyrun/", "/comfyrun/:file", "/openapi.json", "/api/openapi.json"}
	for _, r := range l.router.Routes() {
		needs, decided := l.scopes[r.Method+" "+r.Path]
		switch {
		case !decided:
			t.Errorf("%s %s has no scope", r.Method, r.Path)
		case needs == auth.None && !slices.Contains(open, r.Path):
			t.Errorf("%s %s is open to everybody", r.Method, r.Path)
		case needs == auth.None:
		case r.Method != http.MethodGet && r.Method != http.MethodHead && needs == auth.Read:
			t.Errorf("%s %s changes something with a token for reading", r.Method, r.Path)
		}
		if needs == auth.None || !decided {
			continue
		}
		path := strings.NewReplacer(":id", "x", ":class", "x", ":type", "x", ":file", "x", ":name", "x", ":folder", "x").Replace(r.Path)
		if status, _ := l.ask(t, r.Method, path, ""); status != http.StatusUnauthorized {
			t.Errorf("%s %s answers %d to nobody", r.Method, path, status)
		}
		if below := l.tokens[needs-1]; below != "" {
			if status, _ := l.ask(t, r.Method, path, below); status != http.StatusForbidden {
				t.Errorf("%s %s needs %s and answers %d to %s", r.Method, path, needs, status, needs-1)
			}
		}
	}
}

func TestTokens(t *testing.T) {
	l := newLocked(t, Options{})
	for _, tt := range []struct {
		method, path, token string
		status              int
		says                string
	}{
		{"GET", "/queue", "", 401, `"type":"unauthorized"`},
		{"GET", "/queue", "wrong", 401, "not known"},
		{"GET", "/queue", l.tokens[auth.Read], 200, "queue_running"},
		{"GET", "/queue?token=" + l.tokens[auth.Read], "", 401, "unauthorized"},
		{"POST", "/interrupt", l.tokens[auth.Read], 403, "needs submit"},
		{"POST", "/interrupt", l.tokens[auth.Submit], 200, ""},
		{"POST", "/free", l.tokens[auth.Submit], 403, "forbidden"},
		{"GET", "/healthz", "", 200, "ok"},
		{"GET", "/readyz", "", 200, "ready"},
		{"GET", "/api/queue", "", 401, `"node_errors":{}`},
	} {
		status, body := l.ask(t, tt.method, tt.path, tt.token)
		if status != tt.status || !strings.Contains(strings.ReplaceAll(body, `": `, `":`), tt.says) {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, status, body)
		}
	}
	for _, token := range l.tokens {
		if strings.Contains(l.log.String(), token) {
			t.Error("a token is in the log")
		}
	}
}

// A browser logs in with a form, gets a cookie that no script can read, and everything works with it, the socket too.
func TestLogin(t *testing.T) {
	l := newLocked(t, Options{})
	jar, _ := cookiejar.New(nil)
	client := &http.Client{Jar: jar}
	visit := func() string {
		t.Helper()
		r, _ := http.NewRequestWithContext(t.Context(), "GET", l.url+"/", nil)
		r.Header.Set("Accept", "text/html,*/*")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		return answer.Request.URL.Path
	}
	if at := visit(); at != "/login" {
		t.Errorf("a stranger is sent to %s", at)
	}
	if answer, err := client.PostForm(l.url+"/login", url.Values{"token": {"guess"}}); err != nil || answer.StatusCode != 401 {
		t.Errorf("guess: %v, %v", answer, err)
	}
	answer, err := client.PostForm(l.url+"/login", url.Values{"token": {" " + l.tokens[auth.Submit] + "\n"}})
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if at := visit(); at != "/" {
		t.Errorf("who has logged in is sent to %s", at)
	}
	home, _ := url.Parse(l.url)
	if len(jar.Cookies(home)) != 1 {
		t.Fatalf("cookies %v", jar.Cookies(home))
	}
	socket, _, err := (&websocket.Dialer{Jar: jar}).DialContext(t.Context(), "ws"+strings.TrimPrefix(l.url, "http")+"/ws?clientId=x", nil)
	if err != nil {
		t.Fatal(err)
	}
	socket.Close()
	if socket, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(l.url, "http")+"/ws", nil); err == nil {
		socket.Close()
		t.Error("a socket without a token")
	}
	r, _ := http.NewRequestWithContext(t.Context(), "POST", l.url+"/login", strings.NewReader("token="+l.tokens[auth.Read]))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-Proto", "https")
	answer, err = http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if c := answer.Header.Get("Set-Cookie"); !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Strict") || !strings.Contains(c, "Secure") {
		t.Errorf("cookie %s", c)
	}
	if answer, err := client.Post(l.url+"/logout", "", nil); err != nil || answer.StatusCode != 200 || len(jar.Cookies(home)) != 0 {
		t.Errorf("logout: %v, %v", err, jar.Cookies(home))
	}
	if strings.Contains(l.log.String(), l.tokens[auth.Submit]) {
		t.Error("the token is in the log")
	}
}

// Who guesses is stopped, and learns nothing; who was known before goes on.
func TestGuessing(t *testing.T) {
	l := newLocked(t, Options{})
	if status, _ := l.ask(t, "GET", "/queue", l.tokens[auth.Read]); status != 200 {
		t.Fatal(status)
	}
	limited := 0
	for range 20 {
		if status, _ := l.ask(t, "GET", "/queue", "guess"); status == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited != 10 {
		t.Errorf("%d of 20 guesses are limited", limited)
	}
	if status, _ := l.ask(t, "GET", "/queue", l.tokens[auth.Admin]); status != http.StatusTooManyRequests {
		t.Errorf("a right guess answers %d", status)
	}
	r, _ := http.NewRequestWithContext(t.Context(), "GET", l.url+"/", nil)
	r.Header.Set("Accept", "text/html")
	r.AddCookie(&http.Cookie{Name: tokenCookie, Value: l.tokens[auth.Admin]})
	if answer, err := http.DefaultTransport.RoundTrip(r); err != nil || answer.StatusCode != http.StatusSeeOther {
		t.Errorf("the page tells a right guess: %v, %v", answer, err)
	}
	if status, _ := l.ask(t, "GET", "/queue", l.tokens[auth.Read]); status != 200 {
		t.Errorf("who was known answers %d", status)
	}
}
