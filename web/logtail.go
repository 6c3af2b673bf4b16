package web

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"
)

// maxLogEntries is how many lines are kept for those who look at the log later.
const maxLogEntries = 300

// LogEntry is a line of the log: its time, RFC 3339, and its text with the newline.
type LogEntry struct {
	Time string `json:"t"`
	Text string `json:"m"`
}

// LogTail is a slog.Handler that passes records on and keeps the last lines, for GET /internal/logs. What looks like a
// secret is blotted out in the lines that it keeps.
type LogTail struct {
	next slog.Handler
	text slog.Handler // writes to lines
	*lines
}

// lines holds the newest lines and tells a listener about each.
type lines struct {
	mu      sync.Mutex
	entries []LogEntry
	listen  func(LogEntry)
}

// NewLogTail returns a handler that also keeps lines.
func NewLogTail(next slog.Handler) *LogTail {
	kept := &lines{}
	text := slog.NewTextHandler(kept, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: blot})
	return &LogTail{next, text, kept}
}

// Enabled reports whether anybody wants records of a level.
func (t *LogTail) Enabled(ctx context.Context, level slog.Level) bool {
	return t.next.Enabled(ctx, level) || t.text.Enabled(ctx, level)
}

// Handle passes a record on and keeps its line.
func (t *LogTail) Handle(ctx context.Context, r slog.Record) error {
	if t.text.Enabled(ctx, r.Level) {
		t.text.Handle(ctx, r.Clone()) // it writes to memory
	}
	if !t.next.Enabled(ctx, r.Level) {
		return nil
	}
	return t.next.Handle(ctx, r)
}

// WithAttrs returns a handler whose records have attributes more.
func (t *LogTail) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &LogTail{t.next.WithAttrs(attrs), t.text.WithAttrs(attrs), t.lines}
}

// WithGroup returns a handler whose records have their attributes in a group.
func (t *LogTail) WithGroup(name string) slog.Handler {
	return &LogTail{t.next.WithGroup(name), t.text.WithGroup(name), t.lines}
}

// Entries returns the lines that are kept, oldest first.
func (l *lines) Entries() []LogEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]LogEntry{}, l.entries...)
}

// Listen makes every line that comes reach a function, which must not wait nor log. One function at a time listens; nil
// ends it.
func (l *lines) Listen(f func(LogEntry)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listen = f
}

// Write keeps a line; slog's text handler writes each record at once.
func (l *lines) Write(line []byte) (int, error) {
	e := LogEntry{time.Now().UTC().Format(time.RFC3339Nano), string(blotText(line))}
	l.mu.Lock()
	if len(l.entries) == maxLogEntries {
		l.entries = append(l.entries[:0], l.entries[1:]...)
	}
	l.entries = append(l.entries, e)
	listen := l.listen
	l.mu.Unlock()
	if listen != nil {
		listen(e)
	}
	return len(line), nil
}

const blotted = "[hidden]"

// blot leaves out the time, which an entry has of its own, and the values of attributes that are secrets by their names.
func blot(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	key := strings.ToLower(a.Key)
	for _, word := range []string{"token", "secret", "password", "passwd", "authorization", "cookie", "credential", "api_key", "apikey"} {
		if strings.Contains(key, word) {
			return slog.String(a.Key, blotted)
		}
	}
	return a
}

// secretText finds secrets within texts: of an authorization header, of a URL's user, of a query.
var secretText = regexp.MustCompile(`(?i)(bearer |basic |://[^/\s:@]*:|(?:token|secret|password|api_?key|signature)=)[^\s&"'@]+`)

func blotText(line []byte) []byte {
	if !bytes.ContainsAny(line, "=:") {
		return line
	}
	return secretText.ReplaceAll(line, []byte("${1}"+blotted))
}
