package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
)

// trouble is what ComfyUI says about an error that it did not expect.
const trouble = "500 Internal Server Error\n\nServer got itself in trouble"

// answerEmpty ends a request with a status and no body.
func answerEmpty(c *gin.Context, status int) {
	c.Status(status)
	c.Writer.WriteHeaderNow()
	c.Abort()
}

// answerText ends a request with a line of plain text.
func answerText(c *gin.Context, status int, text string) {
	answerBytes(c, status, "text/plain; charset=utf-8", []byte(text))
}

// answerTrouble ends a request with status 500. The client learns nothing; the log gets the error.
func (s *Server) answerTrouble(c *gin.Context, err error) {
	s.Log.Error("request failed", "method", c.Request.Method, "path", c.Request.URL.Path, "request", requestID(c), "err", err)
	answerText(c, http.StatusInternalServerError, trouble)
}

// answerJSON ends a request with a value as JSON: ASCII only, as Python writes it.
func (s *Server) answerJSON(c *gin.Context, status int, v any) {
	data, err := asciiJSON(v)
	if err != nil {
		s.answerTrouble(c, fmt.Errorf("encode answer: %w", err))
		return
	}
	answerBytes(c, status, "application/json; charset=utf-8", data)
}

func answerBytes(c *gin.Context, status int, contentType string, data []byte) {
	c.Header("Content-Type", contentType)
	c.Status(status)
	c.Writer.Write(data) // a client that is gone needs no answer
	c.Abort()
}

// asciiJSON encodes a value with every character outside ASCII escaped and nothing else.
func asciiJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return escapeASCII(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), nil
}

// escapeASCII replaces the characters of a JSON text that are not ASCII by their escapes. They stand in strings only.
func escapeASCII(text []byte) []byte {
	if !bytes.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return text
	}
	var out strings.Builder
	for _, r := range string(text) {
		switch {
		case r < utf8.RuneSelf:
			out.WriteByte(byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return []byte(out.String())
}
