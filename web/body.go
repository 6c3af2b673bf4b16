package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	// patience is how long a client may take to send anything at all of a body, or to read a piece of an answer.
	patience = 30 * time.Second
	// bodyRate is what it must send from then on, in bytes per second: who sends a byte now and then is let go.
	bodyRate = 8 << 10
)

// limit bounds the size of a request's body and the time that its client takes to send it.
func (s *Server) limit(c *gin.Context) {
	if c.Request.Body == nil || c.Request.Body == http.NoBody {
		return
	}
	b := &body{src: c.Request.Body, left: s.MaxUpload, patience: s.patience, control: http.NewResponseController(c.Writer)}
	if c.Request.ContentLength > s.MaxUpload {
		b.status = http.StatusRequestEntityTooLarge
	}
	c.Request.Body = b
	if w, ok := c.Writer.(*answer); ok {
		w.body = b
	}
	if b.status != 0 {
		answerEmpty(c, b.status)
	}
}

// body is a request's body with its bounds. The answer of a request whose body broke them is about that, whatever the
// handler made of the error that it read.
type body struct {
	src      io.ReadCloser
	left     int64 // bytes until it is too long
	read     int64
	patience time.Duration
	waited   time.Duration // in reads
	control  *http.ResponseController
	status   int // of the bound that was broken, or 0
}

var errBody = errors.New("request body is too long or too slow")

// Read reads with a deadline of its own, so that the time a handler takes between reads does not count, nor what it does
// after the last one.
func (b *body) Read(p []byte) (int, error) {
	if b.status != 0 {
		return 0, errBody
	}
	start, left := time.Now(), b.patience+time.Duration(b.read)*time.Second/bodyRate-b.waited
	b.control.SetReadDeadline(start.Add(left)) // may be unsupported: then there is none
	n, err := b.src.Read(p)
	b.control.SetReadDeadline(time.Time{})
	b.waited += time.Since(start)
	b.read += int64(n)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		b.status = http.StatusRequestEntityTooLarge
		return 0, errBody
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.status = http.StatusRequestTimeout
		return 0, errBody
	}
	return n, err
}

// Close lets go of the connection's body.
func (b *body) Close() error { return b.src.Close() }

// complaint is the text for a bound that was broken.
func (b *body) complaint(limit int64) string {
	if b.status == http.StatusRequestEntityTooLarge {
		return fmt.Sprintf("Maximum request body size %d exceeded.", limit)
	}
	return "408: Request Timeout"
}
