package web

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	requestIDHeader = "X-Request-Id"
	maxRequestID    = 64
)

// middleware is what every request passes, known routes and unknown ones, from the outside in.
func (s *Server) middleware() []gin.HandlerFunc {
	return []gin.HandlerFunc{s.identify, s.wrap, s.rescue, s.cross, s.limit, unescapeParams}
}

// identify gives the request an id, the client's own if it sent a plain one, and logs how the request ended.
func (s *Server) identify(c *gin.Context) {
	id := c.GetHeader(requestIDHeader)
	if !plainID(id) {
		id = rand.Text()
	}
	c.Set(requestIDHeader, id)
	c.Header(requestIDHeader, id)
	start := time.Now()
	defer func() { s.logRequest(c, time.Since(start)) }()
	c.Next()
}

// requestID is the id that identify gave.
func requestID(c *gin.Context) string { return c.GetString(requestIDHeader) }

func plainID(id string) bool {
	for _, r := range id {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_', r == '.':
		default:
			return false
		}
	}
	return id != "" && len(id) <= maxRequestID
}

// logRequest writes one line, without the query, which may hold a token.
func (s *Server) logRequest(c *gin.Context, took time.Duration) {
	level := slog.LevelDebug
	switch method := c.Request.Method; {
	case c.Writer.Status() >= http.StatusInternalServerError:
		level = slog.LevelError
	case method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions:
		level = slog.LevelInfo
	}
	s.Log.Log(c.Request.Context(), level, "request", "method", c.Request.Method, "path", c.Request.URL.Path,
		"status", c.Writer.Status(), "bytes", max(c.Writer.Size(), 0), "ms", took.Milliseconds(), "request", requestID(c))
}

// rescue turns a panic into status 500. When part of an answer is out already, the connection is cut, so that the client
// does not take the part for the whole.
func (s *Server) rescue(c *gin.Context) {
	defer func() {
		problem := recover()
		if problem == nil {
			return
		}
		if problem == http.ErrAbortHandler {
			panic(problem)
		}
		s.Log.Error("panic in request", "panic", fmt.Sprint(problem), "stack", string(debug.Stack()))
		if c.Writer.Written() {
			panic(http.ErrAbortHandler)
		}
		answerText(c, http.StatusInternalServerError, trouble)
	}()
	c.Next()
}

// unescapeParams decodes the parameters of a path, which are matched in their escaped form: "workflows%2Fa.json" is one
// segment. (The router's own decoding is that of queries, which makes a space of a plus sign.)
func unescapeParams(c *gin.Context) {
	if c.Request.URL.RawPath == "" {
		return
	}
	for i, p := range c.Params {
		if value, err := url.PathUnescape(p.Value); err == nil {
			c.Params[i].Value = value
		}
	}
}

// plainPaths lets a path match however it is escaped: "/%70rompt" is "/prompt". Only an escaped slash stays one. In
// queries a semicolon is a character like any other ("preview=webp;90"), which Go's parser would refuse.
func plainPaths(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, ";", "%3B")
		if r.URL.RawPath != "" {
			parts := strings.Split(r.URL.RawPath, "/")
			for i, part := range parts {
				if value, err := url.PathUnescape(part); err == nil {
					parts[i] = url.PathEscape(value)
				}
			}
			r.URL.RawPath = strings.Join(parts, "/")
		}
		next.ServeHTTP(w, r)
	})
}
