package web

import (
	"bufio"
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// answer is the writer that handlers write to. It looks at an answer at the moment its header goes out, adds what is
// the same for all, and replaces it when the request's body broke a bound.
type answer struct {
	gin.ResponseWriter
	s       *Server
	request *http.Request
	control *http.ResponseController
	body    *body // nil: the request has none
	encoder encoder
	started bool
	dropped bool // what the handler writes is not sent

	hijacked bool
}

// wrap puts the writer in place.
func (s *Server) wrap(c *gin.Context) {
	w := &answer{ResponseWriter: c.Writer, s: s, request: c.Request, control: http.NewResponseController(c.Writer)}
	c.Writer = w
	defer func() {
		w.finish()
		c.Writer = w.ResponseWriter
	}()
	c.Next()
}

// start decides on the header, once.
func (w *answer) start(withBody bool) {
	if w.started {
		return
	}
	w.started = true
	w.hurry()
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	if w.body != nil && w.body.status != 0 {
		w.complain()
		return
	}
	if header.Get("Cache-Control") == "" {
		if value := cacheControl(w.request.URL.Path, w.Status()); value != "" {
			header.Set("Cache-Control", value)
		}
	}
	if w.s.Compress && withBody {
		w.encoder = encode(header, w.request, w.Status(), w.ResponseWriter)
	}
}

// hurry gives the client time to take what is written next. Without it, one that stops reading would hold on to a file
// and a goroutine for ever.
func (w *answer) hurry() { w.control.SetWriteDeadline(time.Now().Add(w.s.patience)) } // may be unsupported: then there is none

// complain answers about the body and closes the connection, on which the rest of it may be under way.
func (w *answer) complain() {
	w.dropped = true
	header := w.Header()
	header.Del("Content-Length")
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Connection", "close")
	w.ResponseWriter.WriteHeader(w.body.status)
	w.ResponseWriter.WriteString(w.body.complaint(w.s.MaxUpload))
}

// finish sends what is left: a header without a body, the end of the compression.
func (w *answer) finish() {
	if w.encoder != nil {
		w.encoder.Close() // a client that is gone needs no end
	}
	w.start(false)
	if !w.hijacked {
		w.hurry()
	}
}

// WriteHeaderNow sends the header.
func (w *answer) WriteHeaderNow() {
	w.start(false)
	w.ResponseWriter.WriteHeaderNow()
}

// Write sends a piece of the body.
func (w *answer) Write(p []byte) (int, error) {
	w.start(len(p) > 0)
	w.hurry()
	switch {
	case w.dropped:
		return len(p), nil
	case w.encoder != nil:
		return w.encoder.Write(p)
	}
	return w.ResponseWriter.Write(p)
}

// WriteString sends a piece of the body.
func (w *answer) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// Written reports whether the header is decided.
func (w *answer) Written() bool { return w.started || w.ResponseWriter.Written() }

// Flush sends what was written so far.
func (w *answer) Flush() {
	w.start(false)
	w.hurry()
	if w.encoder != nil {
		w.encoder.Flush()
	}
	w.ResponseWriter.Flush()
}

// Hijack hands out the connection, for a socket.
func (w *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.started, w.hijacked = true, true
	return w.ResponseWriter.Hijack()
}

// Unwrap leads http.ResponseController to the connection.
func (w *answer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
