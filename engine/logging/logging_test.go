package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

func logger(t *testing.T, out *bytes.Buffer, format string) *slog.Logger {
	t.Helper()
	log, err := New(out, format, "info")
	if err != nil {
		t.Fatal(err)
	}
	return log
}

type panics struct{}

func (*panics) Error() string { panic("no") }

// Whatever way a secret takes into the log, it does not come out.
func TestRedacted(t *testing.T) {
	const secret = "s3cr3t-s3cr3t"
	token := "comfyrun_" + strings.Repeat("Ab0", 14) + "_"
	for name, write := range map[string]func(*slog.Logger){
		"attribute":  func(l *slog.Logger) { l.Info("m", "Authorization", secret) },
		"key":        func(l *slog.Logger) { l.Info("m", "api_key", secret) },
		"comfy":      func(l *slog.Logger) { l.Info("m", "auth_token_comfy_org", secret) },
		"with":       func(l *slog.Logger) { l.With("token", secret).Info("m") },
		"group":      func(l *slog.Logger) { l.Info("m", slog.Group("g", "cookie", secret)) },
		"with group": func(l *slog.Logger) { l.WithGroup("g").Info("m", "password", secret) },
		"bearer":     func(l *slog.Logger) { l.Info("Authorization: Bearer " + secret) },
		"query":      func(l *slog.Logger) { l.Info("GET /ws?clientId=1&token=" + secret + "&x=1") },
		"url":        func(l *slog.Logger) { l.Info("m", "url", "nats://user:"+secret+"@host:4222") },
		"error": func(l *slog.Logger) {
			l.Info("m", "err", fmt.Errorf("get: %w", errors.New("https://x/?X-Amz-Signature="+secret)))
		},
		"header":        func(l *slog.Logger) { l.Info("m", "h", http.Header{"X": {"Bearer " + secret}}) },
		"token":         func(l *slog.Logger) { l.Info("m " + token) },
		"webhook":       func(l *slog.Logger) { l.Info("m", "x", "whsec_"+secret) },
		"lazy":          func(l *slog.Logger) { l.Info("m", "x", lazy("Bearer "+secret)) },
		"panicking":     func(l *slog.Logger) { l.Info("m", "err", (*panics)(nil)) },
		"nested groups": func(l *slog.Logger) { l.Info("m", slog.Group("a", slog.Group("b", "secret", secret))) },
	} {
		for _, format := range []string{"text", "json"} {
			var out bytes.Buffer
			write(logger(t, &out, format))
			if text := out.String(); strings.Contains(text, secret) || strings.Contains(text, token) || text == "" {
				t.Errorf("%s, %s: %s", name, format, text)
			}
		}
	}
}

type lazy string

func (l lazy) LogValue() slog.Value { return slog.StringValue(string(l)) }

// What is no secret stays as it is.
func TestKept(t *testing.T) {
	var out bytes.Buffer
	log := logger(t, &out, "json")
	log.Debug("unseen")
	log.InfoContext(WithPrompt(context.Background(), "p-1"), "GET /view?filename=a.png", "status", 200, "tokens", 77, "ok", true,
		"path", "http://host/a?b=c", slog.Group("g", "n", 1.5))
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err, out.String())
	}
	delete(got, "time")
	if s := fmt.Sprint(got); s != "map[g:map[n:1.5] level:INFO msg:GET /view?filename=a.png ok:true path:http://host/a?b=c prompt_id:p-1 status:200 tokens:77]" {
		t.Error(s)
	}
	out.Reset()
	log.InfoContext(WithPrompt(context.Background(), "p-1"), "m", "prompt_id", "p-2")
	if strings.Count(out.String(), "prompt_id") != 1 {
		t.Error(out.String())
	}
}

func TestSettings(t *testing.T) {
	for _, tt := range []struct{ format, level string }{{"xml", "info"}, {"json", "loud"}, {"", "info"}} {
		if _, err := New(&bytes.Buffer{}, tt.format, tt.level); err == nil {
			t.Errorf("%+v is accepted", tt)
		}
	}
}
