// Package logging sets up what a program logs: lines of text or JSON, without secrets.
//
// # Vocabulary
//
// An attribute is a name with a value beside the message. A secret attribute is one whose name says so (authorization,
// cookie, a token, a password…); its value is replaced by Redacted. So are tokens, passwords in URLs and bearer credentials
// inside other texts, the message and errors included.
package logging

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
)

// Redacted stands where a secret stood.
const Redacted = "[redacted]"

// New makes a logger that writes lines in a format, "text" or "json", from a level on: debug, info, warn or error.
func New(w io.Writer, format, level string) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: allowed are debug, info, warn and error", level)
	}
	o := &slog.HandlerOptions{Level: least}
	switch format {
	case "text":
		return slog.New(Redact(slog.NewTextHandler(w, o))), nil
	case "json":
		return slog.New(Redact(slog.NewJSONHandler(w, o))), nil
	}
	return nil, fmt.Errorf("log format %q: allowed are text and json", format)
}

// promptKey is of the context's value that names a prompt.
type promptKey struct{}

// WithPrompt is a context in which every logged line has the attribute prompt_id.
func WithPrompt(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, promptKey{}, id)
}

// Redact is a handler that keeps secrets from another one, and adds the prompt of the context.
func Redact(next slog.Handler) slog.Handler { return &redactor{next: next, secrets: secretTexts()} }

type redactor struct {
	next    slog.Handler
	secrets []replacement
}

type replacement struct {
	find *regexp.Regexp
	with string
}

// secretTexts are the forms that secrets have inside of texts.
func secretTexts() []replacement {
	return []replacement{
		{regexp.MustCompile(`comfyrun_[A-Za-z0-9_-]{43}`), Redacted},
		{regexp.MustCompile(`whsec_[A-Za-z0-9+/=_-]+`), Redacted},
		{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}`), "$1 " + Redacted},
		{regexp.MustCompile(`(?i)([?&](?:token|access_token|api_?key|key|secret|password|signature|sig|x-amz-signature|x-amz-security-token|x-amz-credential)=)[^&\s"']+`), "${1}" + Redacted},
		{regexp.MustCompile(`(://[^/\s:@"']*:)[^/\s@"']+@`), "${1}" + Redacted + "@"},
	}
}

// Enabled is of slog.Handler.
func (r *redactor) Enabled(ctx context.Context, l slog.Level) bool { return r.next.Enabled(ctx, l) }

// Handle is of slog.Handler.
func (r *redactor) Handle(ctx context.Context, rec slog.Record) error {
	clean := slog.NewRecord(rec.Time, rec.Level, r.text(rec.Message), rec.PC)
	named := false
	rec.Attrs(func(a slog.Attr) bool {
		named = named || a.Key == "prompt_id"
		clean.AddAttrs(r.attr(a))
		return true
	})
	if id, ok := ctx.Value(promptKey{}).(string); ok && !named {
		clean.AddAttrs(slog.String("prompt_id", id))
	}
	return r.next.Handle(ctx, clean)
}

// WithAttrs is of slog.Handler.
func (r *redactor) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = r.attr(a)
	}
	return &redactor{next: r.next.WithAttrs(clean), secrets: r.secrets}
}

// WithGroup is of slog.Handler.
func (r *redactor) WithGroup(name string) slog.Handler {
	return &redactor{next: r.next.WithGroup(name), secrets: r.secrets}
}

func (r *redactor) text(s string) string {
	for _, p := range r.secrets {
		s = p.find.ReplaceAllString(s, p.with)
	}
	return s
}

// attr is the attribute without secrets. Values other than numbers, times and the like are turned into text to look into them.
func (r *redactor) attr(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	if Secret(a.Key) {
		return slog.String(a.Key, Redacted)
	}
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(r.text(a.Value.String()))
	case slog.KindGroup:
		members := a.Value.Group()
		clean := make([]slog.Attr, len(members))
		for i, m := range members {
			clean[i] = r.attr(m)
		}
		a.Value = slog.GroupValue(clean...)
	case slog.KindAny:
		a.Value = slog.StringValue(r.text(describe(a.Value.Any())))
	}
	return a
}

// describe is a value as text. Of a value whose own method panics there is no more to say than that.
func describe(v any) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("%T", v)
		}
	}()
	if err, ok := v.(error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%+v", v)
}

// Secret reports whether an attribute of this name, or a header, is never logged.
func Secret(name string) bool {
	name = strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "", " ", "").Replace(name))
	switch name {
	case "token", "key", "cookie", "setcookie", "auth":
		return true
	}
	for _, part := range []string{"authorization", "password", "passwd", "secret", "apikey", "accesskey", "credential", "privatekey", "authtoken", "accesstoken", "securitytoken"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
